"""What tasks come to in a test: values, failures, silence, time, one for each attempt.

A stub is a plain value, a function of the call, or a `Script` made by the words below:

    {"http.request": {"status": 200},
     "charge": fails("transient", code="http.503", times=2).then({"receipt": 7}),
     "pack[3].scan": lost_worker(),
     "book": lambda call: {"room": call.arguments["room"]},
     "render": takes("3s", {"pages": 12})}
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

from workflows.engine.clock import FOREVER
from workflows.engine.events import StepError
from workflows.engine.plan import Node, Plan
from workflows.engine.stubs import Call, Result, built_in
from workflows.language import durations
from workflows.language.catalog import TaskCatalog
from workflows.language.nearest import did_you_mean
from workflows.language.words import ErrorClass
from workflows.testing.errors import StubError, UnknownNameError
from workflows.testing.names import SPOKEN_FOR, asked_of, names_a_step

Duration = str | float | timedelta
"""`"2h"`, seconds, or a time difference."""

CODE = "stub.failed"
"""The code of a failure that was given none."""


def seconds_of(duration: Duration) -> float:
    """Return a duration in seconds; `DurationError` says what is wrong with it."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    return durations.parse(duration)


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt fails. Without a class it is the one that the catalog knows for the code."""

    code: str
    error_class: ErrorClass | None
    message: str
    retry_after: float | None = None
    details: Mapping[str, Any] | None = None

    def error(self, uses: str, catalog: TaskCatalog | None) -> StepError:
        """Return the error that a worker would report."""
        known = catalog.codes(uses) if catalog is not None and uses in catalog.names() else {}
        error_class = self.error_class or known.get(self.code, ErrorClass.TRANSIENT)
        details = dict(self.details or {})
        return StepError(error_class, self.code, self.message, self.retry_after, details)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt comes to: a value, what a function says, or a failure; after a while."""

    value: Any = None
    failure: Failure | None = None
    seconds: float | None = None
    times: int | None = None
    """For so many attempts; None: for all that follow."""


@dataclass(frozen=True, slots=True)
class Script:
    """What attempts come to, one after the other; behind its end a task is as without a stub."""

    outcomes: tuple[Outcome, ...]
    by_call: bool = False
    """Counted are the calls of all steps that the stub is for, not one step's attempts."""

    def then(self, *results: Any) -> "Script":
        """Return this script with what the attempts after it come to; the last for all."""
        first = (
            *self.outcomes[:-1],
            replace(self.outcomes[-1], times=self.outcomes[-1].times or 1),
        )
        return replace(self, outcomes=first + _in_turn(results))

    def of(self, number: int) -> Outcome | None:
        """Return what the attempt of a number, counted from 1, comes to."""
        for outcome in self.outcomes:
            if outcome.times is None or number <= outcome.times:
                return outcome
            number -= outcome.times
        return None


def returns(
    value: Any = None, *, takes: Duration | None = None, times: int | None = None
) -> Script:
    """Have attempts succeed with a value, or with what a function of the call returns."""
    return Script((Outcome(value, seconds=_seconds(takes), times=times),))


def fails(  # noqa: PLR0913 - the parts of an error, each by its name
    error_class: str | None = None,
    *,
    code: str | None = None,
    message: str = "failed as the test asked",
    retry_after: float | None = None,
    details: Mapping[str, Any] | None = None,
    takes: Duration | None = None,
    times: int | None = None,
) -> Script:
    """Have attempts fail; with a `code` alone the class is the one that the catalog has for it."""
    known = None if error_class is None and code is not None else _class(error_class or "permanent")
    failure = Failure(code or CODE, known, message, retry_after, details)
    return Script((Outcome(failure=failure, seconds=_seconds(takes), times=times),))


def lost_worker(*, times: int | None = 1, takes: Duration | None = None) -> Script:
    """Have the worker of an attempt vanish in the middle of it."""
    return fails("worker_lost", code="worker.lost", message="lost", takes=takes, times=times)


def never() -> Script:
    """Have nothing come of an attempt: a task goes on for ever, and nobody answers a wait."""
    return Script((Outcome(seconds=2 * FOREVER.total_seconds()),))


def takes(duration: Duration, result: Any = None) -> Script:
    """Have attempts take their time, and then come to `result`."""
    seconds = seconds_of(duration)
    script = script_of(result)
    return replace(script, outcomes=tuple(replace(one, seconds=seconds) for one in script.outcomes))


def attempts(*results: Any) -> Script:
    """Have each attempt at a step come to a result of its own; the last is for all that follow."""
    return Script(_in_turn(results))


def calls(*results: Any) -> Script:
    """Have each call come to a result of its own, whichever step makes it: for loops and types."""
    return Script(_in_turn(results), by_call=True)


def runs(function: Callable[..., Any], **more: Any) -> Script:
    """Have the function itself be called, with the arguments of the step and `more` of its own."""
    return returns(lambda call: function(**call.arguments, **more))


