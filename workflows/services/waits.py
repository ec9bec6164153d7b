"""Waits: what has come from outside is told to the step that waits for it, in one transaction."""

from datetime import datetime
from functools import partial

from workflows.engine.events import Answered
from workflows.services.flights import in_flight
from workflows.services.plans import Pinned
from workflows.services.progress import advance_run


def answer_wait(*, pin: Pinned, answer: Answered, now: datetime, by: str) -> bool:
    """End a wait with what has come; False when the step does not wait for it, or not any more."""
    progress = in_flight(partial(advance_run, pin, answer, now=now, actor=by))
    return bool(progress.decision.closings)
