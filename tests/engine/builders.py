"""Build plans from a line or a document, and play events on them in memory.

A `Play` is stricter than any store: a slice holds what was asked for and nothing
more, a step is born once, every move must be in the tables, and the counts on a
pending row must be what a recount gives.
"""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from workflows.engine.advance import advance, requirement
from workflows.engine.compile import compile_spec
from workflows.engine.decision import AttemptRecord, Decision, LateResult, OpenIncident
from workflows.engine.events import (
    Claimed,
    Drained,
    Event,
    Failed,
    LeaseExpired,
    Loss,
    Repeat,
    Started,
    StepError,
    Succeeded,
)
from workflows.engine.joins import Tally
from workflows.engine.plan import LOOPS, NO_NODE, Plan
from workflows.engine.simulate import EPOCH
from workflows.engine.simulation import Simulation, StepRow
from workflows.engine.slice import Requirement, Slice, StepView
from workflows.engine.states import (
    RUN_MOVES,
    STEP_MOVES,
    UNDOING,
    Reason,
    RunReason,
    RunState,
    StepState,
)
from workflows.language.spec import Spec
from workflows.language.words import ErrorClass

LEASE = timedelta(seconds=30)
MOST_WAVES = 1000


def task(name: str, **keys: Any) -> dict[str, Any]:
    """Return a step that a worker carries out."""
    return {"id": name, "uses": "log", **keys}


def undoable(name: str, **keys: Any) -> dict[str, Any]:
    """Return a step that a worker carries out, and that another task undoes."""
    return task(name, **{"compensate": {"uses": "log"}, **keys})


def saga(*steps: Mapping[str, Any], **document: Any) -> Plan:
    """Compile the steps of a run that is undone when one of them fails."""
    return plan_from(*steps, **{"on_failure": "compensate", **document})


def plan_from(*steps: Mapping[str, Any], **document: Any) -> Plan:
    """Compile the steps, with the keys of the document around them."""
    spec = {"workflow": "test", "steps": list(steps), **document}
    return compile_spec(Spec.model_validate(spec))


def plan_of(*lines: str, document: Mapping[str, Any] | None = None, **keys: Any) -> Plan:
    """Compile tasks from lines such as `left > join`; `join={...}` gives a step more keys."""
    needs: dict[str, list[str]] = {}
    for line in lines:
        names = [name.strip() for name in line.split(">")]
        for position, name in enumerate(names):
            before = needs.setdefault(name, [])
            before += names[position - 1 : position] if position else []
    steps = [task(name, needs=before, **keys.pop(name, {})) for name, before in needs.items()]
    return plan_from(*steps, **(document or {}), **keys)


def error_of(
    code: str = "test.broken",
    error_class: str = "permanent",
    retry_after: float | None = None,
) -> StepError:
    """Return an error."""
    return StepError(ErrorClass(error_class), code, f"{code} happened", retry_after)


def done(path: str, output: Any = None, attempt: int = 1) -> Succeeded:
    """Say that an attempt ended well."""
    return Succeeded(path, attempt, output)


def broken(
    path: str, code: str = "test.broken", error_class: str = "permanent", attempt: int = 1
) -> Failed:
    """Say that an attempt ended badly, at first sight for good."""
    return Failed(path, attempt, error_of(code, error_class))


def lost(
    path: str,
    attempt: int = 1,
    *,
    repeat: Repeat = Repeat.FREELY,
    loss: Loss = Loss.SILENT,
) -> LeaseExpired:
    """Say that the worker of an attempt is gone."""
    return LeaseExpired(path, attempt, repeat, loss)


def interrupted(path: str, attempt: int = 1, *, repeat: Repeat) -> Failed:
    """Say that an attempt took too long, and was interrupted in the middle of it."""
    return Failed(path, attempt, error_of("task.timeout", "timeout"), repeat)


def differences(one: StepView, other: StepView) -> set[str]:
    """Return the names of the fields in which two rows differ."""
    names = set(StepView._fields)
    return {name for name in names if getattr(one, name) != getattr(other, name)}


