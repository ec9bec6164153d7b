"""Kombu's Redis transport for an event loop that never waits for what may not come.

A worker whose loop waits takes nothing, and hears no SIGTERM. Kombu 5.7 reads what is said to all
workers without any limit, as soon as the kernel tells that there is something. It may tell so for
ever of a connection that is gone: a process of the pool that was forked meanwhile has it as well,
so closing it is not the end of it, and its number is that of the next connection. So a connection
leaves the loop before it is closed; only what is there is read; and the rest of it has the time
that any answer has (`socket_timeout`).
"""

import os
from typing import Any

from kombu.transport import redis


class _Parting:
    """A connection to Redis that leaves its channel's event loop while it can be told by number."""

    channel: "_Prompt"
    pid: int

    def disconnect(self, *args: Any, **options: Any) -> None:
        """Leave the loop, then close; a child has the parent's loop, and must not touch it."""
        if os.getpid() == self.pid:
            self.channel.forget(self)
        super().disconnect(*args, **options)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer within `socket_timeout` where redis-py would wait for ever."""
        if options.get("timeout", ...) is None:
            del options["timeout"]
        return super().read_response(*args, **options)  # type: ignore[misc]


class _Prompt:
    """A channel that reads nothing that has not come."""

    subclient: Any
    _registered: bool
    _on_connection_disconnect: Any

    def forget(self, connection: _Parting) -> None:
        """Have the loop forget a connection."""
        if self._registered:
            self._on_connection_disconnect(connection)

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        if asynchronous:
            bases = (_Parting, found["connection_class"])
            found["connection_class"] = type("Connection", bases, {"channel": self})
        return found

    def _receive(self) -> bool:
        connection = self.subclient.connection
        if connection is None or not connection.can_read(timeout=0):
            return False
        return bool(super()._receive())  # type: ignore[misc]


class PromptChannel(_Prompt, redis.Channel):
    """Of Redis."""


class PromptSentinelChannel(_Prompt, redis.SentinelChannel):
    """Of Redis behind sentinels."""


class PromptRedis(redis.Transport):
    """Redis."""

    Channel = PromptChannel


class PromptSentinel(redis.SentinelTransport):
    """Redis behind sentinels."""

    Channel = PromptSentinelChannel
