"""Timers: retries that are due, scopes and runs that have used up their time; and what has come.

Events are handed out here as well, for they too are looked at when the clock says so.
"""

from datetime import datetime
from functools import partial
from uuid import UUID

from workflows import store
from workflows.engine.events import Event, RetryDue, TimedOut
from workflows.engine.plan import ROOT
from workflows.engine.states import StepState
from workflows.services import events, guards
from workflows.services.plans import Pinned, pinned
from workflows.services.progress import advance_run, in_flight
from workflows.services.sweep import helped

BATCH = 500


def tick(*, now: datetime) -> int:
    """Do what is due, one transaction each, and return how much that was. Safe many at once."""
    done = int(helped(None, "guards", partial(guards.look_at_due, now=now)))
    due = store.due_steps(StepState.RETRYING, StepState.WAITING, now=now, limit=BATCH)
    for run_id, path, state, attempt in due:
        event = RetryDue(path, attempt) if state is StepState.RETRYING else TimedOut(path)
        done += helped(run_id, path, partial(_advance, run_id, event, now))
    for run_id in store.due_runs(now=now, limit=BATCH):
        done += helped(run_id, ROOT, partial(_advance, run_id, TimedOut(ROOT), now))
    return done + events.hand_out(now=now)


def _advance(run_id: UUID, event: Event, now: datetime) -> bool:
    return in_flight(partial(_decide, pinned(run_id), event, now))


def _decide(pin: Pinned, event: Event, now: datetime) -> bool:
    if isinstance(event, TimedOut) and guards.is_stopped(pin, event.path, now=now):
        return False
    progress = advance_run(pin, event, now=now)
    return bool(progress.decision.moves or progress.decision.run_moves)
