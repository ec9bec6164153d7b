"""Recovery: one idempotent sweep that finds what was lost, and puts it right.

It executes nothing: a lost attempt re-enters by the normal claim. Safe anywhere and
many at once, because every step of it is fenced by attempt and state.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from uuid import UUID

from workflows import dispatch, store
from workflows.catalog import catalog
from workflows.dispatch import FAN_OUT_FROM, FAN_OUT_WIDTH, Dispatch, FanOut, Segment
from workflows.engine.events import Drained, Failed, LeaseExpired, Loss, StepError, repeat_of
from workflows.engine.plan import ROOT, Node
from workflows.language.words import ErrorClass
from workflows.services import callbacks, children, concurrency, guards, outbox, profiles, timers
from workflows.services.deciding import CHANCE, patience
from workflows.services.flights import in_flight
from workflows.services.plans import pinned, pinned_to
from workflows.services.progress import advance_run
from workflows.services.sweep import helped
from workflows.services.work import lease
from workflows.store import Unclaimed
from workflows.store.concurrency import left_behind

BATCH = 200
LEASES = 5000
"""Expired leases that one look of a sweep finds at most."""

ROUNDS = 25
"""Batches of steps that one sweep sends again at most: it has other things to do."""

LEASES_WITHIN = 10.0
"""Seconds that one sweep spends on expired leases: then what else it does, and the clock, go on."""

UNTIL_ANY = datetime.max.replace(tzinfo=UTC)

SETTLED_AFTER = timedelta(seconds=10)
"""A scope with nothing alive in it is let be this long: its own settling may be on the way."""


@dataclass(slots=True)
class RecoveryReport:
    """What the sweep did and why, a sentence each."""

    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ending:
    """Which leases end: those that run out by `until`, of workers whose names begin so."""

    report: RecoveryReport
    now: datetime
    until: datetime
    worker: str = ""
    loss: Loss = Loss.SILENT


def recover(*, now: datetime) -> RecoveryReport:
    """Sweep once, in small batches."""
    report = RecoveryReport()
    _end_expired_leases(report, now)
    _send_again(report, now)
    _settle_scopes(report, now)
    _see_to_children(report)
    _give_places(report, now)
    _deliver_callbacks(report, now)
    helped(None, "profiles", partial(_sweep_profiles, report, now))
    due = timers.tick(now=now)
    if due:
        report.lines.append(f"{due} timers were due and have fired")
    return report


def release_all(*, now: datetime) -> RecoveryReport:
    """End every lease at once: for whoever knows that all workers are gone."""
    report = RecoveryReport()
    ending = _Ending(report, now, until=_any_lease(now))
    ended = True
    while ended:
        held = store.expired_leases(now=ending.until, since=None, lease=lease(), limit=LEASES)
        ended = _end_leases([one[:3] for one in held], ending)
    return report


def release_worker(*, worker: str, loss: Loss, now: datetime) -> RecoveryReport:
    """End at once what workers were doing that are known to be gone.

    `worker` is the name of one, or what the names of many begin with; `loss` is why.
    """
    report = RecoveryReport()
    ending = _Ending(report, now, until=_any_lease(now), worker=worker, loss=loss)
    _end_leases(in_flight(partial(store.running_of, worker, until=ending.until)), ending)
    return report


def _any_lease(now: datetime) -> datetime:
    """Return by when any lease has ended, also one of a process whose clock is early by as much."""
    return now + 2 * lease()


def hand_back(*, steps: Sequence[tuple[UUID, UUID, str]], worker: str, now: datetime) -> None:
    """Have others carry out what a worker has claimed and not steps: run, version and path."""
    ending = _Ending(RecoveryReport(), now, until=UNTIL_ANY, worker=worker, loss=Loss.STOPPED)
    _end_leases(list(steps), ending)


def _end_expired_leases(report: RecoveryReport, now: datetime) -> None:
    """End what leases one look finds, but not before their workers had a chance to renew them.

    When nobody's connection to the database is as old as an attempt, all were cut off from it, by
    whatever outage, and none could renew.
    """
    since = store.connected_since()
    expired = store.expired_leases(now=now, since=since, lease=lease(), limit=LEASES)
    silent = [one[:3] for one in expired if not one[3]]
    _end_leases(silent, _Ending(report, now, until=now), within=LEASES_WITHIN)
    if spared := len(expired) - len(silent):
        report.lines.append(
            f"{spared} leases have expired while the database was away; their workers have"
            f" {lease().total_seconds():g} s from its return to renew them"
        )


def _end_leases(
    found: list[tuple[UUID, UUID, str]], ending: _Ending, *, within: float = math.inf
) -> bool:
    """End leases, given by run, version and path, and say whether any was.

    One transaction for each run, in an order of chance and past what somebody else is at: so
    several sweeps at once share the work, and what cannot be helped is in nobody's way.
    """
    known, began = len(ending.report.lines), time.monotonic()
    runs: dict[tuple[UUID, UUID], list[str]] = {}
    for run_id, version_id, path in found:
        runs.setdefault((run_id, version_id), []).append(path)
    batches = [
        (*run, paths[first : first + BATCH])
        for run, paths in runs.items()
        for first in range(0, len(paths), BATCH)
    ]
    CHANCE.shuffle(batches)
    for run_id, version_id, paths in batches:
        if time.monotonic() - began > within:
            break
        helped(run_id, paths[0], partial(_end_leases_of, run_id, version_id, paths, ending))
    return len(ending.report.lines) > known


def _end_leases_of(run_id: UUID, version_id: UUID, paths: list[str], ending: _Ending) -> bool:
    """End leases of a run, but for those that a worker has renewed meanwhile."""
    pin = pinned_to(run_id, version_id)

    def work() -> tuple[str, list[LeaseExpired]]:
        held = store.hold_expired(run_id, paths, until=ending.until, worker=ending.worker)
        nodes = [pin.plan.node(path) for path, _, _ in held]
        events = [
            LeaseExpired(
                path,
                attempt,
                repeat_of(catalog().repeat(node.uses), node.idempotent),
                _loss(node, ending.loss, renewed),
            )
            for node, (path, attempt, renewed) in zip(nodes, held, strict=True)
        ]
        if not events:
            return "", events
        progress = advance_run(pin, *events, now=ending.now)
        return progress.held.run.environment if progress.held else "", events

    environment, ended = in_flight(work)
    if pin.plan.has_profiles:
        profiles.taint(run_id, [(one.path, one.attempt) for one in ended], why=_lost(ending))
    for one in ended:
        _tell_guard(pin.plan.node(one.path), environment, one, ending.now)
    ending.report.lines += [
        f"run {run_id} step {one.path}: "
        + (
            f"the worker of attempt {one.attempt} is gone ({ending.loss})"
            if ending.worker
            else f"the lease of attempt {one.attempt} expired"
        )
        for one in ended
    ]
    return bool(ended)


def _lost(ending: _Ending) -> str:
    return f"its worker was lost in the middle of an attempt ({ending.loss})"


def _sweep_profiles(report: RecoveryReport, now: datetime) -> bool:
    lines = profiles.sweep(now=now)
    report.lines += lines
    return bool(lines)


def _tell_guard(node: Node, environment: str, ended: LeaseExpired, now: datetime) -> None:
    """Tell the guard of a step that had to be ended for its time: that is a failure like others."""
    if not node.guard:
        return
    is_timeout = ended.loss is Loss.OVERRAN
    error_class = ErrorClass.TIMEOUT if is_timeout else ErrorClass.WORKER_LOST
    error = StepError(error_class, "task.timeout", f"the time of {ended.path} was up")
    outcome = Failed(ended.path, ended.attempt, error)
    guards.tell(node.environment or environment, node.guard, outcome, is_asked=True, now=now)


def _loss(node: Node, loss: Loss, renewed: timedelta) -> Loss:
    """Return why an attempt ends. Who renewed when its time was up was alive, and did not yield."""
    if loss is not Loss.SILENT or node.timeout is None:
        return loss
    return Loss.OVERRAN if renewed - lease() >= timedelta(seconds=node.timeout) else loss


def _send_again(report: RecoveryReport, now: datetime) -> None:
    """Send what nobody has claimed; many steps of one scope as one fan-out, once a sweep."""
    fanned: set[tuple[UUID, str, str]] = set()
    is_crowded = cache(dispatch.is_crowded)
    for _ in range(ROUNDS):
        found = in_flight(
            partial(store.postpone_queued, now=now, until=now + patience(), limit=BATCH)
        )
        missed = [row for row in found if not is_crowded(row.queue)]
        is_sent = outbox.send(_again(missed, fanned))
        for row in missed:
            what = "was sent to" if is_sent else "waits for the broker, to be sent to"
            report.lines.append(
                f"run {row.run} step {row.path}: attempt {row.attempt} was not claimed in time"
                f" and {what} {row.queue} again"
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
            width, first = min(len(rows), FAN_OUT_WIDTH), rows[0]
            dispatches.append(FanOut(first.run, first.version, first.queue, width, first.scope))
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


def _see_to_children(report: RecoveryReport) -> None:
    for run_id in store.parents_of_due(BATCH):
        if done := children.attend(run_id=run_id):
            report.lines.append(f"run {run_id}: {done} of its child runs were seen to")


def _give_places(report: RecoveryReport, now: datetime) -> None:
    """Have those begin that wait for a place which was left without a word."""
    for key in left_behind(older_than=now - SETTLED_AFTER, limit=BATCH):
        if begun := concurrency.fill(key=key):
            report.lines.append(
                f"workflow {key[0]} key {key[1]!r}: {begun} runs waited for a place that was free,"
                " and have begun"
            )


def _deliver_callbacks(report: RecoveryReport, now: datetime) -> None:
    for run_id, path, attempt in store.waited_for(limit=BATCH):
        if helped(run_id, path, partial(_deliver_callback, run_id, path, attempt, now)):
            report.lines.append(f"run {run_id} step {path}: its callback was there, so it goes on")


def _deliver_callback(run_id: UUID, path: str, attempt: int, now: datetime) -> bool:
    return callbacks.deliver(pin=pinned(run_id), path=path, attempt=attempt, now=now)


def _settle(run_id: UUID, path: str, now: datetime) -> bool:
    pin = pinned(run_id)
    progress = in_flight(partial(advance_run, pin, Drained(path), now=now))
    return bool(progress.decision.moves or progress.decision.run_moves)
