"""Recovery: one idempotent sweep that finds what was lost, and puts it right.

It executes nothing: a lost attempt re-enters by the normal claim. Safe anywhere and
many at once, because every step of it is fenced by attempt and state.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from uuid import UUID

from workflows import dispatch, store
from workflows.catalog import catalog
from workflows.dispatch import FAN_OUT_FROM, FAN_OUT_WIDTH, Dispatch, FanOut, Segment
from workflows.engine.events import Drained, LeaseExpired, Loss
from workflows.engine.plan import ROOT
from workflows.engine.policy import REPUBLISH_AFTER
from workflows.engine.states import StepState
from workflows.services import outbox, timers
from workflows.services.plans import pinned
from workflows.services.progress import advance_run, in_flight
from workflows.services.steps import lease
from workflows.services.sweep import helped
from workflows.store import Unclaimed

BATCH = 200
ROUNDS = 25
"""Batches of steps that one sweep sends again at most: it has other things to do."""

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
    until = now + lease()
    ended = True
    while ended:
        held = store.due_steps(StepState.RUNNING, now=until, limit=BATCH)
        found = [(run_id, path, attempt) for run_id, path, _, attempt in held]
        ended = _end_leases(report, found, now, until=until)
    return report


def release_worker(*, worker: str, loss: Loss, now: datetime) -> RecoveryReport:
    """End at once what workers were doing that are known to be gone.

    `worker` is the name of one, or what the names of many begin with; `loss` is why.
    """
    report = RecoveryReport()
    until = now + lease()
    for run_id, path, attempt in in_flight(partial(store.running_of, worker, until=until)):
        work = partial(_end_lease, run_id, path, attempt, now, until, loss)
        if helped(run_id, path, work):
            report.lines.append(
                f"run {run_id} step {path}: the worker of attempt {attempt} is gone ({loss})"
            )
    return report


def _end_expired_leases(report: RecoveryReport, now: datetime) -> None:
    """End the leases of one batch, but not before their workers had a chance to renew them.

    When nobody's connection to the database is as old as an attempt, all were cut off from it, by
    whatever outage, and none could renew.
    """
    since = store.connected_since()
    expired = store.expired_leases(now=now, since=since, lease=lease(), limit=BATCH)
    silent = [(run_id, path, attempt) for run_id, path, attempt, spared in expired if not spared]
    _end_leases(report, silent, now, until=now)
    if spared := len(expired) - len(silent):
        report.lines.append(
            f"{spared} leases have expired while the database was away; their workers have"
            f" {lease().total_seconds():g} s from its return to renew them"
        )


def _end_leases(
    report: RecoveryReport, found: list[tuple[UUID, str, int]], now: datetime, *, until: datetime
) -> bool:
    """End leases that run out by `until`, and say whether any was."""
    known = len(report.lines)
    for run_id, path, attempt in found:
        if helped(run_id, path, partial(_end_lease, run_id, path, attempt, now, until)):
            report.lines.append(f"run {run_id} step {path}: the lease of attempt {attempt} expired")
    return len(report.lines) > known


def _end_lease(  # noqa: PLR0913, PLR0917 - the facts of one attempt
    run_id: UUID,
    path: str,
    attempt: int,
    now: datetime,
    until: datetime,
    loss: Loss = Loss.SILENT,
) -> bool:
    """End a lease, unless its worker has renewed it meanwhile."""
    pin = pinned(run_id)
    node = pin.plan.node(path)
    repeat = catalog().repeat(node.uses)

    def work() -> bool:
        held = store.hold_expired(run_id, path, attempt, until=until)
        if held is None:
            return False
        why = loss
        if loss is Loss.SILENT and node.timeout is not None:
            # Who still renewed when the time was up was alive, and did not yield.
            overran = held - lease() >= timedelta(seconds=node.timeout)
            why = Loss.OVERRAN if overran else loss
        advance_run(pin, LeaseExpired(path, attempt, repeat, why), now=now)
        return True

    return in_flight(work)


def _send_again(report: RecoveryReport, now: datetime) -> None:
    """Send what nobody has claimed; many steps of one scope as one fan-out, once a sweep."""
    fanned: set[tuple[UUID, str, str]] = set()
    is_crowded = cache(dispatch.is_crowded)
    for _ in range(ROUNDS):
        found = in_flight(
            partial(store.postpone_queued, now=now, until=now + REPUBLISH_AFTER, limit=BATCH)
        )
        missed = [row for row in found if not is_crowded(row.queue)]
        outbox.send(_again(missed, fanned))
        for row in missed:
            report.lines.append(
                f"run {row.run} step {row.path}: attempt {row.attempt} was not claimed in time"
                f" and was sent to {row.queue} again"
            )
        if len(found) < BATCH:
            return


def _again(found: Iterable[Unclaimed], fanned: set[tuple[UUID, str, str]]) -> list[Dispatch]:
    groups: dict[tuple[UUID, str, str], list[Unclaimed]] = {}
    for row in found:
        groups.setdefault((row.run, row.queue, row.scope), []).append(row)
    dispatches: list[Dispatch] = []
    for key, rows in groups.items():
        if key in fanned:
            continue
        if len(rows) >= FAN_OUT_FROM:
            fanned.add(key)
            width = min(len(rows), FAN_OUT_WIDTH)
            dispatches.append(FanOut(rows[0].run, rows[0].version, rows[0].queue, width, key[2]))
        else:
            dispatches += [
                Segment(row.run, row.version, row.path, row.attempt, row.queue) for row in rows
            ]
    return dispatches


def _settle_scopes(report: RecoveryReport, now: datetime) -> None:
    before = now - SETTLED_AFTER
    for run_id, path in store.unjoined_scopes(older_than=before, limit=BATCH):
        if helped(run_id, path, partial(_settle, run_id, path, now)):
            report.lines.append(f"run {run_id} step {path}: nothing in it lives, so it was settled")
    for run_id in store.unfinished_runs(older_than=before, limit=BATCH):
        if helped(run_id, ROOT, partial(_settle, run_id, ROOT, now)):
            report.lines.append(f"run {run_id}: nothing in it lives, so it was ended")


def _settle(run_id: UUID, path: str, now: datetime) -> bool:
    pin = pinned(run_id)
    progress = in_flight(partial(advance_run, pin, Drained(path), now=now))
    return bool(progress.decision.moves or progress.decision.run_moves)
