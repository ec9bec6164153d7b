"""Canaries: a small message to each queue, an answer in the database, what follows from both."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from celery import Signature
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from environments import selectors
from environments.models import queue_name
from workers.models import CanaryMark, Pulse
from workers.publisher import ENGINE_QUEUE
from workers.slots import host_of, process_of
from workers.vitals import Canary, Facts, Health, Periods, Verdict, Worker, is_overdue, judge
from workflows.dispatch import Publisher
from workflows.engine.states import StepState
from workflows.models import Step
from workflows.services.work import lease

log = structlog.get_logger(__name__)

CANARY = "workers.canary"
FORGOTTEN_AFTER = timedelta(hours=1)
"""A worker that has been silent for so long was taken away, not hung."""


def periods() -> Periods:
    """Return how often what is looked at."""
    return Periods(settings.ORCHESTRATOR["CANARY_SECONDS"])


def known_queues() -> list[str]:
    """Return the queues that should have workers."""
    return [
        ENGINE_QUEUE,
        *(
            queue_name(name, queue_class)
            for name, classes in selectors.worked_classes()
            for queue_class in classes
        ),
    ]


def facts() -> Facts:
    """Read all that is known: two small tables, and the running steps when a canary is late."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    found = Facts(
        now=now,
        periods=periods(),
        engine=ENGINE_QUEUE,
        workers=[
            Worker(
                name=row.name,
                queues=row.queues,
                processes=row.processes,
                seen_at=row.seen_at,
                uptime=row.uptime,
                broker_uptime=row.broker_uptime,
                taken=row.taken,
                waiting=row.waiting,
            )
            for row in Pulse.objects.filter(seen_at__gt=now - FORGOTTEN_AFTER)
        ],
        canaries={row.queue: Canary(row.sent_at, row.came_at) for row in CanaryMark.objects.all()},
    )
    if not is_overdue(found):
        return found
    return replace(found, running=_running(now))


def verdicts() -> list[Verdict]:
    """Say how each queue is."""
    known = facts()
    return [judge(queue, known) for queue in known_queues()]


def send_round(publisher: Publisher) -> None:
    """Send each served queue its canary, unless one is on its way; log what has changed.

    That this is done at all is the answer to the engine's own.
    """
    came(ENGINE_QUEUE)
    known = facts()
    queues = known_queues()
    _forget(queues, known.now)
    served = {queue for worker in known.workers for queue in worker.queues}
    for queue in queues:
        if queue == ENGINE_QUEUE or queue not in served:
            continue
        owed = known.canaries.get(queue, Canary()).owed_since
        if owed is None:
            _send(queue)
            CanaryMark.objects.update_or_create(queue=queue, defaults={"sent_at": known.now})
        elif not publisher.waiting(queue):
            _send(queue)  # The first was lost, or waits in a worker; it is still owed.
    for queue in queues:
        _note(judge(queue, known))


def came(queue: str) -> None:
    """Say that the canary of a queue has come."""
    CanaryMark.objects.update_or_create(queue=queue, defaults={"came_at": Now()})


def _send(queue: str) -> None:
    options = {"queue": queue, "ignore_result": True}
    Signature(CANARY, kwargs={}, options=options, immutable=True).apply_async()


def _note(verdict: Verdict) -> None:
    """Log how a queue is when that is not how it was."""
    marks = CanaryMark.objects.filter(queue=verdict.queue)
    changed = marks.exclude(health=verdict.health.value).update(health=verdict.health.value)
    if not changed:
        if marks.exists() or verdict.health is Health.HEALTHY:
            return
        CanaryMark.objects.create(queue=verdict.queue, health=verdict.health.value)
    said = log.info if verdict.is_good else log.error
    said(
        "queue.health",
        queue=verdict.queue,
        health=verdict.health.value,
        since=str(verdict.since or ""),
        matter=verdict.matter,
        next=verdict.next,
    )


def _forget(queues: Iterable[str], now: datetime) -> None:
    CanaryMark.objects.exclude(queue__in=queues).delete()
    Pulse.objects.filter(seen_at__lt=now - FORGOTTEN_AFTER).delete()


def _running(now: datetime) -> Counter[str]:
    """Count the processes of each worker that carry out steps whose leases live."""
    live = Step.objects.filter(
        state=StepState.RUNNING.value, wake_at__gt=now, wake_at__lte=now + lease()
    )
    names = live.order_by().values_list("worker", flat=True).distinct()
    return Counter(host_of(process) for process in {process_of(name) for name in names})
