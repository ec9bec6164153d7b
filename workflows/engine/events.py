"""What a run can hear: the closed set of events that `advance` decides upon.

Every event of an attempt carries the attempt's number, its fence: an event of
another attempt than the step's own is late or a duplicate and changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workflows.language.words import ErrorClass


@dataclass(frozen=True, slots=True)
class StepError:
    """Why an attempt failed: its class decides what follows, its code names the cause.

    `code` is dotted (`http.503`); `retry_after` is in seconds and, when given by
    a server, wins over the computed delay; `details` must be JSON.
    """

    error_class: ErrorClass
    code: str
    message: str
    retry_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
