"""Timers: retries that are due, scopes and runs that have used up their time."""

from datetime import datetime
from functools import partial
from uuid import UUID

from workflows import store
from workflows.engine.events import Event, RetryDue, TimedOut
from workflows.engine.plan import ROOT
from workflows.engine.states import StepState
from workflows.services.plans import pinned
from workflows.services.progress import advance_run, in_flight

BATCH = 500


def tick(*, now: datetime) -> int:
    """Do what is due, one transaction each, and return how much that was. Safe many at once."""
    due = store.due_steps(StepState.RETRYING, StepState.WAITING, now=now, limit=BATCH)
    for run_id, path, state, attempt in due:
        event = RetryDue(path, attempt) if state is StepState.RETRYING else TimedOut(path)
        _advance(run_id, event, now)
    runs = store.due_runs(now=now, limit=BATCH)
    for run_id in runs:
        _advance(run_id, TimedOut(ROOT), now)
    return len(due) + len(runs)


def _advance(run_id: UUID, event: Event, now: datetime) -> None:
    pin = pinned(run_id)
    in_flight(partial(advance_run, pin, event, now=now))
