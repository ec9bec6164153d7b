"""A run that was played in a test: what became of it, and assertions that tell its story."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from workflows.engine.clock import FOREVER, Clock
from workflows.engine.events import StepError
from workflows.engine.plan import NO_NODE, SCOPES, Plan
from workflows.engine.simulation import StepRow
from workflows.engine.states import TO_BE_UNDONE, RunState, StepState
from workflows.engine.stubs import Call
from workflows.language.words import StepKind
from workflows.testing.acts import Act
from workflows.testing.errors import UnknownNameError
from workflows.testing.names import is_named, node_named, paths_named
from workflows.testing.stage import Line, Try
from workflows.testing.story import since, story
from workflows.testing.stubs import Duration, seconds_of
from workflows.testing.world import Part, World

ANYTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run that was played."""

    path: str
    row: StepRow
    plan: Plan
    tries: tuple[Try, ...]
    """Its attempts that are over, each with what it was given and how it ended."""

    @property
    def id(self) -> str:
        """Its id in the definition."""
        return self.plan.nodes[self.row.view.node].id

    @property
    def kind(self) -> StepKind:
        """What it is."""
        return self.plan.nodes[self.row.view.node].kind

    @property
    def is_task(self) -> bool:
        """Whether a worker carries it out, and it undoes nothing."""
        node = self.plan.nodes[self.row.view.node]
        return node.kind is StepKind.TASK and node.undoes == NO_NODE

    @property
    def has_undo(self) -> bool:
        """Whether it says what undoes it."""
        return self.plan.nodes[self.row.view.node].undo != NO_NODE

    @property
    def state(self) -> StepState:
        """Where it stands."""
        return self.row.view.state

    @property
    def reason(self) -> str:
        """Why it is there, when the state alone does not say."""
        return self.row.view.reason.value if self.row.view.reason else ""

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return self.row.view.attempt

    @property
    def arguments(self) -> Mapping[str, Any] | None:
        """What its last attempt was given, with every expression resolved."""
        return next((one.arguments for one in reversed(self.tries) if one.arguments), None)

    @property
    def output(self) -> Any:
        """What it handed on."""
        return self.row.output

    @property
    def error(self) -> StepError | None:
        """Why it failed, or why its last attempt did."""
        return self.row.view.error

    @property
    def started_at(self) -> datetime | None:
        """When its last attempt began."""
        return self.row.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        return self.row.finished_at


