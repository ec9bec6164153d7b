"""A way to PostgreSQL that can be cut just after a commit: the answer is lost, the commit is not.

A connection is cut when it has sent a decision and the server has answered that it stands outside
of a transaction again: so what was sent is committed, and its sender never hears of that.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

DECISION = b'"rounds"'
"""What the parameters of a commit contain, and nothing else that is sent."""

IDLE = b"Z\x00\x00\x00\x05I"
"""ReadyForQuery, idle: the last message of an answer (PostgreSQL, Message Formats)."""

CHUNK = 65536
TURNS = 3
"""Turns of the loop that a connection takes to be closed."""


@dataclass(slots=True)
class Cutter:
    """The proxy; `cuts` counts the connections that were cut so."""

    server: Path
    mark: bytes = DECISION
    port: int = 0
    armed: int = 0
    cuts: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def cut_commits(self, count: int) -> None:
        """Cut the next so many connections that commit."""
        self.armed += count

    def disarm(self) -> None:
        """Cut no more."""
        self.armed = 0

    async def _serve(self, started: threading.Event) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(self.server))
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        connection = _Connection(self)
        await asyncio.gather(
            connection.up(reader, back, writer), connection.down(there, writer, back)
        )


@dataclass(slots=True)
class _Connection:
    cutter: Cutter
    decided: bool = False

    async def up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
    ) -> None:
        with _until_over(writer, other):
            while data := await reader.read(CHUNK):
                self.decided = self.decided or self.cutter.mark in data
                writer.write(data)
                await writer.drain()

    async def down(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
    ) -> None:
        with _until_over(writer, other):
            while data := await reader.read(CHUNK):
                if data.endswith(IDLE):
                    if self.decided and self.cutter.armed > 0:
                        self.cutter.armed -= 1
                        self.cutter.cuts += 1
                        break
                    self.decided = False
                writer.write(data)
                await writer.drain()


@contextmanager
def _until_over(*ends: asyncio.StreamWriter) -> Iterator[None]:
    """Close both ends of a connection when one is lost, or nobody is served any more."""
    try:
        with suppress(OSError):
            yield
    finally:
        for end in ends:
            end.transport.abort()


async def _leave() -> None:
    """End what is being done, and see every connection closed."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for _ in range(TURNS):
        await asyncio.sleep(0)


@contextmanager
def cutter(server: Path, *, mark: bytes = DECISION) -> Iterator[Cutter]:
    """Serve at a port of this machine what leads to the server's socket.

    A commit that counts is one of a transaction in which the `mark` was sent.
    """
    made, started = Cutter(server, mark), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(made._loop)
        with suppress(asyncio.CancelledError, RuntimeError):
            made._loop.run_until_complete(made._serve(started))
        made._loop.run_until_complete(_leave())
        made._loop.close()

    thread = threading.Thread(target=run, name="cutter", daemon=True)
    thread.start()
    started.wait(10)
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._loop.stop)
        thread.join(10)
