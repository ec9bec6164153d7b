"""The seam between a process and its database, where a test can cut.

Whatever the store and Django tell PostgreSQL passes through a psycopg cursor or `commit`: a
*call*. The seam counts the calls; at the one it was told of, the process ends: before the server
has heard of the call, or after it has answered but before the caller hears.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import current_thread, main_thread
from typing import Any
from unittest.mock import patch

import psycopg
from django.db import connection


class Crash(BaseException):
    """The process is no more. No exception of the program's: nothing of it may catch this."""


def crash() -> None:
    """End this process as far as its database can tell: the connection is gone, unfinished."""
    conn = connection.connection
    if conn is not None:
        conn.pgconn.finish()
    raise Crash


@dataclass(slots=True)
class Seam:
    """Counts the calls of the main thread, and ends the process at one of them."""

    calls: int = 0
    end: Callable[[], None] = crash
    log: list[str] = field(default_factory=list)
    has_ended: bool = False
    """Whether the process that was last to be cut has ended, also after it was mended."""
    _cut: int | None = None
    _after: bool = False

    @property
    def has_cut(self) -> bool:
        """Whether the process has ended at the call that it was to end at."""
        return self._cut is not None and self.calls >= self._cut

    def cut(self, call: int, *, after: bool) -> None:
        """Have the process end at the `call`-th call from now, before it or after it."""
        self.calls, self._cut, self._after, self.has_ended = 0, call, after, False
        self.log.clear()

    def mend(self) -> None:
        """Have the process go on, or another begin."""
        self._cut = None

    def pass_on(self, said: str, call: Callable[[], Any], conn: psycopg.Connection[Any]) -> Any:
        """Let one call through, unless it is the one to end at, or the process has ended."""
        if current_thread() is not main_thread():
            return call()
        if self.has_cut:
            raise Crash
        self.calls += 1
        self.log.append(" ".join(said.split())[:70])
        if not self.has_cut:
            return call()
        self.has_ended = True
        if self._after:
            call()
            if conn._pipeline is not None:
                conn._pipeline.sync()
        return self.end()


@contextmanager
def seam() -> Iterator[Seam]:
    """Have all calls of this process pass through a seam."""
    made = Seam()
    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit

    def seamed_execute(cursor: Any, query: Any, *values: Any, **keys: Any) -> Any:
        return made.pass_on(
            str(query), lambda: execute(cursor, query, *values, **keys), cursor.connection
        )

    def seamed_commit(conn: Any) -> None:
        made.pass_on("COMMIT", lambda: commit(conn), conn)

    with (
        patch.object(psycopg.Cursor, "execute", seamed_execute),
        patch.object(psycopg.Connection, "commit", seamed_commit),
    ):
        yield made
