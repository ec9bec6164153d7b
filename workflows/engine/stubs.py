"""What a task would do, told instead of done: what it is asked, and what comes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.engine.decision import Awaited
from workflows.engine.events import Repeat, StepError
from workflows.language import durations
from workflows.language.words import ErrorClass


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
