"""The Celery tasks: take the ids of a message, call one service, go on as it says."""

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

from celery import Task, shared_task
from celery.exceptions import Reject
from celery.signals import worker_process_init
from django.conf import settings

from workers import canaries, folders, publisher, sandbox
from workers import forking as _forking  # noqa: F401 - it listens to Celery's signals
from workers import pulse as _pulse  # noqa: F401 - as above
from workers import warden as _warden  # noqa: F401 - as above
from workers.abreast import claim_of_fan, claim_of_runs
from workers.leases import keeper
from workers.outage import outlast
from workers.pace import pace
from workers.segment import SLICE, Rest, run_on
from workers.slots import names_of, slots
from workflows import store
from workflows.dispatch import ABREAST, FanOut, Segment
from workflows.engine.plan import LOOPS
from workflows.services import (
    children,
    claiming,
    concurrency,
    outbox,
    recovery,
    retention,
    scopes,
    timers,
)
from workflows.services.plans import Pinned, pinned_to
from workflows.services.work import Taker, Work

BoundTask: TypeAlias = "Task[..., Any]"

PRUNING_SECONDS = 1.0
"""How long old runs are removed at a time: `tick` and `recover` may be waiting behind it."""

PRUNING_PAUSE = 0.05
"""Seconds between two batches, for those who are waiting for the database."""


@shared_task(bind=True, name=publisher.SEGMENT)
def run_segment(  # noqa: PLR0913 - the ids of a message, by name
    self: BoundTask, *, run: str, version: str, path: str, attempt: int, brings: str = ""
) -> None:
    """Begin at one queued attempt and run on; a line goes on only behind a completed step."""
    began = time.monotonic()
    taker = replace(_taker(self), brought=brings)
    with _memory_to_go_on():
        segment = Segment(UUID(run), UUID(version), path, attempt, taker.queue)
        if not brings and _take_beside(segment, taker, began):
            return
        if not run_on(_claim(segment, taker), taker, began=began):
            self.request.chain = None


@shared_task(bind=True, name=publisher.BUNDLE)
def run_bundle(self: BoundTask, *, fences: list[tuple[str, str, str, int]]) -> None:
    """Begin at one queued attempt after the other; what the slice has no time for goes back."""
    began = time.monotonic()
    taker = _taker(self)
    bundle = Rest(Segment(UUID(a), UUID(b), path, n, taker.queue) for a, b, path, n in fences)
    with keeper.minding(bundle), _memory_to_go_on():
        run_on(claim_of_runs(bundle.quick(), taker), taker, began=began)
        while (segment := bundle.next()) is not None:
            if time.monotonic() - began > SLICE or slots.stopping:
                bundle.give_back(segment)
            else:
                run_on(_claim(segment, taker), taker, began=began)


@shared_task(bind=True, name=publisher.TAKE, ignore_result=False)
def take_queued(self: BoundTask, *, run: str, version: str, scope: str) -> None:
    """Carry out what is queued of a run, one after the other; then give way to others."""
    began = time.monotonic()
    pin = _pin(UUID(run), UUID(version))
    is_loop = pin.plan.node(scope).kind in LOOPS
    taker = replace(_taker(self), fan=scope, settles=is_loop)
    with _memory_to_go_on():
        found = _take(pin, taker, began)
    if found and is_loop:
        _call_another(pin, taker)
    elif found and _has_queued(pin, taker):
        again = publisher.taker_of(taker.queue, run=run, version=version, scope=scope)
        raise self.replace(again)


@shared_task(name=publisher.SETTLE)
def settle(*, run: str, version: str, scope: str) -> None:
    """End a scope whose steps have all been carried out."""
    pin = _pin(UUID(run), UUID(version))
    outlast(partial(_settle, pin, scope))


@shared_task(name=publisher.REFILL)
def refill(*, run: str, version: str, loops: list[str]) -> None:
    """Begin the items of loops that have room for some."""
    pin = _pin(UUID(run), UUID(version))
    outlast(lambda _: scopes.refill_loops(pin=pin, loops=loops, now=store.now()))


@shared_task(name=publisher.ATTEND)
def attend(*, run: str) -> int:
    """See to the child runs of a run."""
    return outlast(lambda _: children.attend(run_id=UUID(run)))


@shared_task(name=publisher.FILL)
def fill_places(*, run: str) -> None:
    """Have those begin that have waited for the place that a run has left."""
    outlast(lambda _: concurrency.fill_after(run_id=UUID(run)))


@shared_task(name=publisher.TICK, expires=30)
def tick() -> int:
    """Do what is due."""
    return outlast(lambda _: timers.tick(now=store.now()))


@shared_task(name="workers.recover", expires=30)
def recover() -> list[str]:
    """Find what was lost, and put it right."""
    return outlast(lambda _: recovery.recover(now=store.now())).lines


