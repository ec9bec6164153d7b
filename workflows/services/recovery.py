"""Recovery: one idempotent sweep that finds what was lost, and puts it right.

It executes nothing: a lost attempt re-enters by the normal claim. Safe anywhere and
many at once, because every step of it is fenced by attempt and state.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from workflows import dispatch, store
from workflows.catalog import catalog
from workflows.dispatch import Segment
from workflows.engine.events import Drained, Event, LeaseExpired
from workflows.engine.plan import ROOT
from workflows.engine.policy import REPUBLISH_AFTER
from workflows.engine.states import StepState
from workflows.services import timers
from workflows.services.plans import pinned
from workflows.services.progress import advance_run, in_flight
from workflows.services.steps import lease

BATCH = 200

SETTLED_AFTER = timedelta(seconds=10)
"""A scope with nothing alive in it is let be this long: its own settling may be on the way."""


@dataclass(slots=True)
class RecoveryReport:
    """What the sweep did and why, a sentence each."""

    lines: list[str] = field(default_factory=list)


def recover(*, now: datetime) -> RecoveryReport:
    """Sweep once, in small batches."""
    report = RecoveryReport()
    _end_expired_leases(report, now)
    _send_again(report, now)
    _settle_scopes(report, now)
    due = timers.tick(now=now)
    if due:
        report.lines.append(f"{due} timers were due and have fired")
    return report


def release_all(*, now: datetime) -> RecoveryReport:
    """End every lease at once: for whoever knows that all workers are gone."""
    report = RecoveryReport()
    _end_expired_leases(report, now, until=now + lease())
    return report


def _end_expired_leases(
    report: RecoveryReport, now: datetime, *, until: datetime | None = None
) -> None:
    expired = store.due_steps(StepState.RUNNING, now=until or now, limit=BATCH)
    for run_id, path, _, attempt in expired:
        uses = pinned(run_id).plan.node(path).uses
        repeatable = catalog().idempotent(uses)
        _advance(run_id, LeaseExpired(path, attempt, repeatable), now)
        report.lines.append(f"run {run_id} step {path}: the lease of attempt {attempt} expired")


def _send_again(report: RecoveryReport, now: datetime) -> None:
    found = in_flight(
        partial(store.postpone_queued, now=now, until=now + REPUBLISH_AFTER, limit=BATCH)
    )
    dispatch.publish([Segment(*row) for row in found])
    for run_id, _, path, attempt, queue in found:
        report.lines.append(
            f"run {run_id} step {path}: attempt {attempt} was not claimed in time"
            f" and was sent to {queue} again"
        )


def _settle_scopes(report: RecoveryReport, now: datetime) -> None:
    before = now - SETTLED_AFTER
    for run_id, path in store.unjoined_scopes(older_than=before, limit=BATCH):
        _advance(run_id, Drained(path), now)
        report.lines.append(f"run {run_id} step {path}: nothing in it lives, so it was settled")
    for run_id in store.unfinished_runs(older_than=before, limit=BATCH):
        _advance(run_id, Drained(ROOT), now)
        report.lines.append(f"run {run_id}: nothing in it lives, so it was ended")


def _advance(run_id: UUID, event: Event, now: datetime) -> None:
    pin = pinned(run_id)
    in_flight(partial(advance_run, pin, event, now=now))
