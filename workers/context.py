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

from workers.sandbox import Workdir


def never() -> bool:
    """Say that nobody has cancelled."""
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """One attempt, as its task sees it. `idempotency_key` is the same for every attempt."""

    run_id: str
    workflow: str
    environment: str
    path: str
    attempt: int
    idempotency_key: str
    deadline: float | None = None
    """The instant on `time.monotonic()` at which the attempt is interrupted."""
    log: Any = field(default_factory=structlog.get_logger, repr=False)
    cancelled: Callable[[], bool] = never
    """Ask it in long loops, and return early when it says yes."""
    scratch: Workdir = field(default_factory=Workdir, repr=False)

    def remaining(self) -> float:
        """Seconds left until the attempt is interrupted; infinite without a timeout."""
        if self.deadline is None:
            return math.inf
        return max(0.0, self.deadline - time.monotonic())

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
