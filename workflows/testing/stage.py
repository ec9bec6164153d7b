"""The world of a run in a test: tasks do what their stubs say, and what is scripted happens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from workflows.engine.decision import AttemptRecord, Decision
from workflows.engine.events import Event, Repeat, StepError
from workflows.engine.plan import ROOT
from workflows.engine.simulate import Call, Clock, Result, Simulation
from workflows.engine.slice import StepView
from workflows.engine.states import RunState
from workflows.testing.acts import Act, Command
from workflows.testing.errors import EndlessRunError, UnknownNameError
from workflows.testing.names import node_named
from workflows.testing.stubs import Stubs

MOST_DECISIONS = 200_000
"""So much may happen in a test; beyond it a loop is taken to have no end."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the story: what a step or the run came to; the run's own have an empty path."""

    at: datetime
    path: str
    before: str
    after: str
    reason: str = ""
    attempt: int = 0
    error: StepError | None = None
    act: str = ""
    """What somebody did, when that is what the line is about."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a step: what it was given, when, and how it ended."""

    number: int
    end: str
    error: StepError | None
    arguments: Mapping[str, Any] | None
    started_at: datetime | None
    finished_at: datetime


@dataclass(slots=True)
class Stage:
    """What the runs of one test share, and what is remembered of the one that it is about."""

    stubs: Stubs
    repeats: Mapping[str, Repeat]
    catalog: Any = None
    lines: list[Line] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    given: dict[tuple[str, int], Call] = field(default_factory=dict)
    tries: dict[str, list[Try]] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)
    decisions: int = 0

    def perform(self, run: Simulation, call: Call) -> Result:
        """Do what the stub of the step says."""
        self.calls.append(call)
        self.given[call.path, call.attempt] = call
        return self.stubs.result(run.plan.node(call.path), call)

    def repeat(self, uses: str) -> Repeat:
        """Say whether a task type may be repeated in doubt: as the test says, or the catalog."""
        if uses in self.repeats:
            return self.repeats[uses]
        ask = getattr(self.catalog, "repeat", None)
        known = self.catalog is not None and uses in self.catalog.names()
        return ask(uses) if ask is not None and known else Repeat.FREELY

    def hear(
        self,
        clock: Clock,  # noqa: ARG002 - the shape of every World
        run: Simulation,
        decision: Decision,
        now: datetime,
    ) -> None:
        """Remember what was decided."""
        self.decisions += 1
        if self.decisions > MOST_DECISIONS:
            raise EndlessRunError(
                f"{run.plan.workflow} does not end: {MOST_DECISIONS} things have happened in it. "
                "Bound its loops, or hand run() until=..."
            )
        for move in decision.moves:
            if move.before is not move.after.state:
                self.lines.append(_line(now, move.before, move.after))
        for one in decision.run_moves:
            if one.before is not one.after.state:
                before, after = one.before.value, one.after.state.value
                self.lines.append(Line(now, ROOT, before, after, error=one.error))
        for record in decision.attempts:
            self._note(record, now)
        self.incidents += [incident.path for incident in decision.incidents]

    def script(self, clock: Clock, run: Simulation, acts: Iterable[Act]) -> None:
        """Have happen what the test says, when it says so."""
        for act in acts:
            moment = run.started_at + timedelta(seconds=act.seconds)
            if act.step != ROOT and node_named(run.plan, act.step) is None:
                known = [node.id for node in run.plan.nodes if node.id]
                raise UnknownNameError(f"{act.said}({act.step!r})", act.step, known, "steps")
            clock.later(run, moment, partial(self._told, run, act))

    def _told(self, run: Simulation, act: Command, now: datetime) -> Iterable[Event]:
        self.lines.append(Line(now, act.step, "", "", act=act.said))
        if act.step == ROOT:
            return (act.event(ROOT),)
        return tuple(act.event(path) for path in paths_named(run, act.step))

    def _note(self, record: AttemptRecord, now: datetime) -> None:
        view = record.step
        call = self.given.get((view.path, view.attempt))
        self.tries.setdefault(view.path, []).append(
            Try(
                view.attempt,
                record.end.value,
                record.error,
                call.arguments if call else None,
                view.started_at,
                now,
            )
        )


def paths_named(run: Simulation, name: str) -> list[str]:
    """Return the rows that a path, a path of all items or an id names."""
    if name in run.rows:
        return [name]
    node = node_named(run.plan, name)
    return [path for path, row in run.rows.items() if node and row.view.node == node.index]


def is_over(run: Simulation) -> bool:
    """Say whether the run has ended."""
    return run.state in {
        RunState.COMPLETED,
        RunState.FAILED,
        RunState.CANCELLED,
        RunState.COMPENSATED,
    }


def _line(now: datetime, before: Any, after: StepView) -> Line:
    reason = after.reason.value if after.reason else ""
    return Line(
        now, after.path, before.value, after.state.value, reason, after.attempt, after.error
    )
