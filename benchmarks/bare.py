"""Bare Celery: tasks that do nothing, and nothing persisted.

The last task of a chain, or the body of a chord, counts itself in Redis, so that the end can be
seen without a result for every task. The settings are an argument, and reach a worker as JSON in
its environment (`benchmarks.bare_worker`): it pays for no Django.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery
from kombu import Exchange, Queue

SETTINGS = "BARE_CELERY_SETTINGS"
QUEUE = "bare"
COUNTER = "benchmarks:ended"
DELAYS = "benchmarks:delays"


@dataclass(frozen=True, slots=True)
class Bare:
    """An application of bare Celery, its tasks, and where their ends are counted."""

    app: Celery
    redis: redis.Redis
    noop: Any
    kept: Any
    last: Any
    stamped: Any

    def forget(self) -> None:
        """Begin to count anew."""
        self.redis.delete(COUNTER, DELAYS)

    def ended(self) -> int:
        """Return how many chains, or chords, have ended."""
        return int(self.redis.get(COUNTER) or 0)

    def delays(self) -> list[float]:
        """Return the milliseconds that each stamped task took to start."""
        return [float(text) for text in self.redis.lrange(DELAYS, 0, -1)]


def build(settings: Mapping[str, Any]) -> Bare:
    """Make the application; `kept` leaves a result, for a chord counts its members by them."""
    app = Celery("bare", set_as_current=False)
    app.conf.update(settings)
    app.conf.task_queues = [Queue(QUEUE, Exchange("", type="direct"), routing_key=QUEUE)]
    app.conf.task_default_queue = QUEUE
    client = redis.Redis.from_url(redis_url(app.conf.result_backend))

    @app.task(name="bare.noop", shared=False)
    def noop() -> None: ...

    @app.task(name="bare.kept", shared=False, ignore_result=False)
    def kept() -> None: ...

    @app.task(name="bare.last", shared=False)
    def last() -> None:
        client.incr(COUNTER)

    @app.task(name="bare.stamped", shared=False)
    def stamped(sent: float) -> None:
        client.rpush(DELAYS, time.time() * 1000 - sent)

    return Bare(app, client, noop, kept, last, stamped)


def redis_url(celery_url: str) -> str:
    """Return Celery's address of a Redis as the client library writes it."""
    return celery_url.replace("redis+socket:", "unix:").replace("virtual_host=", "db=")
