"""The Celery application. With settings that could lose work, workers and beat refuse to start."""

import os
import signal
import sys
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP, Queues
from celery.app.utils import Settings
from celery.signals import beat_init, celeryd_init, setup_logging
from kombu import Connection, Exchange, Queue

from orchestrator.consumer import EagerConnection, PassingEvents

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

ENGINE_QUEUE = "orchestrator"
SENT_WITHIN = 1.0
"""Seconds that the broker has to answer whoever sends; the outbox is the database, not a socket."""

REQUIRED = {
    "task_acks_late": True,
    "task_acks_on_failure": True,
    "task_acks_on_timeout": True,
    "task_reject_on_worker_lost": True,
    "task_create_missing_queues": False,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "worker_prefetch_multiplier": 1,
    # A step needs no broker to end: killing it would turn an outage of Redis into lost attempts.
    # The message that comes a second time meets the fence.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}


class KnownQueues(Queues):
    """The engine's queue and those of the environments, each looked up when it is first named.

    So a new environment is known without a restart, and a name that nobody listens to is an error.
    """

    def __missing__(self, name: str) -> Queue:
        from orchestrator.fleet import queue_exists

        if not queue_exists(name):
            raise KeyError(name)
        self.add(queue_of(name))
        return self[name]


class KnownAMQP(AMQP):
    """Celery's message layer with queues that are known to exist."""

    Connection = EagerConnection

    def Queues(self, queues: Any, *_: Any, **__: Any) -> KnownQueues:  # noqa: N802
        """Build the registry; the name is Celery's."""
        return KnownQueues(queues, create_missing=False)


def queue_of(name: str) -> Queue:
    """Declare a queue that gets what is sent to its own name and nothing else."""
    return Queue(name, Exchange("", type="direct"), routing_key=name)


class Orchestrator(Celery):
    """Celery in which whoever sends waits only a moment for the broker; who consumes may wait."""

    def connection_for_write(self, url: str | None = None, **options: Any) -> Connection:
        """Return a connection on which connecting, writing and reading are bounded."""
        options["connect_timeout"] = SENT_WITHIN
        options["transport_options"] = {
            "max_retries": 0,
            "socket_timeout": SENT_WITHIN,
            "socket_connect_timeout": SENT_WITHIN,
            "read_timeout": SENT_WITHIN,
            "write_timeout": SENT_WITHIN,
        } | (options.get("transport_options") or {})
        return super().connection_for_write(url, **options)


def application() -> Celery:
    """Make a Celery application of the settings; the process has one, `app`."""
    made = Orchestrator("orchestrator", amqp=KnownAMQP, events=PassingEvents)
    made.config_from_object("django.conf:settings", namespace="CELERY")
    made.loader.override_backends = {
        "redis": "orchestrator.results:UnawaitedRedis",
        "rediss": "orchestrator.results:UnawaitedRedis",
        "sentinel": "orchestrator.results:UnawaitedSentinel",
    }
    made.conf.task_queues = [queue_of(ENGINE_QUEUE)]
    # Or Celery closes the database connection before and after every task: several ms for each.
    made.conf["CELERY_DB_REUSE_MAX"] = sys.maxsize
    return made


app = application()
app.autodiscover_tasks()


def refusals(conf: Settings) -> list[str]:
    """Say what is wrong with the settings, one sentence each."""
    found = [
        f"The Celery setting {name} is {getattr(conf, name)!r}; it must be {wanted!r}."
        for name, wanted in REQUIRED.items()
        if getattr(conf, name) != wanted
    ]
    timeout = conf.broker_transport_options.get("visibility_timeout", 0)
    if timeout <= (conf.task_time_limit or 0):
        found.append(
            f"The Celery setting broker_transport_options.visibility_timeout is {timeout} s; "
            f"it must be above task_time_limit ({conf.task_time_limit} s) or work is sent twice."
        )
    if not conf.worker_soft_shutdown_timeout:
        found.append("The Celery setting worker_soft_shutdown_timeout is 0; it must be above 0.")
    return found


def eviction_refusals(broker_url: str) -> list[str]:
    """Say what is wrong with a Redis broker that would forget queues when its memory is full.

    One that does not answer cannot be asked, and keeps nobody from starting.
    """
    if not broker_url.startswith(("redis:", "rediss:", "redis+socket:")):
        return []
    import redis

    url = broker_url.replace("redis+socket:", "unix:").replace("virtual_host=", "db=")
    with redis.Redis.from_url(url) as client:
        try:
            policy = str(client.config_get("maxmemory-policy").get("maxmemory-policy"))
        except (redis.ResponseError, redis.ConnectionError, redis.TimeoutError):
            return []  # A hosted Redis may refuse to tell; its own console is the place to look.
    if policy == "noeviction":
        return []
    return [f"The Redis at BROKER_URL has maxmemory-policy {policy}; it must be noeviction."]


@celeryd_init.connect
@beat_init.connect
def _refuse_unsafe_settings(**_: object) -> None:
    """End the process; an ordinary exception in a signal would only be logged."""
    if found := [*refusals(app.conf), *eviction_refusals(app.conf.broker_url)]:
        raise SystemExit("\n".join(found))


@beat_init.connect
def _keep_a_lookout(**_: object) -> None:
    """Have beat do itself what the engine is late with."""
    from workers import lookout

    lookout.begin()


@beat_init.connect
def _stop_between_two_ticks(sender: Any, **_: object) -> None:
    """Have beat end when it has done what it is at.

    Celery's own handler stores the schedule at once, and waits for ever for the lock of the
    connection if the signal came in the middle of a query.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sender.stop())


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Being connected is enough: Celery then leaves the logging of `orchestrator.logs` alone."""
