"""Timers: retries that are due, scopes and runs whose time is up, runs that are late; and events.

Events are handed out here as well, for they too are looked at when the clock says so.
"""

from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from workflows import store
from workflows.engine.events import Event, RetryDue, TimedOut
from workflows.engine.plan import ROOT
from workflows.engine.states import StepState
from workflows.services import events, guards
from workflows.services.flights import in_flight
from workflows.services.plans import Pinned, pinned
from workflows.services.progress import advance_run
from workflows.services.sweep import helped

log = structlog.get_logger(__name__)

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
    return done + _tell_who_is_late(now) + events.hand_out(now=now)


def _tell_who_is_late(now: datetime) -> int:
    """Record the runs that have passed their SLA, once each; it stops nothing."""
    late = in_flight(partial(store.record_breaches, now=now, limit=BATCH))
    for run_id, workflow, state, created_at in late:
        age = round((now - created_at).total_seconds(), 3)
        log.warning("run.late", run=str(run_id), workflow=workflow, state=state, age=age)
    return len(late)


def _advance(run_id: UUID, event: Event, now: datetime) -> bool:
    return in_flight(partial(_decide, pinned(run_id), event, now))


def _decide(pin: Pinned, event: Event, now: datetime) -> bool:
    if isinstance(event, TimedOut) and guards.is_stopped(pin, event.path, now=now):
        return False
    progress = advance_run(pin, event, now=now)
    return bool(progress.decision.moves or progress.decision.run_moves)
