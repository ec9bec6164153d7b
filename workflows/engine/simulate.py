"""Run a plan in memory on a virtual clock: the same engine, no database, no worker.

Time passes only from one due moment to the next, so a week takes no time. What a
task would do is told by a `Stub`; what it is handed is resolved as a worker would.
This is the dry run of authors, and the model that the real store is tested against.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from typing import Any, Protocol

from workflows.engine import approving
from workflows.engine.advance import advance, requirement
from workflows.engine.compensating import BELOW
from workflows.engine.decision import UNSET, Awaited, Decision
from workflows.engine.draft import names_of
from workflows.engine.events import (
    Answered,
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
from workflows.engine.plan import ROOT, Plan, is_inside, latest
from workflows.engine.slice import (
    Requirement,
    RunView,
    ScopeTally,
    Slice,
    StepView,
    Undoing,
    reading,
)
from workflows.engine.states import (
    ASKING,
    FINISHED_RUNS,
    TO_BE_UNDONE,
    UNDONE,
    Reason,
    RunState,
    StepState,
)
from workflows.language import durations, expressions
from workflows.language.expressions import ExpressionError
from workflows.language.words import ErrorClass, OnFailure, StepKind

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

Outside = Callable[[Awaited], Result | None]
"""What comes from outside for a step that waits, and after how many seconds; None: nothing."""


def at_once(awaited: Awaited) -> Result:  # noqa: ARG001 - the shape of every Outside
    """Have whatever is waited for come at once, and yield nothing; an approval yields its yes."""
    return Result()


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
    item: Any = None
    items: Any = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    completion: int = 0
    """The place of its completion among those of all steps that can be undone."""


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
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What expressions read of the run instead of what is so in a simulation, such as its id."""
    rows: dict[str, StepRow] = field(default_factory=dict)
    waits: dict[tuple[str, int], Awaited] = field(default_factory=dict)
    """What is waited for from outside, by path and attempt."""
    journal: list[Transition] = field(default_factory=list)
    charged: set[str] = field(default_factory=set)
    """The steps that an incident was opened for."""
    completions: int = 0

    @property
    def undone(self) -> list[str]:
        """The steps that were undone, in the order in which they were."""
        undone = StepState.COMPENSATED
        return [line.path for line in self.journal if line.path and line.after == undone]

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
            "reason": self.run.reason.value if self.run.reason else None,
            "input": dict(self.input),
            "output": self.output,
            "error": self.error.as_dict() if self.error else None,
            "created_at": _iso(self.started_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "late_since": None,
            "parent": None,
            "waits_for": None,
            "forked_from": None,
            "steps": [_step_dict(row) for row in self._ordered()],
        }

    def _ordered(self) -> list[StepRow]:
        return sorted(self.rows.values(), key=lambda row: row.view.node)

    def load(self, wanted: Requirement) -> Slice:
        """Return the slice that meets the requirement."""
        paths = self.rows.keys() if wanted.everything else set(wanted.paths)
        for top in wanted.subtrees:
            inside = (path for path in self.rows if is_inside(path, top))
            paths = {*paths, *inside}
        undoing = self._undoing() if wanted.undoing else None
        if undoing is not None and undoing.next:
            paths = {*paths, undoing.next, undoing.next + BELOW}
        return Slice(
            run=self.run,
            undoing=undoing,
            steps={path: self.rows[path].view for path in paths if path in self.rows},
            roots={
                "input": self.input,
                "vars": self.variables,
                "env": self.environment,
                "run": self._run_names(),
            },
            records={path: self._record(path) for path in wanted.records},
            items={path: self.rows[path].item for path in wanted.items if path in self.rows},
            batches={path: self._batch(path) for path in wanted.batches},
            gathered={path: self._gathered(path) for path in wanted.gathered},
            tallies={scope: self._tally(scope) for scope in wanted.scopes},
            held=wanted,
            link=lambda path, attempt: f"https://callback.invalid/{path}/{attempt}",
        )

    def _undoing(self) -> Undoing:
        undos = [row.view for row in self.rows.values() if row.view.path.endswith(BELOW)]
        live = [view for view in undos if view.alive and self.plan.nodes[view.node].undoes > 0]
        done = [row for row in self.rows.values() if row.completion]
        left = [row for row in done if row.view.state in TO_BE_UNDONE]
        failed = [
            row
            for row in done
            if row.view.state is StepState.COMPENSATION_FAILED
            and row.view.reason is not Reason.DISCARDED
        ]
        return Undoing(
            under_way=any(view.state is not StepState.PENDING for view in live),
            next=_last_completed(left),
            failed=len(failed),
            first_failed=_last_completed(failed),
        )

    def _run_names(self) -> dict[str, Any]:
        return {
            "id": self.run.id,
            "workflow": self.plan.workflow,
            "version": 0,
            "environment": self.plan.environment,
            "started_at": _iso(self.started_at),
            **self.facts,
        }

    def _record(self, path: str) -> Mapping[str, Any] | None:
        if "*" in path:
            wanted = latest(path)
            path = next((one for one in reversed(self.rows) if wanted.fullmatch(one)), path)
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

    def _batch(self, path: str) -> Sequence[Any]:
        """Return the next items of a loop."""
        row = self.rows[path]
        first, node = row.view.born, self.plan.nodes[row.view.node]
        last = min(first + node.max_parallel, row.view.total or 0)
        if isinstance(row.items, list):
            return row.items[first:last]
        if row.items is None:
            return range(first, last)
        return self._outputs(row.items["of"], range(first, last))

    def _gathered(self, path: str) -> Sequence[Any]:
        born = self.rows[path].view.born
        if self.plan.node(path).kind is not StepKind.FOREACH:
            nodes = self.plan.nodes
            rounds = [row for row in self.rows.values() if row.view.scope == path]
            return [row.output for row in rounds if nodes[row.view.node].is_item][born - 1 :]
        return self._outputs(path, range(born))

    def _outputs(self, path: str, numbers: range) -> list[Any]:
        """Return the outputs of some items of a loop."""
        body = self.plan.nodes[self.plan.node(path).children[0]]
        found = (self.rows[self.plan.path(body, f"{path}[{number}]")] for number in numbers)
        return [row.output if row.view.state is StepState.COMPLETED else None for row in found]

    def _tally(self, scope: str) -> ScopeTally:
        inside = [row.view for row in self.rows.values() if row.view.scope == scope]
        inside.sort(key=lambda view: view.node)
        failed = [view for view in inside if view.failed]
        first = next((view for view in failed if view.error is not None), None)
        return ScopeTally(
            alive=sum(view.alive for view in inside),
            failed=len(failed),
            first_error=first.error if first else None,
            first_failed=first.path if first else "",
            needs_person=scope == ROOT and self._needs_person(),
        )

    def _needs_person(self) -> bool:
        return self.plan.on_failure is OnFailure.PARK and any(map(self._is_open, self.charged))

    def _is_open(self, path: str) -> bool:
        """Say whether a step that failed still needs a person, who may have settled a block."""
        view = self.rows[path].view
        if view.state is not StepState.FAILED:
            return False
        while view.scope != ROOT:
            view = self.rows[view.scope].view
            if view.reason in {Reason.SKIPPED_BY_OPERATOR, Reason.DISCARDED}:
                return False
        return True

    def write(self, decision: Decision, *, now: datetime) -> None:
        """Store what was decided."""
        for view in decision.born:
            self.rows[view.path] = StepRow(view, item=decision.items.get(view.path))
        for move in decision.moves:
            row = self.rows[move.after.path]
            row.view = move.after
            if move.output is not UNSET:
                row.output = move.output
            if move.arguments is not UNSET:
                row.arguments = move.arguments
            if move.items is not UNSET:
                row.items = move.items
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
            self.finished_at = now if run_move.after.state in FINISHED_RUNS else None
            if run_move.before is not run_move.after.state:
                self.journal.append(
                    Transition(now, ROOT, run_move.before.value, run_move.after.state.value)
                )
        self.variables.update(decision.assigned)
        self.charged.update(incident.path for incident in decision.incidents)
        self._write_waits(decision)

    def _write_waits(self, decision: Decision) -> None:
        for awaited in decision.waits:
            self.waits[awaited.path, awaited.attempt] = awaited
        for closing in decision.closings:
            del self.waits[closing.path, closing.attempt]

    def _stamp(self, row: StepRow, now: datetime) -> None:
        match row.view.state:
            case StepState.PENDING:
                row.queued_at = row.started_at = row.finished_at = None
            case StepState.QUEUED:
                row.queued_at, row.started_at, row.finished_at = now, None, None
            case StepState.RUNNING:
                row.started_at = now
            case _ if row.view.final and row.view.state not in UNDONE:
                row.finished_at = now
        if row.view.state is StepState.COMPLETED and self.plan.nodes[row.view.node].undo > 0:
            self.completions += 1
            row.completion = self.completions


