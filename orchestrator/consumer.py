"""What keeps a worker alive without its broker: nothing of the lost connection is used again."""

from typing import Any

from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.transport import get_transport_cls

PROMPT = {
    "redis": "orchestrator.transport:PromptRedis",
    "rediss": "orchestrator.transport:PromptRedis",
    "sentinel": "orchestrator.transport:PromptSentinel",
}
"""The transports by kombu's name for which there are better ones, which are loaded when used."""

EVENTS_EVERY = 0.5
"""Seconds for which task events are gathered."""


class SteadyConsumer(Consumer):
    """Celery's consumer, but steps under way survive the loss of its connection.

    Kombu 5.7 gives unacknowledged messages back, and acknowledges what ends later, through the
    connection that it has thrown away already; either error ends the worker and every step that
    it carries out. A message that comes a second time is harmless: it meets the fence.

    And what Flower is told is gathered: Celery publishes task events after every message, which
    was half of what a worker's parent process did (docs/performance.md).
    """

    task_consumer: Any
    hub: Any
    _flush_events: Any
    _is_gathering: bool = False

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Let go of the connection, and of whatever was to be said through it."""
        if self.task_consumer is not None:
            channel = self.task_consumer.channel
            channel.do_restore = False
            channel.basic_ack = channel.basic_reject = _say_nothing
        super().on_connection_error_after_connected(exc)

    def on_send_event_buffered(self) -> None:  # type: ignore[override] # the stubs are wrong
        """Have the gathered events sent soon."""
        if self.hub is not None and not self._is_gathering:
            self._is_gathering = True
            self.hub.call_later(EVENTS_EVERY, self._send_gathered)

    def _send_gathered(self) -> None:
        self._is_gathering = False
        self._flush_events()


class EagerConnection(Connection):
    """Kombu's connection, but whoever waits for the broker looks every other second, not every 30.

    The broker is ours, and there are not so many of us.
    """

    transport_cls: Any

    def get_transport_cls(self) -> Any:
        """Return the transport; for Redis one of ours."""
        if self.transport_cls in PROMPT:
            return get_transport_cls(PROMPT[self.transport_cls])
        return super().get_transport_cls()

    def ensure_connection(self, *args: Any, **options: Any) -> "EagerConnection":
        """Wait until there is a connection."""
        soon = {"interval_start": 1, "interval_step": 1, "interval_max": 2}
        return super().ensure_connection(*args, **(soon | options))


class PassingDispatcher(EventDispatcher):
    """Tells Flower once; what is not heard is told with the next connection.

    Celery tries for ever to have its heartbeat heard. In its event loop: a worker whose broker
    says nothing then hears no SIGTERM either.
    """

    def _publish(self, *args: Any, **options: Any) -> Any:
        return super()._publish(*args, **options | {"retry": False})  # type: ignore[misc]


class PassingEvents(Events):
    """Celery's events, told in passing."""

    dispatcher_cls = f"{__name__}:PassingDispatcher"


def _say_nothing(*_: Any, **__: Any) -> None:
    """Neither acknowledge nor reject."""
