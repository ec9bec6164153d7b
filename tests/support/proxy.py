"""A proxy before PostgreSQL or Redis that does what networks do: cut, stall, refuse, lose answers.

What is accepted is forwarded byte by byte, on unix sockets or TCP. An answer can be lost after the
server has done what it was asked: then the server knows, and the client does not.
"""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Address = Path | tuple[str, int]

CHUNK = 65536
TURNS = 3
"""Turns of the loop that a connection takes from being accepted to being somebody's task."""

SOCKET_OF_POSTGRESQL = ".s.PGSQL.5432"


class Proxy:
    """Forwards connections from one address to another until told otherwise."""

    def __init__(self, listen: Address, target: Address) -> None:
        self._listen = listen
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._flowing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answers_until_loss: int | None = None
        self._lost = 0
        self._halving = False

    @property
    def address(self) -> Address:
        """Where the proxy listens: for TCP with the port that was free."""
        if isinstance(self._listen, Path):
            return self._listen
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    @property
    def lost(self) -> int:
        """How many answers were lost."""
        return self._lost

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._do(self._open())

    def stop(self) -> None:
        """Close everything."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Close every connection there is; new ones are welcome."""
        self._do(self._cut())

    def refuse(self) -> None:
        """Close every connection there is and take no new one, as a server that is gone."""
        self._do(self._refuse())

    def stall(self) -> None:
        """Forward nothing any more, but take what is sent: a network that swallows."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def resume(self) -> None:
        """Be a good network again, which loses no answer either."""
        self._answers_until_loss = None
        self._do(self._resume())

    def lose_an_answer(self, *, after: int = 0) -> None:
        """Let so many answers pass; keep the next one back and close its connection.

        An answer is what a server sends at once. PostgreSQL answers a statement, or a connection,
        when it is done with it; in psycopg's pipeline mode it may have several for a transaction.
        """
        self._answers_until_loss = after

    def halve_an_answer(self) -> None:
        """Let half of the next answer pass, and keep the rest of it back."""
        self._halving = True

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _open(self) -> None:
        self._flowing.set()
        await self._resume()

    async def _resume(self) -> None:
        self._flowing.set()
        if self._server is not None:
            return
        if isinstance(self._listen, Path):
            self._server = await asyncio.start_unix_server(self._accept, self._listen)
        else:
            host, port = self._listen
            self._server = await asyncio.start_server(self._accept, host, port)
            self._listen = host, self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if isinstance(self._listen, Path):
            self._listen.unlink(missing_ok=True)
        await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _close(self) -> None:
        await self._refuse()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        try:
            if isinstance(self._target, Path):
                behind = await asyncio.open_unix_connection(self._target)
            else:
                behind = await asyncio.open_connection(*self._target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        self._forward(reader, behind[1], self._pass_on)
        self._forward(behind[0], writer, self._answer)

    def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send: Callable[[asyncio.StreamWriter, bytes], None],
    ) -> None:
        self._writers.add(writer)
        self._keep(self._loop.create_task(self._pump(reader, writer, send)))

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send: Callable[[asyncio.StreamWriter, bytes], None],
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                send(writer, data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _pass_on(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)

    def _answer(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self._answers_until_loss == 0:
            self._answers_until_loss = None
            self._lost += 1
            writer.transport.abort()
            return
        if self._answers_until_loss is not None:
            self._answers_until_loss -= 1
        if self._halving:
            self._halving, data = False, data[: len(data) // 2]
        writer.write(data)


@contextlib.contextmanager
def proxy(listen: Address, target: Address) -> Iterator[Proxy]:
    """Have a proxy until the block ends."""
    made = Proxy(listen, target)
    made.start()
    try:
        yield made
    finally:
        made.stop()


@contextlib.contextmanager
def proxied_database() -> Iterator[Proxy]:
    """Have this process reach the database of the tests through a proxy until the block ends."""
    from django.db import connection

    facts = connection.settings_dict
    behind = facts["HOST"]
    with tempfile.TemporaryDirectory() as folder:
        listen = Path(folder, SOCKET_OF_POSTGRESQL)
        with proxy(listen, Path(behind, SOCKET_OF_POSTGRESQL)) as made:
            connection.close()
            facts["HOST"] = folder
            try:
                yield made
            finally:
                facts["HOST"] = behind
                connection.close()
