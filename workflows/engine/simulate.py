"""Run a plan in memory on a virtual clock: the same engine, no database, no worker.

Time passes only from one due moment to the next, so a week takes no time. What a
task would do is told by a `Stub`; what it is handed is resolved as a worker would.
This is the dry run of authors, and the model that the real store is tested against.
"""

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any

from workflows.engine.advance import advance, requirement
from workflows.engine.decision import UNSET, Decision
from workflows.engine.draft import names_of
from workflows.engine.events import (
    Claimed,
    Event,
    Failed,
    LeaseExpired,
    Repeat,
    RetryDue,
    Started,
    StepError,
    Succeeded,
    TimedOut,
    repeat_of,
)
from workflows.engine.plan import ROOT, Plan
from workflows.engine.slice import Requirement, RunView, ScopeTally, Slice, StepView, reading
from workflows.engine.states import ASKING, Reason, RunState, StepState
from workflows.language import durations, expressions
from workflows.language.expressions import ExpressionError
from workflows.language.words import ErrorClass

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""When a simulated run begins, unless it is told otherwise."""

FOREVER = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Call:
    """What a task is asked: the step, the attempt, the task type and the resolved arguments.

    `probe_first`: nobody knows whether the attempt before took effect. A stub that goes on to
    do the work says that it did not; one that gives an output may as well say that it did.
    `probe_only`: no try is left, so an output says that it did, and an error that it did not.
    """

    path: str
    attempt: int
    uses: str
    arguments: Mapping[str, Any]
    probe_first: bool = False
    probe_only: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What a task would do: `output` or `error`, after `seconds`.

    An error of the class `worker_lost` is the silence of a worker; one of the class `timeout`
    or `uncertain` leaves open whether the task took effect.
    """

    output: Any = None
    error: StepError | None = None
    seconds: float = 0.0


Stub = Callable[[Call], Result]
RepeatOf = Callable[[str], Repeat]
"""Tells of a task type whether it may be repeated when nobody knows whether it took effect."""


def freely(uses: str) -> Repeat:  # noqa: ARG001 - the shape of every RepeatOf
    """Say that every task type is idempotent."""
    return Repeat.FREELY


def built_in(call: Call) -> Result:
    """Do what the task types for tests and drills do; any other task yields nothing, at once."""
    match call.uses:
        case "fail":
            return _fail(call)
        case "sleep":
            return Result(output=dict(call.arguments), seconds=_seconds(call.arguments))
        case "log":
            return Result(output=dict(call.arguments))
        case _:
            return Result()


def _fail(call: Call) -> Result:
    times = call.arguments.get("times")
    if times is not None and call.attempt > times:
        return Result()
    return Result(
        error=StepError(
            ErrorClass(call.arguments.get("class", ErrorClass.PERMANENT)),
            call.arguments.get("code", "drill.failed"),
            call.arguments.get("message", "failed as asked"),
        )
    )


def _seconds(arguments: Mapping[str, Any]) -> float:
    value = next((arguments[key] for key in ("duration", "seconds", "for") if key in arguments), 0)
    try:
        return durations.parse(value)
    except durations.DurationError:
        return 0.0


@dataclass(slots=True)
class StepRow:
    """All that a simulated run knows of a step."""

    view: StepView
    output: Any = None
    arguments: Mapping[str, Any] | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """A line of the journal; the run's own have an empty path."""

    at: datetime
    path: str
    before: str
    after: str


