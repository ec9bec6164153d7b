"""The time line of a run: each step as a bar, first the wait for a worker, then the work."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from workflows.admin.base import duration, step_url
from workflows.admin.looks import look_of, words_of
from workflows.models import Run, Step

SMALLEST_BAR = 0.4
"""Percent of the line that the shortest work takes, so that it is seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A step in time; where it begins, its wait and its work in percent of the run's own time."""

    path: str
    url: str
    tone: str
    left: float
    waited: float
    worked: float
    said: str


def bars_of(run: Run, steps: Sequence[Step], *, now: datetime) -> list[Bar]:
    """Return a bar for each step that has been queued, in their order."""
    begin = run.started_at or run.created_at
    timed = [step for step in steps if step.queued_at or step.started_at]
    ends = [step.finished_at or now for step in timed if step.started_at]
    end = run.finished_at or max([*ends, now], default=now)
    whole = max((end - begin).total_seconds(), 0.001)
    bars = []
    for step in timed:
        queued = step.queued_at or step.started_at or begin
        started = step.started_at if step.started_at and step.started_at >= queued else queued
        is_over = step.finished_at is not None
        finished = step.finished_at or now
        if step.started_at is None:
            started = finished
        left = _percent(queued, begin, whole)
        begun = _percent(started, begin, whole)
        worked = _percent(finished, begin, whole) - begun
        took = duration(step.started_at, finished) if step.started_at else "waits"
        said = f"{step.path}: {words_of(step.state)}, {took}{'' if is_over else ' so far'}"
        bars.append(
            Bar(
                step.path,
                step_url(step.pk),
                look_of(step.state).tone,
                min(left, 100 - SMALLEST_BAR),
                max(begun - left, 0.0),
                min(max(worked, SMALLEST_BAR), 100 - min(begun, 100 - SMALLEST_BAR)),
                said,
            )
        )
    return bars


def _percent(moment: datetime, begin: datetime, whole: float) -> float:
    return round(min(max((moment - begin).total_seconds() / whole, 0.0), 1.0) * 100, 3)
