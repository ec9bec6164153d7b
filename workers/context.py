"""What a task may know about the attempt it is part of. Ask for it by type: `context: TaskContext`.

Knows neither Django nor Celery: a test hands a task a context of its own with `TaskContext.of`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from workers.errors import TaskError
from workers.folders import Room, TemporaryRoom
from workers.sandbox import Workdir
from workflows.language.words import ErrorClass


def never() -> bool:
    """Say that nobody has cancelled."""
    return False


def unmasked(value: Any) -> Any:
    """Give the value as it is: there are no secrets."""
    return value


@dataclass(slots=True)
class LeasedProfile:
    """A profile that the step has to itself. What the task leaves in `context` is kept with it.

    It is JSON: cookies, tokens, whatever the next step with this profile is to find. Its texts are
    masked in outputs, errors and the log of the step.
    """

    name: str
    pool: str
    context: dict[str, Any] = field(default_factory=dict, repr=False)
    room: Room = field(default_factory=TemporaryRoom, repr=False)

    @property
    def folder(self) -> Path:
        """The profile's working folder, nobody else's for as long as the step has the profile.

        Made when first asked for. What is left in it is there for the next step with this
        profile, unless its pool empties folders. In a test it is a temporary one.
        """
        return self.room.path()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """One attempt, as its task sees it. `idempotency_key` is the same for every attempt."""

    run_id: str
    workflow: str
    environment: str
    path: str
    attempt: int
    idempotency_key: str
    idempotent: bool = True
    """Whether the step may be repeated when nobody knows whether it took effect."""
    deadline: float | None = None
    """The instant on `time.monotonic()` at which the attempt is interrupted."""
    log: Any = field(default_factory=structlog.get_logger, repr=False)
    cancelled: Callable[[], bool] = never
    """Cheap: ask it in long loops."""
    mask: Callable[[Any], Any] = field(default=unmasked, repr=False)
    """Masks the run's secrets. Mask before cutting a text short: half a secret is not found."""
    profile: LeasedProfile | None = None
    """The profile that the step has leased, if it asks for one."""
    scratch: Workdir = field(default_factory=Workdir, repr=False)

    def remaining(self) -> float:
        """Seconds left until the attempt is interrupted; infinite without a timeout."""
        if self.deadline is None:
            return math.inf
        return max(0.0, self.deadline - time.monotonic())

    def stop_if_cancelled(self) -> None:
        """Raise what ends the attempt as cancelled, if somebody has cancelled it."""
        if self.cancelled():
            message = "The step was cancelled while it ran."
            raise TaskError(message, code="task.cancelled", error_class=ErrorClass.CANCELLED)

    @property
    def workdir(self) -> Path:
        """A temporary folder of this attempt: made when first asked for, removed at its end."""
        return self.scratch.path()

    @classmethod
    def of(cls, path: str = "step", **facts: Any) -> "TaskContext":
        """Build a context for a test or a shell; every fact can be given."""
        known: dict[str, Any] = {
            "run_id": "run",
            "workflow": "workflow",
            "environment": "default",
            "attempt": 1,
            "idempotency_key": f"{facts.get('run_id', 'run')}:{path}",
        }
        return cls(path=path, **(known | facts))
