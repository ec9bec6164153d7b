"""One run of a test: what its stubs say, and what is remembered of how it went."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows.engine.decision import AttemptRecord, Awaited, Decision
from workflows.engine.events import StepError
from workflows.engine.plan import ROOT
from workflows.engine.simulation import Simulation
from workflows.engine.stubs import Call, Result
from workflows.testing.stubs import Stubs


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
    """The stubs of one run of a test, and what is remembered of it."""

    stubs: Stubs
    lines: list[Line] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    given: dict[tuple[str, int], Call] = field(default_factory=dict)
    tries: dict[str, list[Try]] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """What people were not allowed to do, and why."""

    def perform(self, run: Simulation, call: Call) -> Result:
        """Do what the stub of a task says."""
        self._keep(call)
        return self.stubs.result(run.plan.node(call.path), call)

    def answer(self, run: Simulation, awaited: Awaited) -> Result | None:
        """Return what a stub says of a step that waits."""
        uses = awaited.name or awaited.kind.value
        call = Call(awaited.path, awaited.attempt, uses, awaited.request)
        self._keep(call)
        return self.stubs.answer(run.plan.node(awaited.path), call)

    def assume(self, run: Simulation, awaited: Awaited) -> Result:
        """Have what nobody says anything of come at once, or in its usual time."""
        call = self.given[awaited.path, awaited.attempt]
        return self.stubs.answer(run.plan.node(awaited.path), call, assumed=True) or Result()

    def remember(self, decision: Decision, now: datetime) -> list[Line]:
        """Remember what was decided; return the lines that this adds to the story."""
        lines = list(_lines(decision, now))
        self.lines += lines
        for record in decision.attempts:
            self._note(record, now)
        self.incidents += [incident.path for incident in decision.incidents]
        return lines

    def _keep(self, call: Call) -> None:
        self.calls.append(call)
        self.given[call.path, call.attempt] = call

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