@shared_task(name="workers.canaries", expires=30)
def send_canaries() -> None:
    """See how each queue is, and send it what will tell the next time."""
    outlast(lambda _: canaries.send_round(publisher.CeleryPublisher()))


@shared_task(bind=True, name=canaries.CANARY)
def canary(self: BoundTask) -> None:
    """Answer for a queue."""
    _, queue = _place(self)
    outlast(lambda _: canaries.came(queue))


@shared_task(name="workers.prune", expires=30)
def prune() -> int:
    """Remove some of the runs that are older than the settings want them kept."""
    until = time.monotonic() + PRUNING_SECONDS
    removed = outlast(
        lambda _: retention.prune_by_policy(
            now=store.now(),
            go_on=lambda: time.monotonic() < until,
            pause=lambda: time.sleep(PRUNING_PAUSE),
        )
    )
    return removed.runs


@worker_process_init.connect
def tidy_up(**_: object) -> None:
    """Remove what steps of killed processes, and leases that are over, have left on the disk."""
    sandbox.remove_left_behind()
    folders.tidy(Path(settings.ORCHESTRATOR["PROFILE_DIR"]))


def _take_beside(segment: Segment, taker: Taker, began: float) -> bool:
    """Carry out a quick step of a loop with those beside it; say whether it is one."""
    pin = _pin(segment.run, segment.version)
    node = pin.plan.node(segment.path)
    if "[]" not in node.path or segment.attempt > 1 or not pace.is_quick(node):
        return False
    if node.is_item:
        scope = pin.plan.path(node.scope, segment.path)
        _take(pin, replace(taker, fan=scope, settles=True), began)
    else:
        run_on(claim_of_runs([(pin, segment.path)], taker), taker, began=began)
    return True


def _take(pin: Pinned, taker: Taker, began: float) -> bool:
    """Carry out what is queued of a fan-out until the slice is over; say whether there was any."""
    found, after = False, -1
    while not found or (time.monotonic() - began < SLICE and not slots.stopping):
        if abreast := claim_of_fan(pin, taker, after=after):
            after = -1 if taker.settles else max(work.node.index for work in abreast)
            run_on(abreast, taker, began=began)
        else:
            work = outlast(
                lambda again: claiming.claim_any_step(
                    pin=pin, taker=taker, now=store.now(), again=again
                )
            )
            if work is None:
                break
            if taker.settles and not found:
                _call_another(pin, taker)
            run_on([work], taker, began=began)
        found = True
    return found


def _call_another(pin: Pinned, taker: Taker) -> None:
    """Send another taker to a loop that has more queued than this one takes now."""
    if _has_queued(pin, taker):
        scope = taker.fan or ""
        outbox.send([FanOut(pin.run, pin.version, taker.queue, 1, scope, is_loop=True)])


def _has_queued(pin: Pinned, taker: Taker) -> bool:
    return outlast(lambda _: claiming.has_queued(pin=pin, taker=taker))


def _claim(segment: Segment, taker: Taker) -> list[Work]:
    pin = _pin(segment.run, segment.version)

    def claim(again: bool) -> Work | None:
        _leave_it_when_stopping()
        path, attempt = segment.path, segment.attempt
        return claiming.claim_step(
            pin=pin, path=path, attempt=attempt, taker=taker, now=store.now(), again=again
        )

    work = outlast(claim)
    return [] if work is None else [work]


@contextmanager
def _memory_to_go_on() -> Iterator[None]:
    """End this process when it has no memory left outside of a step; another takes its place.

    Celery would hand the error to the parent process, and that would end with all its children.
    """
    try:
        yield
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


def _settle(pin: Pinned, scope: str, _: bool) -> None:
    scopes.settle_scope(pin=pin, scope=scope, now=store.now())


def _pin(run: UUID, version: UUID) -> Pinned:
    def look(_: bool) -> Pinned:
        _leave_it_when_stopping()
        return pinned_to(run, version)

    return outlast(look)


def _leave_it_when_stopping() -> None:
    """Leave the message to others when this worker is stopping, also when it waits for long."""
    if slots.stopping:
        raise Reject("the worker is stopping", requeue=True)


def _taker(task: BoundTask) -> Taker:
    return Taker(*_place(task), quick=pace.is_quick, width=ABREAST)


def _place(task: BoundTask) -> tuple[str, str]:
    """Return a name that nobody else has, and the queue that the message came from.

    It is of this one carrying out of the message, see `workflows.services.work.Taker`. A worker
    that is stopping leaves the message to others.
    """
    _leave_it_when_stopping()
    name = f"{names_of(str(task.request.hostname))}{secrets.token_hex(4)}"
    delivery = task.request.delivery_info
    return name, str(delivery["routing_key"] if delivery else "")