class World(Protocol):
    """Whatever is not the run itself: its workers, people, other systems, other runs."""

    def perform(self, run: Simulation, call: Call) -> Result:
        """Do what a worker is asked to do."""

    def repeat(self, uses: str) -> Repeat:
        """Say whether a task type may be repeated when nobody knows whether it took effect."""

    def hear(self, clock: "Clock", run: Simulation, decision: Decision, now: datetime) -> None:
        """Hear what was decided and stored; what is to come of it is said to the clock."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A world in which tasks are done, what is waited for comes, and nothing else ever happens."""

    stub: Stub = built_in
    repeat_of: RepeatOf = freely
    outside: Outside = at_once

    def perform(self, run: Simulation, call: Call) -> Result:  # noqa: ARG002 - the shape of every World
        """Do what the stub does."""
        return self.stub(call)

    def repeat(self, uses: str) -> Repeat:
        """Say what was said of the task type."""
        return self.repeat_of(uses)

    def hear(self, clock: "Clock", run: Simulation, decision: Decision, now: datetime) -> None:
        """Have come what the run waits for; time comes by itself."""
        for awaited in decision.waits:
            result = None if awaited.kind is Reason.TIME else self.outside(awaited)
            if result is None:
                continue
            then, output = now + timedelta(seconds=result.seconds), result.output
            if awaited.kind is Reason.APPROVAL and output is None:
                output = approving.assumed(awaited.request, at=then)
            answer = Answered(awaited.path, awaited.kind, output, result.error, awaited.attempt)
            clock.tell(run, answer, then)


