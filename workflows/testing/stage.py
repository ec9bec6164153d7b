"""The world of a run in a test: tasks do what their stubs say, and what is scripted happens."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from workflows.engine.decision import AttemptRecord, Awaited, Decision
from workflows.engine.events import Answered, Event, Repeat, StepError
from workflows.engine.plan import ROOT
from workflows.engine.simulate import Call, Clock, Result, Simulation, at_once
from workflows.engine.states import Reason, StepState
from workflows.testing.acts import Act, Command
from workflows.testing.errors import EndlessRunError, UnknownNameError
from workflows.testing.names import is_named, node_named, paths_named
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
    assumes: bool = False
    """Whether what is waited for comes, at once, where no stub says anything of it."""
    lines: list[Line] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    given: dict[tuple[str, int], Call] = field(default_factory=dict)
    tries: dict[str, list[Try]] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)
    to_come: list[Act] = field(default_factory=list)
    """What happens once it is called for."""
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
        clock: Clock,
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
        lines = list(_lines(decision, now))
        self.lines += lines
        for line in lines:
            if line.after == StepState.FAILED:
                self._failed(clock, run, line.path, now)
        for record in decision.attempts:
            self._note(record, now)
        self.incidents += [incident.path for incident in decision.incidents]
        for awaited in decision.waits:
            if awaited.kind is not Reason.TIME:
                self._ask(clock, run, awaited, now)

    def _ask(self, clock: Clock, run: Simulation, awaited: Awaited, now: datetime) -> None:
        """Have come what a stub says of a step that waits."""
        node = run.plan.node(awaited.path)
        uses = awaited.name or awaited.kind.value
        call = Call(awaited.path, awaited.attempt, uses, awaited.request)
        self.calls.append(call)
        self.given[call.path, call.attempt] = call
        result = self.stubs.answer(node, call)
        if result is None and self.assumes:
            result = at_once(awaited)
        if result is not None:
            answer = Answered(
                awaited.path, awaited.kind, result.output, result.error, awaited.attempt
            )
            clock.tell(run, answer, now + timedelta(seconds=result.seconds))

    def script(self, clock: Clock, run: Simulation, acts: Iterable[Act]) -> None:
        """Have happen what the test says, when it says so."""
        for act in acts:
            if act.step != ROOT and node_named(run.plan, act.step) is None:
                known = [node.id for node in run.plan.nodes if node.id]
                raise UnknownNameError(f"{act.said}({act.step!r})", act.step, known, "steps")
            if act.when.is_relative:
                self.to_come.append(act)
            else:
                moment = run.started_at + timedelta(seconds=act.when.seconds)
                clock.later(run, moment, partial(self._told, run, act, act.step))

    def _told(self, run: Simulation, act: Command, step: str, now: datetime) -> Iterable[Event]:
        self.lines.append(Line(now, step, "", "", act=act.said))
        paths = [ROOT] if step == ROOT else paths_named(run, step)
        return tuple(act.event(path) for path in paths)

    def _failed(self, clock: Clock, run: Simulation, path: str, now: datetime) -> None:
        """Have done about a failure what is to be done next about one of that step."""
        for act in self.to_come:
            if path == act.step or (path and act.step and is_named(run, path, act.step)):
                self.to_come.remove(act)
                moment = now + timedelta(seconds=act.when.seconds)
                clock.later(run, moment, partial(self._told, run, act, path))
                return

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


def _lines(decision: Decision, now: datetime) -> Iterator[Line]:
    for move in decision.moves:
        view = move.after
        if move.before is not view.state:
            reason = view.reason.value if view.reason else ""
            before, after = move.before.value, view.state.value
            yield Line(now, view.path, before, after, reason, view.attempt, view.error)
    for one in decision.run_moves:
        if one.before is not one.after.state:
            yield Line(now, ROOT, one.before.value, one.after.state.value, error=one.error)
