"""What happens to a run from outside in a test, and when: what operators, people and systems do.

`at` counts from the start of the run, `after` from when the step that is meant begins to wait.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.engine.events import (
    CancelRequested,
    Discarded,
    Event,
    PauseRequested,
    Replayed,
    ResumeRequested,
    SkipDecided,
)
from workflows.engine.plan import ROOT
from workflows.testing.stubs import Duration, seconds_of


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asks of the run or of a step, at a time since the run's start."""

    said: str
    step: str
    seconds: float
    event: Callable[[str], Event]
    """What the run hears, told the path that is meant."""


Act = Command


def pause(*, at: Duration) -> Command:
    """Have the run held."""
    return Command("pause", ROOT, seconds_of(at), lambda _: PauseRequested())


def resume(*, at: Duration) -> Command:
    """Have a run that is held go on."""
    return Command("resume", ROOT, seconds_of(at), lambda _: ResumeRequested())


def cancel(*, at: Duration) -> Command:
    """Have the run cancelled."""
    return Command("cancel", ROOT, seconds_of(at), lambda _: CancelRequested())


def replay(
    step: str = ROOT, *, at: Duration, arguments: Mapping[str, Any] | None = None
) -> Command:
    """Have a failed step tried again, with corrected arguments if given; or all that failed."""
    return Command("replay", step, seconds_of(at), lambda path: Replayed(path, arguments))


def skip(step: str, *, at: Duration, output: Any = None) -> Command:
    """Have a failed step count as done, with an output in its place."""
    return Command("skip", step, seconds_of(at), lambda path: SkipDecided(path, output))


def discard(step: str, *, at: Duration) -> Command:
    """Have a failed step given up for good."""
    return Command("discard", step, seconds_of(at), Discarded)
