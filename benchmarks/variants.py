"""How bare Celery is run: under the platform's own settings, and in every way that may be its best.

Each variant has a database of Redis to itself, so that none hears of another's messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from benchmarks.bare import QUEUE
from orchestrator.programs import worker_options

SAME = "the same settings"
NOT_SHARED = ("CELERY_BEAT", "CELERY_CELERY", "CELERY_WORKER_CONSUMER")
LEAN = ("--without-gossip", "--without-mingle", "--without-heartbeat")
"""What a worker can leave out when nobody watches it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Celery's settings, and the options of each of its workers."""

    name: str
    settings: Mapping[str, Any] = field(repr=False)
    workers: int
    options: tuple[str, ...]

    @property
    def slug(self) -> str:
        """The name as a file may have it."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def same(redis: str) -> Variant:
    """Return bare Celery under the settings and options of the platform's own workers.

    All but its consumer, which is code of the platform's own.
    """
    shared = {
        name.removeprefix("CELERY_").lower(): getattr(settings, name)
        for name in dir(settings)
        if name.startswith("CELERY_") and not name.startswith(NOT_SHARED)
    }
    addresses = {"broker_url": _database(redis, 1), "result_backend": _database(redis, 1)}
    options = worker_options("bare", [QUEUE], settings.ENV.worker_concurrency)
    return Variant(SAME, shared | addresses, 1, tuple(options))


def candidates(redis: str, rabbitmq: str | None) -> list[Variant]:
    """Return the ways in which bare Celery may be at its best on two cores."""
    tried = [
        *(_prefork(late=late, prefetch=prefetch) for late in (False, True) for prefetch in (1, 4)),
        _prefork(late=False, prefetch=0),
        *(_solo(late=late, prefetch=4) for late in (False, True)),
        _solo(late=False, prefetch=1),
    ]
    placed = [
        _placed(one, broker=_database(redis, number), results=_database(redis, number))
        for number, one in enumerate(tried, start=2)
    ]
    if rabbitmq is None:
        return placed
    on_rabbitmq = [
        _prefork(late=False, prefetch=4),
        _solo(late=False, prefetch=4),
        _solo(late=False, prefetch=0),
    ]
    return placed + [
        _placed(
            Variant(f"{one.name}, RabbitMQ", one.settings, one.workers, one.options),
            broker=rabbitmq,
            results=_database(redis, 20 + number),
        )
        for number, one in enumerate(on_rabbitmq)
    ]


def _prefork(*, late: bool, prefetch: int) -> Variant:
    name = f"prefork of 2, {_manner(late=late, prefetch=prefetch)}"
    options = ("--pool=prefork", "--concurrency=2", *LEAN)
    return Variant(name, _lean(late=late, prefetch=prefetch), 1, options)


def _solo(*, late: bool, prefetch: int) -> Variant:
    name = f"two solo workers, {_manner(late=late, prefetch=prefetch)}"
    return Variant(name, _lean(late=late, prefetch=prefetch), 2, ("--pool=solo", *LEAN))


def _manner(*, late: bool, prefetch: int) -> str:
    fetched = f"prefetch {prefetch}" if prefetch else "prefetch without limit"
    return f"{'late' if late else 'early'} ack, {fetched}"


def _lean(*, late: bool, prefetch: int) -> dict[str, Any]:
    """Return settings without anything that costs time: no results, no events, no durability."""
    return {
        "task_acks_late": late,
        "worker_prefetch_multiplier": prefetch,
        "task_ignore_result": True,
        "worker_send_task_events": False,
        "task_default_delivery_mode": "transient",
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": False,
    }


def _placed(one: Variant, *, broker: str, results: str) -> Variant:
    addresses = {"broker_url": broker, "result_backend": results}
    return Variant(one.name, {**one.settings, **addresses}, one.workers, one.options)


def _database(redis: str, number: int) -> str:
    return f"{redis}?virtual_host={number}"