def script_of(stub: Any) -> Script:
    """Return the script that a stub stands for."""
    return stub if isinstance(stub, Script) else returns(stub)


def _in_turn(results: tuple[Any, ...]) -> tuple[Outcome, ...]:
    if not results:
        raise StubError("A script needs at least one result: attempts(fails(), {'ok': True}).")
    scripts = [script_of(result).outcomes for result in results]
    firsts = [replace(one, times=one.times or 1) for script in scripts[:-1] for one in script]
    return (*firsts, *scripts[-1])


def _class(name: str) -> ErrorClass:
    known = [one.value for one in ErrorClass]
    if name not in known:
        hint = did_you_mean(name, known, "error classes")
        raise StubError(f"{name!r} is no error class; {hint}. A code is given by code={name!r}.")
    return ErrorClass(name)


def _seconds(duration: Duration | None) -> float | None:
    return None if duration is None else seconds_of(duration)


class Stubs:
    """The stubs of one run by the names they are for, the nearest name first.

    A path comes before the path of all items (`pack[].scan`), that before an id, an id before
    a task type, a task type before a pattern such as `http.*`.
    """

    def __init__(
        self,
        plan: Plan,
        stubs: Mapping[str, Any],
        *,
        durations: Mapping[str, Duration],
        catalog: TaskCatalog | None,
    ) -> None:
        self.scripts = {name: script_of(stub) for name, stub in stubs.items()}
        self.seconds = {name: seconds_of(duration) for name, duration in durations.items()}
        self.catalog = catalog
        self.counts: dict[str, int] = {}
        for what, names in (("stubs", stubs), ("durations", durations)):
            _check_names(what, plan, names)

    def answer(self, node: Node, call: Call, *, assumed: bool = False) -> Result | None:
        """Return what comes from outside for a step that waits; None if no stub is for it.

        Unless it is assumed that something comes.
        """
        return self._told(node, call, lambda _: Result() if assumed else None)

    def result(self, node: Node, call: Call) -> Result:
        """Return what a task comes to; without a stub, what it does of itself."""
        return self._told(node, call, built_in) or Result()

    def _told(
        self, node: Node, call: Call, otherwise: Callable[[Call], Result | None]
    ) -> Result | None:
        names = list(self._names(node, call))
        usual = next((self.seconds[name] for name in names if name in self.seconds), None)
        name = next((name for name in names if name in self.scripts), None)
        outcome = None if name is None else self._next(name, call)
        while outcome is not None and callable(outcome.value):
            outcome = self._asked(outcome, call)
        if outcome is None:
            result = otherwise(call)
            return replace(result, seconds=usual) if result and usual is not None else result
        if isinstance(outcome.value, Result):
            return outcome.value
        seconds = outcome.seconds if outcome.seconds is not None else usual or 0.0
        if outcome.failure is not None:
            return Result(error=outcome.failure.error(call.uses, self.catalog), seconds=seconds)
        return Result(output=_as_json(outcome.value, call), seconds=seconds)

    def _next(self, name: str, call: Call) -> Outcome | None:
        self.counts[name] = self.counts.get(name, 0) + 1
        script = self.scripts[name]
        return script.of(self.counts[name] if script.by_call else call.attempt)

    def _asked(self, outcome: Outcome, call: Call) -> Outcome | None:
        """Return what a function says of a call; what it raises as a task does is a failure."""
        try:
            value = outcome.value(call)
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            return replace(outcome, value=None, failure=failure)
        if not isinstance(value, Script):
            return replace(outcome, value=value)
        told = value.of(call.attempt)
        return told and replace(
            told, seconds=outcome.seconds if told.seconds is None else told.seconds
        )

    def _names(self, node: Node, call: Call) -> Iterator[str]:
        yield from dict.fromkeys((call.path, node.path, node.id, call.uses))
        known = {*self.scripts, *self.seconds}
        patterns = (name for name in known if "*" in name and fnmatchcase(call.uses, name))
        yield from sorted(patterns, key=lambda name: (-len(name), name))


def failure_of(error: Exception) -> Failure | None:
    """Return the failure that a task meant by raising an error, None if it is none of a task's."""
    code = getattr(error, "code", None)
    if not isinstance(code, str) or not hasattr(error, "error_class"):
        return None
    after, details = getattr(error, "retry_after", None), getattr(error, "details", None)
    return Failure(code, getattr(error, "error_class"), str(error), after, details)  # noqa: B009


def _as_json(value: Any, call: Call) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StubError(f"The stub of {call.path} returned what is not JSON: {error}.") from error


def _check_names(what: str, plan: Plan, names: Mapping[str, Any]) -> None:
    tasks = [node for node in plan.nodes if node.kind in SPOKEN_FOR]
    types = {name for node in tasks if (name := asked_of(node))}
    for name in names:
        if name in types or names_a_step(plan, name):
            continue
        if "*" in name and any(fnmatchcase(uses, name) for uses in types):
            continue
        known = {node.path for node in tasks} | {node.id for node in tasks} | types
        raise UnknownNameError(what, name, known, "steps and task types")