@dataclass(slots=True)
class Simulation:
    """A run in memory: its rows and its journal."""

    plan: Plan
    input: Mapping[str, Any]
    started_at: datetime
    run: RunView = field(default_factory=lambda: RunView(id="simulation"))
    output: Any = None
    error: StepError | None = None
    finished_at: datetime | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    rows: dict[str, StepRow] = field(default_factory=dict)
    journal: list[Transition] = field(default_factory=list)

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self.run.state

    def states(self) -> dict[str, StepState]:
        """Return the state of every step by path."""
        return {path: row.view.state for path, row in self.rows.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the run with the keys that a stored run has in the API."""
        return {
            "id": self.run.id,
            "workflow": self.plan.workflow,
            "version": None,
            "environment": self.plan.environment,
            "state": self.state.value,
            "input": dict(self.input),
            "output": self.output,
            "error": self.error.as_dict() if self.error else None,
            "created_at": _iso(self.started_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "steps": [_step_dict(row) for row in self._ordered()],
        }

    def _ordered(self) -> list[StepRow]:
        return sorted(self.rows.values(), key=lambda row: row.view.node)

    def load(self, wanted: Requirement) -> Slice:
        """Return the slice that meets the requirement."""
        paths = self.rows.keys() if wanted.everything else set(wanted.paths)
        for top in wanted.subtrees:
            inside = (p for p in self.rows if top in {ROOT, p} or p.startswith(f"{top}."))
            paths = {*paths, *inside}
        return Slice(
            run=self.run,
            steps={path: self.rows[path].view for path in paths if path in self.rows},
            roots={
                "input": self.input,
                "vars": self.variables,
                "env": self.environment,
                "run": self._run_names(),
            },
            records={path: self._record(path) for path in wanted.records},
            tallies={scope: self._tally(scope) for scope in wanted.scopes},
            held=wanted,
        )

    def _run_names(self) -> dict[str, Any]:
        return {
            "id": self.run.id,
            "workflow": self.plan.workflow,
            "version": 0,
            "environment": self.plan.environment,
            "started_at": _iso(self.started_at),
        }

    def _record(self, path: str) -> Mapping[str, Any] | None:
        row = self.rows.get(path)
        if row is None:
            return None
        error = row.view.error
        return {
            "state": row.view.state.value,
            "output": row.output,
            "error": error.as_dict() if error else None,
            "attempt": row.view.attempt,
        }

    def _tally(self, scope: str) -> ScopeTally:
        inside = [row.view for row in self._ordered() if row.view.scope == scope]
        failed = [view for view in inside if view.failed]
        first = next((view for view in failed if view.error is not None), None)
        return ScopeTally(
            alive=sum(view.alive for view in inside),
            failed=len(failed),
            first_error=first.error if first else None,
            first_failed=first.path if first else "",
        )

    def write(self, decision: Decision, *, now: datetime) -> None:
        """Store what was decided."""
        for view in decision.born:
            self.rows[view.path] = StepRow(view)
        for move in decision.moves:
            row = self.rows[move.after.path]
            row.view = move.after
            if move.output is not UNSET:
                row.output = move.output
            if move.arguments is not UNSET:
                row.arguments = move.arguments
            if move.before is not move.after.state:
                self._stamp(row, now)
                self.journal.append(
                    Transition(now, move.after.path, move.before.value, move.after.state.value)
                )
        for run_move in decision.run_moves:
            self.run = run_move.after
            if run_move.output is not UNSET:
                self.output = run_move.output
            self.error = run_move.error
            if run_move.before is not run_move.after.state:
                self.journal.append(
                    Transition(now, ROOT, run_move.before.value, run_move.after.state.value)
                )
        self.variables.update(decision.assigned)

    def _stamp(self, row: StepRow, now: datetime) -> None:
        match row.view.state:
            case StepState.PENDING:
                row.queued_at = row.started_at = row.finished_at = None
            case StepState.QUEUED:
                row.queued_at, row.started_at, row.finished_at = now, None, None
            case StepState.RUNNING:
                row.started_at = now
            case _ if row.view.final:
                row.finished_at = now


def simulate(  # noqa: PLR0913 - what a dry run can be told, each by its name
    plan: Plan,
    *,
    stub: Stub = built_in,
    repeat: RepeatOf = freely,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
    environment: Mapping[str, Any] | None = None,
    start: datetime = EPOCH,
    seed: int = 0,
    until: timedelta = FOREVER,
) -> Simulation:
    """Run `plan` to its end, or until nothing can happen any more, and return where it stands.

    `seed` fixes the jitter. A step is taken by a worker as soon as it is queued.
    """
    run = Simulation(plan, dict(input or {}), start, environment=dict(environment or {}))
    return _Clock(run, stub, repeat, Random(seed)).play(until)  # noqa: S311 - chance that must repeat


class _Clock:
    """Plays due events in the order of their time."""

    def __init__(self, run: Simulation, stub: Stub, repeat: RepeatOf, chance: Random) -> None:
        self.run = run
        self.stub = stub
        self.repeat = repeat
        self.chance = chance
        self.order = count()
        self.due: list[tuple[datetime, int, Event]] = []

    def play(self, until: timedelta) -> Simulation:
        run = self.run
        self._at(run.started_at, Started())
        if run.plan.timeout is not None:
            self._at(run.started_at + timedelta(seconds=run.plan.timeout), TimedOut(ROOT))
        while self.due and self.due[0][0] <= run.started_at + until:
            now, _, event = heapq.heappop(self.due)
            self._decide(event, now)
            if run.finished_at is None and run.state in (
                RunState.COMPLETED,
                RunState.FAILED,
                RunState.CANCELLED,
            ):
                run.finished_at = now
        return run

    def _at(self, moment: datetime, event: Event) -> None:
        heapq.heappush(self.due, (moment, next(self.order), event))

    def _decide(self, event: Event, now: datetime) -> None:
        events = [event]
        while events:
            wanted = Requirement()
            for one in events:
                wanted |= requirement(self.run.plan, one)
            held = self.run.load(wanted)
            decision = advance(self.run.plan, held, *events, now=now, chance=self.chance)
            self.run.write(decision, now=now)
            for move in decision.moves:
                self._follow(move.after, now)
            events = decision.follow_ups

    def _follow(self, view: StepView, now: datetime) -> None:
        """Do what a worker or the timer would do about the row as it now stands."""
        if self.run.rows[view.path].view is not view:
            return
        match view.state:
            case StepState.QUEUED:
                self._at(now, Claimed(view.path, view.attempt, "simulation", now + FOREVER))
            case StepState.RUNNING if view.cancel_requested:
                error = StepError(ErrorClass.CANCELLED, "step.cancelled", "cancelled while running")
                self._at(now, Failed(view.path, view.attempt, error))
            case StepState.RUNNING if view.worker:
                self._perform(view, now)
            case StepState.RETRYING if view.wake_at is not None:
                self._at(view.wake_at, RetryDue(view.path, view.attempt))
            case StepState.WAITING if view.wake_at is not None:
                self._at(view.wake_at, TimedOut(view.path))

    def _perform(self, view: StepView, now: datetime) -> None:
        result = self._result(view)
        node = self.run.plan.nodes[view.node]
        if node.timeout is not None and result.seconds > node.timeout:
            message = f"took longer than its {node.timeout:g} seconds"
            late = StepError(ErrorClass.TIMEOUT, "task.timeout", message)
            result = Result(error=late, seconds=node.timeout)
        after = now + timedelta(seconds=result.seconds)
        self._at(after, self._outcome(view, result))

    def _outcome(self, view: StepView, result: Result) -> Event:
        if result.error is None:
            return Succeeded(view.path, view.attempt, result.output)
        node = self.run.plan.nodes[view.node]
        repeat = repeat_of(self.repeat(node.uses), node.idempotent)
        match result.error.error_class:
            case ErrorClass.WORKER_LOST:
                return LeaseExpired(view.path, view.attempt, repeat)
            case ErrorClass.TIMEOUT | ErrorClass.UNCERTAIN:
                return Failed(view.path, view.attempt, result.error, repeat)
        return Failed(view.path, view.attempt, result.error)

    def _result(self, view: StepView) -> Result:
        node = self.run.plan.nodes[view.node]
        held = self.run.load(reading(self.run.plan, node.call, view.path))
        corrected = self.run.rows[view.path].arguments
        template = node.arguments if corrected is None else corrected
        try:
            arguments = expressions.render(
                dict(template), names_of(self.run.plan, held, node, view.path, node.call)
            )
        except ExpressionError as error:
            return Result(error=StepError(ErrorClass.PERMANENT, "expression.error", str(error)))
        asks, only = view.reason in ASKING, view.reason is Reason.LAST_PROBE
        return self.stub(Call(view.path, view.attempt, node.uses, arguments, asks, only))


def _step_dict(row: StepRow) -> dict[str, Any]:
    view = row.view
    return {
        "path": view.path,
        "state": view.state.value,
        "reason": view.reason.value if view.reason else None,
        "attempt": view.attempt,
        "output": row.output,
        "error": view.error.as_dict() if view.error else None,
        "queued_at": _iso(row.queued_at),
        "started_at": _iso(row.started_at),
        "finished_at": _iso(row.finished_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