@dataclass(slots=True)
class Play(Simulation):
    """A run in memory that is told event by event what happens, and checks every write."""

    now: datetime = EPOCH
    chance: Random = field(default_factory=lambda: Random(0), compare=False)
    incidents: list[OpenIncident] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    late: list[LateResult] = field(default_factory=list)
    aside: dict[str, StepRow] = field(default_factory=dict)
    """What the versions that the run went over to have no more."""
    begun: dict[str, set[str]] = field(default_factory=dict)
    """What is called how now that has begun under a name, as far as the run had gone over."""
    migrations: int = 0

    def hear(self, *events: Event) -> "Play":
        """Decide the events one after the other, claiming what they take for claimed."""
        for event in events:
            row = self.rows.get(getattr(event, "path", ""))
            if isinstance(event, Succeeded | Failed | LeaseExpired) and row is not None:
                self.claim(event.path, event.attempt)
            self.decide(event)
        return self

    def claim(self, path: str, attempt: int = 1) -> "Play":
        """Have a worker take the attempt, if it is queued."""
        self.decide(Claimed(path, attempt, "worker", self.now + LEASE))
        return self

    def after(self, seconds: float) -> "Play":
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        return self

    def decide(self, *events: Event) -> None:
        """Advance until nothing is left over, each wave on a slice of its own."""
        waiting = list(events)
        for _ in range(MOST_WAVES):
            if not waiting:
                break
            wanted = Requirement()
            for event in waiting:
                wanted |= requirement(self.plan, event)
            decision = advance(
                self.plan, self.load(wanted), *waiting, now=self.now, chance=self.chance
            )
            self.write(decision, now=self.now)
            follows = (*decision.follow_ups, *map(Drained, decision.left))
            waiting = [one for one in follows if not self.left_to_others(one)]
        assert not waiting, f"never decided: {waiting}"
        self._check_tallies()
        self._check_undos()

    def left_to_others(self, event: Event) -> bool:  # noqa: ARG002 - for those who share the work
        """Say whether somebody else will tell the run of it."""
        return False

    def load(self, wanted: Requirement) -> Slice:
        held = Simulation.load(self, wanted)
        held.roots = {name: held.roots[name] for name in wanted.roots & held.roots.keys()}
        return held

    def write(self, decision: Decision, *, now: datetime) -> None:
        for view in decision.born:
            assert view.path not in self.rows, f"{view.path} is born twice"
        views = {path: row.view for path, row in self.rows.items()}
        views |= {view.path: view for view in decision.born}
        for move in decision.moves:
            path, after = move.after.path, move.after.state
            assert move.before is views[path].state, f"{path} moves from where it is not"
            assert after is move.before or after in STEP_MOVES[move.before], move
            assert differences(views[path], move.after) <= move.changed, move
            views[path] = move.after
        for run_move in decision.run_moves:
            before, state = run_move.before, run_move.after.state
            assert state is before or state in RUN_MOVES[before], run_move
        for record in decision.attempts:
            before = [one for one in self.attempts if one.step.path == record.step.path]
            assert record.step.attempt == len(before) + 1, f"a gap before {record}"
            self.attempts.append(record)
        Simulation.write(self, decision, now=now)
        self.incidents += decision.incidents
        self.late += decision.late

    def _check_tallies(self) -> None:
        for path, row in self.rows.items():
            if row.view.state is StepState.PENDING:
                tally = Tally()
                for need in self.plan.nodes[row.view.node].needs:
                    tally = self.rows[self.plan.path(need, path)].view.counted(tally)
                assert row.view.tally == tally, f"{path} was told {row.view.tally}, not {tally}"
            elif self.plan.nodes[row.view.node].kind in LOOPS and row.view.born:
                items = [one.view for one in self.rows.values() if one.view.scope == path]
                items = [one for one in items if self.plan.nodes[one.node].is_item]
                assert row.view.born == len(items), f"{path} has not counted what has begun"
                tally = Tally()
                for item in items:
                    ended = item.final or item.state in UNDOING
                    tally = item.ended_in(tally) if ended else tally
                assert row.view.tally == tally, f"{path} counted {row.view.tally}, not {tally}"

    def _check_undos(self) -> None:
        """See that one step at most is being undone, and only in a run that is undone."""
        under_way = [path for path in self.alive - self.are(StepState.PENDING) if self.undoes(path)]
        assert len(under_way) <= 1, under_way
        undone = (RunState.COMPENSATING, RunState.CANCELLING)
        assert not under_way or self.run.state in undone, (under_way, self.run.state)

    def undoes(self, path: str) -> bool:
        """Say whether a step undoes another."""
        return self.plan.nodes[self.rows[path].view.node].undoes != NO_NODE

    def step(self, path: str) -> StepView:
        """Return the row of a step."""
        return self.rows[path].view

    def reason(self, path: str) -> Reason | None:
        """Return why a step is where it is."""
        return self.rows[path].view.reason

    def are(self, state: StepState) -> set[str]:
        """Return the steps in a state."""
        return {path for path, row in self.rows.items() if row.view.state is state}

    @property
    def queued(self) -> set[str]:
        return self.are(StepState.QUEUED)

    @property
    def accused(self) -> list[str]:
        """The steps that incidents were opened for."""
        return [incident.path for incident in self.incidents]

    @property
    def alive(self) -> set[str]:
        return {path for path, row in self.rows.items() if row.view.alive}

    @property
    def is_stuck(self) -> bool:
        """Whether the run says that it goes on while no worker, timer or person could move it."""
        if self.run.reason is RunReason.PARKED and self._needs_person():
            return False
        views = [row.view for row in self.rows.values()]
        moved = any(
            view.state in (StepState.QUEUED, StepState.RUNNING, StepState.RETRYING)
            for view in views
        )
        going_on = (RunState.RUNNING, RunState.CANCELLING, RunState.COMPENSATING)
        return self.run.state in going_on and not moved


def play(
    plan: Plan,
    *events: Event,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
    environment: Mapping[str, Any] | None = None,
) -> Play:
    """Start a run of the plan and let it hear the events."""
    run = Play(plan, dict(input or {}), EPOCH, environment=dict(environment or {}))
    return run.hear(Started(), *events)
