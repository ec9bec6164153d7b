"""Celery's consumer, but for one thing: what Flower is told goes out twice a second.

Celery publishes its buffered task events after every message, which was half of what a
worker's parent process did (docs/performance.md).
"""

from celery.worker.consumer import Consumer as CeleryConsumer

EVENTS_EVERY = 0.5
"""Seconds for which task events are gathered."""


class Consumer(CeleryConsumer):
    """The consumer of every worker of ours."""

    _flush_is_due = False

    def on_send_event_buffered(self) -> None:
        """Have the gathered events sent soon."""
        if self.hub is not None and not self._flush_is_due:
            self._flush_is_due = True
            self.hub.call_later(EVENTS_EVERY, self._flush_gathered)

    def _flush_gathered(self) -> None:
        self._flush_is_due = False
        self._flush_events()
