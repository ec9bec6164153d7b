"""What a probe answers: whether an attempt took effect whose end nobody knows.

A task type that may not be repeated blindly can declare a probe: a function that looks,
and changes nothing. It takes the parameters of the task that it needs, and the context,
whose idempotency key is that of the attempt in question.
"""

from dataclasses import dataclass
from typing import Any

PROBE_WITHIN = 30.0
"""Seconds after which a probe is interrupted; it is asked again like one that failed."""


@dataclass(frozen=True, slots=True)
class Happened:
    """It took effect: the step is done, and this is its output."""

    output: Any = None


@dataclass(frozen=True, slots=True)
class NotHappened:
    """It took no effect, and will take none any more: it may be tried again."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell, for the reason given: a person is asked."""

    why: str = ""


Answer = Happened | NotHappened | Unknown