class Run:
    """A run that was played. Every assertion that fails tells its story."""

    __test__ = False

    def __init__(self, part: Part, world: World, clock: Clock) -> None:
        self.simulation = part.run
        self._part = part
        self._stage = part.stage
        self._world = world
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Run of {self.simulation.plan.workflow}: {self.state.value}>"

    @property
    def state(self) -> RunState:
        """How it ended, or where it stands when nothing more can happen."""
        return self.simulation.state

    @property
    def output(self) -> Any:
        """What it handed on."""
        return self.simulation.output

    @property
    def error(self) -> StepError | None:
        """Why it failed."""
        return self.simulation.error

    @property
    def input(self) -> Mapping[str, Any]:
        """What it was given, with its defaults."""
        return self.simulation.input

    @property
    def variables(self) -> Mapping[str, Any]:
        """The run variables as they were left."""
        return self.simulation.variables

    @property
    def started_at(self) -> datetime:
        """When it began on the virtual clock."""
        return self.simulation.started_at

    @property
    def finished_at(self) -> datetime | None:
        """When it ended on the virtual clock."""
        return self.simulation.finished_at

    @property
    def took(self) -> timedelta | None:
        """How long it took on the virtual clock."""
        return None if self.finished_at is None else self.finished_at - self.started_at

    @property
    def path(self) -> tuple[str, ...]:
        """The steps that were carried out, in the order in which they ended.

        Without blocks, and without what undoes steps: that is in `compensated`.
        """
        ends = {StepState.COMPLETED, StepState.FAILED}
        return tuple(line.path for line in self._ended(ends) if self._is_own_work(line.path))

    @property
    def compensated(self) -> tuple[str, ...]:
        """The steps that were undone, in the order in which they were."""
        return tuple(line.path for line in self._ended({StepState.COMPENSATED}))

    @property
    def compensable(self) -> tuple[str, ...]:
        """What an undo would undo now, in its order: the steps completed last come first."""
        done = [row for row in self.simulation.rows.values() if row.completion]
        left = [row for row in done if row.view.state in TO_BE_UNDONE]
        in_order = sorted(left, key=lambda row: row.completion, reverse=True)
        return tuple(row.view.path for row in in_order)

    @property
    def irreversible(self) -> tuple[str, ...]:
        """The tasks that were completed and do not say what would undo them."""
        steps = self.steps.values()
        done = [one for one in steps if one.state is StepState.COMPLETED and one.is_task]
        return tuple(one.path for one in done if not one.has_undo)

    @property
    def skipped(self) -> Mapping[str, str]:
        """The steps that were not done, and why."""
        rows = self.simulation.rows.items()
        return {
            path: row.view.reason.value if row.view.reason else ""
            for path, row in rows
            if row.view.state is StepState.SKIPPED
        }

    @property
    def incidents(self) -> tuple[str, ...]:
        """The steps that a person was asked to look at, in the order in which that happened."""
        return tuple(self._stage.incidents)

    @property
    def refused(self) -> tuple[str, ...]:
        """What people were not allowed to do, and why."""
        return tuple(self._stage.refused)

    @property
    def lines(self) -> Sequence[Line]:
        """What happened, line by line."""
        return self._stage.lines

    @property
    def steps(self) -> Mapping[str, Step]:
        """Every step that came into being, by path, in the order of the definition."""
        rows = sorted(self.simulation.rows.items(), key=lambda each: each[1].view.node)
        return {path: self._step(path) for path, _ in rows}

    def step(self, name: str) -> Step:
        """Return a step by its path, or by its id if there is only one."""
        paths = paths_named(self.simulation, name)
        if len(paths) == 1:
            return self._step(paths[0])
        if paths:
            shown = ", ".join(paths[:5])
            message = f"step({name!r}): there are {len(paths)} of them: {shown}"
            raise UnknownNameError(message, name, paths, "paths")
        plan = self.simulation.plan
        if node_named(plan, name) is not None:
            message = f"The step {name!r} never came into being."
            raise LookupError(f"{message}\n\n{self.story()}")
        known = [*self.simulation.rows, *(node.id for node in plan.nodes if node.id)]
        raise UnknownNameError(f"step({name!r})", name, known, "steps")

    def calls(self, name: str | None = None) -> tuple[Call, ...]:
        """Return the calls of a task type or a step, or all, in the order of their time."""
        if name is None:
            return tuple(self._stage.calls)
        paths = set(paths_named(self.simulation, name))
        return tuple(one for one in self._stage.calls if name == one.uses or one.path in paths)

    def child(self, step: str) -> "Run":
        """Return the run that a step has waited for."""
        children = self._part.children
        for path, part in children.items():
            if self._is_named(path, step):
                return Run(part, self._world, self._clock)
        self._check_name(step)
        raise LookupError(f"The step {step!r} has no child run.\n\n{self.story()}")

    def at(self, duration: Duration) -> datetime:
        """Return the moment so long after the start of the run."""
        return self.started_at + timedelta(seconds=seconds_of(duration))

    def story(self) -> str:
        """Return what happened, when and why, as a table."""
        own = story(self.simulation, self._stage.lines)
        inner = (
            Run(part, self._world, self._clock).story()
            for part in self._part.children.values()
            if part.run.state is not RunState.COMPLETED
        )
        return "\n\n".join([own, *inner])

    def go_on(self, *script: Act, until: Duration | None = None) -> "Run":
        """Let more happen to a run that rests, or that was stopped by `until`."""
        self._world.script(self._clock, self.simulation, script)
        self._clock.play(until=self.started_at + FOREVER if until is None else self.at(until))
        return self

    def assert_state(self, state: str) -> None:
        """Hold the run to its state."""
        __tracebackhide__ = True
        if self.state != state.upper():
            self._fail(f"The run is {self.state.value}, and should be {state.upper()}.")

    def assert_completed(self, output: Any = ANYTHING) -> None:
        """Hold the run to have ended well; with an output, if one is given."""
        __tracebackhide__ = True
        self.assert_state(RunState.COMPLETED)
        if output is not ANYTHING:
            self.assert_output(output)

    def assert_failed(self, *, step: str | None = None, code: str | None = None) -> None:
        """Hold the run to have failed; for a step or a code, if given."""
        __tracebackhide__ = True
        self.assert_state(RunState.FAILED)
        if step is not None:
            self.assert_step(step, StepState.FAILED)
        found = self.error.code if self.error else None
        if code is not None and found != code:
            self._fail(f"The run failed with {found}, and should have with {code}.")

    def assert_cancelled(self) -> None:
        """Hold the run to have been cancelled."""
        __tracebackhide__ = True
        self.assert_state(RunState.CANCELLED)

    def assert_compensated(self, *steps: str) -> None:
        """Hold the run to have been undone; with just these steps, in this order, if given."""
        __tracebackhide__ = True
        self.assert_state(RunState.COMPENSATED)
        if steps and not self._same(self.compensated, steps):
            self._differ("what was undone", self.compensated, steps)

    def assert_output(self, output: Any) -> None:
        """Hold the run to its output."""
        __tracebackhide__ = True
        if self.output != output:
            self._differ("the output", self.output, output)

    def assert_path(self, *steps: str) -> None:
        """Hold the run to these steps, by path or id, in the order in which they ended."""
        __tracebackhide__ = True
        if not self._same(self.path, steps):
            self._differ("the path", self.path, steps)

    def assert_order(self, *steps: str) -> None:
        """Hold these steps to have ended in this order, whatever ended between them."""
        __tracebackhide__ = True
        rest = iter(self.path)
        for step in steps:
            if not any(self._is_named(path, step) for path in rest):
                self._fail(f"{step} did not end in the order {' > '.join(steps)}.")

    def assert_ran(self, *steps: str) -> None:
        """Hold these steps to have been carried out."""
        __tracebackhide__ = True
        for step in steps:
            if not any(self._is_named(path, step) for path in self.path):
                self._fail(f"{step} was not carried out.")

    def assert_not_ran(self, *steps: str) -> None:
        """Hold these steps not to have been carried out."""
        __tracebackhide__ = True
        for step in steps:
            self._check_name(step)
            if any(self._is_named(path, step) for path in self.path):
                self._fail(f"{step} was carried out, and should not have been.")

    def assert_step(self, step: str, state: str, *, reason: str | None = None) -> None:
        """Hold a step to its state, and to why it is there, if a reason is given."""
        __tracebackhide__ = True
        found = self.step(step)
        if found.state != state.upper():
            self._fail(f"{step} is {found.state.value}, and should be {state.upper()}.")
        if reason is not None and found.reason != reason:
            why = found.reason or "no reason"
            self._fail(f"{step} is {found.state.value} for {why}, and should be for {reason}.")

    def assert_skipped(self, step: str, *, reason: str | None = None) -> None:
        """Hold a step not to have been done: skipped, or never reached at all."""
        __tracebackhide__ = True
        self._check_name(step)
        if reason is not None or paths_named(self.simulation, step):
            self.assert_step(step, StepState.SKIPPED, reason=reason)

    def assert_attempts(self, step: str, attempts: int) -> None:
        """Hold a step to how many attempts were made at it."""
        __tracebackhide__ = True
        found = self.step(step).attempts
        if found != attempts:
            self._fail(f"{step} was tried {found} times, and should have been {attempts} times.")

    def assert_called(self, name: str, *, times: int | None = None, **arguments: Any) -> None:
        """Hold a task type or a step to have been called, with at least these arguments."""
        __tracebackhide__ = True
        found = sum(_includes(call.arguments, arguments) for call in self.calls(name))
        given = f" with {_shown(arguments)}" if arguments else ""
        if times is None and not found:
            self._fail(f"{name} was not called{given}.")
        if times is not None and found != times:
            self._fail(f"{name} was called {found} times{given}, and should have been {times}.")

    def assert_incident(self, *steps: str) -> None:
        """Hold a person to have been asked about just these steps, in any order."""
        __tracebackhide__ = True
        if not self._same(sorted(self.incidents), sorted(steps)):
            self._differ("the incidents", self.incidents, steps)

    def assert_took(self, duration: Duration) -> None:
        """Hold the run to how long it took on the virtual clock."""
        __tracebackhide__ = True
        wanted = timedelta(seconds=seconds_of(duration))
        if self.took != wanted:
            found = "has not ended" if self.took is None else f"took {since(self.took)[1:]}"
            self._fail(f"The run {found}, and should have taken {since(wanted)[1:]}.")

    def _ended(self, states: set[StepState]) -> Iterator[Line]:
        return (line for line in self._stage.lines if line.path and line.after in states)

    def _is_own_work(self, path: str) -> bool:
        node = self.simulation.plan.nodes[self.simulation.rows[path].view.node]
        return node.kind not in SCOPES and node.undoes == NO_NODE

    def _step(self, path: str) -> Step:
        tries = tuple(self._stage.tries.get(path, ()))
        return Step(path, self.simulation.rows[path], self.simulation.plan, tries)

    def _same(self, paths: Sequence[str], names: Sequence[str]) -> bool:
        for name in names:
            self._check_name(name)
        pairs = zip(paths, names, strict=False)
        return len(paths) == len(names) and all(self._is_named(*pair) for pair in pairs)

    def _is_named(self, path: str, name: str) -> bool:
        return is_named(self.simulation, path, name)

    def _check_name(self, name: str) -> None:
        plan = self.simulation.plan
        if node_named(plan, name) is None:
            known = [node.id for node in plan.nodes if node.id]
            raise UnknownNameError("The assertion", name, known, "steps")

    def _differ(self, what: str, found: Any, wanted: Any) -> NoReturn:
        __tracebackhide__ = True
        self._fail(f"Of {what}\n  found:  {_shown(found)}\n  wanted: {_shown(wanted)}")

    def _fail(self, sentence: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{sentence}\n\n{self.story()}")


def _includes(value: Any, part: Any) -> bool:
    """Say whether a value has all that `part` has, at any depth of objects."""
    if isinstance(part, Mapping):
        return isinstance(value, Mapping) and all(
            key in value and _includes(value[key], item) for key, item in part.items()
        )
    return bool(value == part)


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list) and all(isinstance(one, str) for one in value):
        return " > ".join(value) or "nothing"
    return repr(value)
