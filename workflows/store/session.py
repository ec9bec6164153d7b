"""The connection that the store speaks through, and its transactions of few round trips."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from psycopg.pq import TransactionStatus

Row = tuple[Any, ...]

STATUS = "SELECT pg_xact_status(%(number)s::xid8)"
LOOKS = 10
BETWEEN_LOOKS = 0.05
"""Seconds between two looks whether a transaction is over."""


def session() -> psycopg.Connection[Row]:
    """Return the connection of the current transaction; a new one where the last was lost."""
    here = connections[DEFAULT_DB_ALIAS]
    if here.connection is not None and here.connection.closed and not here.in_atomic_block:
        here.close()
    here.ensure_connection()
    return cast("psycopg.Connection[Row]", here.connection)


@contextmanager
def flight() -> Iterator[None]:
    """Hold a transaction whose BEGIN and COMMIT travel with its first and last statements.

    Inside it only this module may speak to the database: the connection is in psycopg's
    pipeline mode. Inside a transaction of Django's it is a savepoint of that.
    """
    if connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    conn = session()
    try:
        with conn.pipeline():
            cursor().execute("BEGIN", prepare=True)
            yield
            cursor().execute("COMMIT", prepare=True)
    finally:
        if not conn.closed and conn.info.transaction_status is not TransactionStatus.IDLE:
            conn.execute("ROLLBACK")


def cursor() -> psycopg.Cursor[Row]:
    """Return a cursor that sends values apart from the statement."""
    return psycopg.Cursor(session())


def own_number() -> str:
    """Return the number of this transaction, by which it can be asked for when it is over."""
    [(number,)] = cursor().execute("SELECT pg_current_xact_id()::text").fetchall()
    return str(number)


def has_committed(number: str) -> bool:
    """Say whether a transaction that nobody has heard of has committed.

    The server may be at it still when its client is gone; not for long. One that has taken over
    from another may not have had it. Raises OperationalError where nobody can tell yet.
    """
    for _ in range(LOOKS):
        try:
            [(status,)] = cursor().execute(STATUS, {"number": number}).fetchall()
        except psycopg.errors.InvalidParameterValue:
            return False
        if status != "in progress":
            return bool(status == "committed")
        time.sleep(BETWEEN_LOOKS)
    raise OperationalError(f"The transaction {number} is neither committed nor aborted yet.")


def act_as(actor: str) -> None:
    """Have the changes of this transaction be `actor`'s in the journal."""
    cursor().execute("SELECT set_config('orchestrator.actor', %s, true)", (actor,), prepare=True)
