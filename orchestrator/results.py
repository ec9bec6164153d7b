"""Where chords are counted. Nobody waits for a result, so none is subscribed to.

Celery's own Redis backend subscribes whoever sends to the result of each task that keeps one: a
connection more, two commands more for each, and an error that asks for a restart when Redis goes.
"""

from typing import Any

from celery.backends.redis import RedisBackend, SentinelBackend


class Unawaited:
    """Has whoever sends forget the result at once; workers store it and count as ever."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Do nothing."""

    def add_pending_result(self, result: Any, weak: bool = False, **_: Any) -> Any:  # noqa: ARG002
        """Return the result; the signature is Celery's."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Return the result."""
        return result


class UnawaitedRedis(Unawaited, RedisBackend):
    """Redis."""


class UnawaitedSentinel(Unawaited, SentinelBackend):
    """Redis behind sentinels."""
