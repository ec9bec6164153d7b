"""Bare Celery: the platform's own Celery settings, a no-op task, and nothing persisted.

Its last task of a chain, or body of a chord, counts itself in Redis, so that the
end can be seen without a result for every task. The settings come as JSON in the
environment, so that its workers pay for no Django.
"""

import json
import os

import redis
from celery import Celery
from kombu import Exchange, Queue

SETTINGS = "BARE_CELERY_SETTINGS"
QUEUE = "bare"
COUNTER = "benchmarks:ended"

app = Celery("bare", set_as_current=False)
app.conf.update(json.loads(os.environ.get(SETTINGS, "{}")))
app.conf.task_queues = [Queue(QUEUE, Exchange("", type="direct"), routing_key=QUEUE)]
app.conf.task_default_queue = QUEUE
counter = redis.Redis.from_url(app.conf.broker_url.replace("redis+socket://", "unix://"))


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