def simulate(  # noqa: PLR0913 - what a dry run can be told, each by its name
    plan: Plan,
    *,
    stub: Stub = built_in,
    repeat: RepeatOf = freely,
    outside: Outside = at_once,
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
    clock = Clock(Alone(stub, repeat, outside), Random(seed))  # noqa: S311 - chance that must repeat
    clock.begin(run)
    clock.play(until=start + until)
    return run


Happening = Callable[[datetime], Iterable[Event]]
"""What comes from outside at a moment; which events it is may depend on where the run stands."""


class Clock:
    """Plays what is due in one or several runs, in the order of its time."""

    def __init__(self, world: World, chance: Random) -> None:
        self.world = world
        self.chance = chance
        self.order = count()
        self.due: list[tuple[datetime, int, Simulation, Happening]] = []

    def begin(self, run: Simulation) -> None:
        """Start a run at the time that it names as its start."""
        self.tell(run, Started(), run.started_at)
        if run.plan.timeout is not None:
            self.tell(run, TimedOut(ROOT), run.started_at + timedelta(seconds=run.plan.timeout))

    def tell(self, run: Simulation, event: Event, moment: datetime) -> None:
        """Have the run hear an event at a moment."""
        self.later(run, moment, lambda _: (event,))

    def later(self, run: Simulation, moment: datetime, happening: Happening) -> None:
        """Have something happen to the run at a moment."""
        heapq.heappush(self.due, (moment, next(self.order), run, happening))

    def play(self, *, until: datetime) -> None:
        """Let time pass until a moment, or until nothing is due any more."""
        while self.due and self.due[0][0] <= until:
            now, _, run, happening = heapq.heappop(self.due)
            for event in happening(now):
                self._decide(run, event, now)

    def _decide(self, run: Simulation, event: Event, now: datetime) -> None:
        events = [event]
        while events:
            wanted = Requirement()
            for one in events:
                wanted |= requirement(run.plan, one)
            held = run.load(wanted)
            decision = advance(run.plan, held, *events, now=now, chance=self.chance)
            run.write(decision, now=now)
            for move in decision.moves:
                self._follow(run, move.after, now)
            if any(move.before is RunState.PAUSED for move in decision.run_moves):
                self._take_queued(run, now)
            self.world.hear(self, run, decision, now)
            events = decision.follow_ups

    def _take_queued(self, run: Simulation, now: datetime) -> None:
        """Have the steps taken that nobody could take while the run was held."""
        for row in run.rows.values():
            self._follow(run, row.view, now, only=StepState.QUEUED)

    def _follow(
        self, run: Simulation, view: StepView, now: datetime, only: StepState | None = None
    ) -> None:
        """Do what a worker or the timer would do about the row as it now stands."""
        if run.rows[view.path].view is not view or only not in {None, view.state}:
            return
        match view.state:
            case StepState.QUEUED:
                taken = Claimed(view.path, view.attempt, "simulation", now + FOREVER)
                self.tell(run, taken, now)
            case StepState.RUNNING if view.cancel_requested:
                error = StepError(ErrorClass.CANCELLED, "step.cancelled", "cancelled while running")
                self.tell(run, Failed(view.path, view.attempt, error), now)
            case StepState.RUNNING if view.worker:
                self._perform(run, view, now)
            case StepState.RETRYING if view.wake_at is not None:
                self.tell(run, RetryDue(view.path, view.attempt), view.wake_at)
            case StepState.WAITING if view.wake_at is not None:
                self.tell(run, TimedOut(view.path), view.wake_at)

    def _perform(self, run: Simulation, view: StepView, now: datetime) -> None:
        result = self._result(run, view)
        node = run.plan.nodes[view.node]
        if node.timeout is not None and result.seconds > node.timeout:
            message = f"took longer than its {node.timeout:g} seconds"
            late = StepError(ErrorClass.TIMEOUT, "task.timeout", message)
            result = Result(error=late, seconds=node.timeout)
        after = now + timedelta(seconds=result.seconds)
        self.tell(run, self._outcome(run, view, result), after)

    def _outcome(self, run: Simulation, view: StepView, result: Result) -> Event:
        if result.error is None:
            return Succeeded(view.path, view.attempt, result.output)
        node = run.plan.nodes[view.node]
        repeat = repeat_of(self.world.repeat(node.uses), node.idempotent)
        match result.error.error_class:
            case ErrorClass.WORKER_LOST:
                return LeaseExpired(view.path, view.attempt, repeat)
            case ErrorClass.TIMEOUT | ErrorClass.UNCERTAIN:
                return Failed(view.path, view.attempt, result.error, repeat)
        return Failed(view.path, view.attempt, result.error)

    def _result(self, run: Simulation, view: StepView) -> Result:
        node = run.plan.nodes[view.node]
        held = run.load(reading(run.plan, node.call, view.path))
        corrected = run.rows[view.path].arguments
        template = node.arguments if corrected is None else corrected
        try:
            arguments = expressions.render(
                dict(template), names_of(run.plan, held, node, view.path, node.call)
            )
        except ExpressionError as error:
            return Result(error=StepError(ErrorClass.PERMANENT, "expression.error", str(error)))
        asks, only = view.reason in ASKING, view.reason is Reason.LAST_PROBE
        call = Call(view.path, view.attempt, node.uses, arguments, asks, only)
        return self.world.perform(run, call)


def _last_completed(rows: Sequence[StepRow]) -> str:
    """Return the path of the step that was completed last; nothing if there is none."""
    last = max(rows, key=lambda row: row.completion, default=None)
    return "" if last is None else last.view.path


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
