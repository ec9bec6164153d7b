"""Bare Celery: the same broker and worker settings as the platform, and nothing persisted.

Its last task of a chain, or body of a chord, counts itself in Redis, so that the
end can be seen without a result for every task.
"""

import os

import redis
from celery import Celery

BROKER = os.environ.get("BARE_BROKER", "")
COUNTER = "benchmarks:ended"

app = Celery("bare", broker=BROKER, backend=os.environ.get("BARE_RESULTS", ""))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    task_default_queue="bare",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    result_expires=3600,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
counter: "redis.Redis" = redis.Redis.from_url(BROKER.replace("redis+socket://", "unix://"))


@app.task(name="bare.noop")
def noop() -> None:
    """Do nothing."""


@app.task(name="bare.kept", ignore_result=False)
def kept() -> None:
    """Do nothing, as a member of a chord."""


@app.task(name="bare.last")
def last() -> None:
    """Say that a chain, or a chord, has ended."""
    counter.incr(COUNTER)
