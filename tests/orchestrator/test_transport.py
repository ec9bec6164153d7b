"""A worker's event loop reads what has come from Redis, and waits for nothing else."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from kombu import Consumer, Exchange, Queue
from kombu.asynchronous import Hub
from kombu.transport.redis import SUBCLIENT_MAX_MISSED_HEALTH_CHECKS

from orchestrator.celery import SENT_WITHIN, app
from orchestrator.consumer import EagerConnection
from orchestrator.transport import PromptRedis, PromptSentinel
from tests.support.proxy import Proxy, proxy

pytestmark = pytest.mark.timeout(30)

PATIENCE = 1.0
"""Seconds of `socket_timeout`."""


@dataclass(slots=True)
class Listener:
    """An event loop that hears what is said to all workers, as the one of a Celery worker does."""

    connection: EagerConnection
    everybody: Exchange = field(default_factory=lambda: Exchange(os.urandom(8).hex(), "fanout"))
    heard: list[str] = field(default_factory=list)
    channel: Any = None
    hub: Hub = field(default_factory=Hub)

    def begin(self) -> None:
        self.channel = self.connection.channel()
        queue = Queue(self.everybody.name, self.everybody, auto_delete=True)
        consumer = Consumer(self.channel, [queue], no_ack=True)
        consumer.register_callback(lambda body, _: self.heard.append(body))
        consumer.consume()
        self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
        self.hub.call_repeatedly(0.05, lambda: None)
        self.hub.propagate_errors = self.connection.connection_errors
        self.hub.run_once()
        self.say("hello")
        self.until(lambda: "hello" in self.heard)

    def say(self, word: str) -> None:
        with EagerConnection(settings.CELERY_BROKER_URL) as other:
            other.Producer().publish(word, exchange=self.everybody, declare=[self.everybody])

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.hub.run_once()

    def miss_answers(self) -> None:
        """Have Redis be asked whether it is there, when it has not answered before."""
        self.channel.subclient.health_check_response_counter = SUBCLIENT_MAX_MISSED_HEALTH_CHECKS
        self.connection.transport.cycle.maybe_check_subclient_health()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Proxy]:
    """The way to Redis, which a test may break."""
    behind = Path(urlsplit(settings.CELERY_BROKER_URL.replace("%2F", "/")).path)
    with proxy(tmp_path / "r.sock", behind) as made:
        yield made


@pytest.fixture
def listener(network: Proxy) -> Iterator[Listener]:
    with ExitStack() as stack:
        options = {"socket_timeout": PATIENCE}
        url = f"redis+socket://{network.address}?{urlsplit(settings.CELERY_BROKER_URL).query}"
        made = Listener(EagerConnection(url, transport_options=options))
        stack.callback(made.hub.close)
        stack.enter_context(made.connection)
        made.begin()
        yield made


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://", PromptRedis),
        ("rediss://", PromptRedis),
        ("redis+socket:///r.sock", PromptRedis),
        ("sentinel://", PromptSentinel),
    ],
)
def test_every_kind_of_redis_is_read_so(url: str, transport: type) -> None:
    assert EagerConnection(url).get_transport_cls() is transport


def test_a_connection_that_a_child_keeps_open_is_not_taken_for_the_next(listener: Listener) -> None:
    number = listener.channel.subclient.connection._sock.fileno()
    kept = os.dup(number)

    listener.miss_answers()
    for _ in range(10):
        listener.hub.run_once()
    listener.say("again")
    listener.until(lambda: "again" in listener.heard)

    assert listener.channel.subclient.connection._sock.fileno() == number
    assert listener.hub.poller.poll(0) == []
    os.close(kept)


def test_nothing_is_waited_for_where_the_kernel_tells_of_something(listener: Listener) -> None:
    number = listener.channel.subclient.connection._sock.fileno()

    listener.connection.transport.on_readable(number)

    assert listener.heard == ["hello"]


def test_half_a_message_is_waited_for_as_long_as_any_answer(
    network: Proxy, listener: Listener
) -> None:
    network.halve_an_answer()
    listener.say("unheard")
    began = time.monotonic()

    with pytest.raises(listener.connection.connection_errors):
        listener.until(lambda: False)

    assert time.monotonic() - began < PATIENCE * 5
    assert listener.heard == ["hello"]


def test_what_a_child_lets_go_of_stays_in_its_parents_loop(listener: Listener) -> None:
    connection = listener.channel.subclient.connection
    number = connection._sock.fileno()
    the_parents = os.dup(number)
    connection.pid = os.getppid()

    connection.disconnect()
    listener.say("still here")

    [(told, _)] = listener.hub.poller.poll(PATIENCE)
    assert told == number
    os.close(the_parents)


def test_what_flower_is_told_waits_for_no_broker_that_is_silent(network: Proxy) -> None:
    with app.connection_for_write(f"redis+socket://{network.address}") as connection:
        dispatcher = app.events.Dispatcher(connection, "worker@here")
        dispatcher.send("worker-online")
        network.stall()
        began = time.monotonic()

        dispatcher.send("worker-heartbeat", retry=True)

    assert time.monotonic() - began < SENT_WITHIN * 5
    network.resume()
