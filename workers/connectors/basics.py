"""`log`, `sleep` and `fail`: what every workflow may need, and what drills are made of."""

import time
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from workers.context import TaskContext
from workers.errors import TaskError
from workers.registry import task
from workflows.language.fields import Duration, Name
from workflows.language.words import ErrorClass

CANCEL_POLL = 1.0

Level = Literal["debug", "info", "warning", "error", "critical"]
Times = Annotated[int, Field(ge=0)]


@task("log")
def log(
    message: str,
    context: TaskContext,
    level: Level = "info",
    fields: dict[str, JsonValue] | None = None,
) -> dict[str, Any]:
    """Write a line to the worker's log.

    `fields` are added to the line as one value, so that they cannot hide the line's own.
    """
    getattr(context.log, level)(message, **({"fields": fields} if fields else {}))
    return {"message": message}


@task("sleep")
def sleep(seconds: Duration, context: TaskContext) -> dict[str, Any]:
    """Hold the worker for a while. A `wait` step costs nothing and is nearly always better.

    `seconds` is a number or a duration such as `1m30s`.
    """
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, CANCEL_POLL))
        context.stop_if_cancelled()
    return {"slept": seconds}


@task("fail", codes={"drill.failed": ErrorClass.PERMANENT})
def fail(
    context: TaskContext,
    class_: ErrorClass = ErrorClass.PERMANENT,
    code: Name = "drill.failed",
    message: str = "This step fails on purpose.",
    times: Times | None = None,
) -> dict[str, Any]:
    """Fail on purpose, for tests and drills.

    With `times: 2` the first two attempts fail and the third succeeds.
    """
    if times is None or context.attempt <= times:
        raise TaskError(message, code=code, error_class=class_)
    return {"attempt": context.attempt}
