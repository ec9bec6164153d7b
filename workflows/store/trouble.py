"""What a database says when it cannot do what it was asked: whether another try can help, and when.

`CURES` is the one table of that. An outage is told to the log in one line when it is first met by
a process and in one when it is over, however many tries lie between.
"""

import time
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import psycopg
import structlog
from django.db import Error, InterfaceError, OperationalError, connection

log = structlog.get_logger(__name__)

ERRORS = (psycopg.Error, Error)
"""What the database raises, through the store or past it."""

LINE_EVERY = 60.0
"""Seconds of an outage after which a process that still meets it says so again."""


class Cure(Enum):
    """What helps: nothing else than time, or not even that."""

    AT_ONCE = "at once"
    """The transaction stood in another's way and was undone: it may simply be repeated."""

    LATER = "later"
    """The database is away, or takes nothing now: the same may be good when it is back."""


CURES: Mapping[str, Cure] = MappingProxyType(
    {
        "40001": Cure.AT_ONCE,  # serialization failure
        "40P01": Cure.AT_ONCE,  # deadlock
        "55P03": Cure.AT_ONCE,  # a lock was not to be had in time
        "57014": Cure.AT_ONCE,  # the statement was cancelled
        "08": Cure.LATER,  # the connection failed
        "25006": Cure.LATER,  # read-only: this is a standby, or no longer the primary
        "53": Cure.LATER,  # too many connections, no memory, the disk is full
        "57P01": Cure.LATER,  # an administrator ended the connection, or the server
        "57P02": Cure.LATER,  # another connection crashed
        "57P03": Cure.LATER,  # starting up, in recovery, shutting down
        "57P05": Cure.LATER,  # the connection was idle for too long
        "58": Cure.LATER,  # the server's own files or system failed it
    }
)
"""By SQLSTATE, or its first two characters for a whole class. Nothing else is ever repeated."""


def cure_of(error: BaseException) -> Cure | None:
    """Return what helps against an error of the database, None when nothing does.

    An operational error without a state comes from the client's side: no connection could be had,
    or the one there was is gone.
    """
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return CURES.get(state) or CURES.get(state[:2])
    if isinstance(error, (psycopg.OperationalError, OperationalError)):
        return Cure.LATER
    lost = isinstance(error, (psycopg.InterfaceError, InterfaceError)) and _is_closed()
    return Cure.LATER if lost else None


def _is_closed() -> bool:
    conn = connection.connection
    return conn is None or bool(conn.closed)


class Outage:
    """What this process knows of an outage that it is in the middle of."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._said = self._met = 0.0

    def note(self, error: BaseException) -> None:
        """Say that the database cannot be used, but not again for every try."""
        now = time.monotonic()
        if self._began is None or now - self._met > LINE_EVERY:
            self._began = self._said = now
        elif now - self._said < LINE_EVERY:
            self._met = now
            return
        self._met = self._said = now
        [reason, *_] = str(error).strip().splitlines() or [type(error).__name__]
        log.warning("database.away", seconds=round(now - self._began, 1), error=reason)

    def over(self) -> None:
        """Say that the database can be used again, if it could not."""
        began, self._began = self._began, None
        if began is not None:
            log.warning("database.back", seconds=round(time.monotonic() - began, 1))


outage = Outage()
