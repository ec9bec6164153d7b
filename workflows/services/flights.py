"""Flights: transactions of services. What is made ready in one is sent after its commit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

from django.db import connection, transaction

from workflows import store
from workflows.dispatch import Dispatch
from workflows.services import outbox
from workflows.services.patience import patiently

T = TypeVar("T")

_outbox: ContextVar[list[Dispatch] | None] = ContextVar("outbox", default=None)
"""What is to be sent after the commit of the current flight; None outside of one."""


def in_transaction(work: Callable[[], T]) -> T:
    """Do the work in one transaction of Django's; again after a deadlock or a lost connection.

    What was committed before the connection was lost is met by the second try as late: the
    fence tells, and it changes nothing.
    """

    def once() -> T:
        with transaction.atomic():
            return work()

    return patiently(once)


def once_in_transaction(work: Callable[[], T]) -> T:
    """Do the same for what is refused where it has been done: what has come through is known again.

    A commit may come through although nobody hears the answer. The transaction's own number tells,
    and its result is returned, not the refusal of what it has done itself. What the work hands to
    `send` is sent then too.
    """
    if connection.in_atomic_block:
        return in_transaction(work)
    done: list[tuple[str, T]] = []
    ready: list[Dispatch] = []

    def once() -> T:
        done.clear()
        with gathering(ready), transaction.atomic():
            result = work()
            done.append((store.own_number(), result))
        return result

    def recall() -> T | None:
        return next((result for number, result in done if store.has_committed(number)), None)

    result = patiently(once, recall)
    outbox.send(list(dict.fromkeys(ready)))
    return result


def in_flight(
    work: Callable[[], T], recall: Callable[[], T | None] | None = None, *, again: bool = False
) -> T:
    """Do the work, which asks the store alone, in one transaction of few round trips.

    What any of the tries made ready is sent: the one that was not heard of may have come through.
    """
    ready: list[Dispatch] = []

    def once() -> T:
        if connection.in_atomic_block:
            return in_transaction(work)
        with gathering(ready), store.flight():
            return work()

    result = patiently(once, recall, again=again)
    outbox.send(list(dict.fromkeys(ready)))
    return result


def send(dispatches: Sequence[Dispatch]) -> None:
    """Have messages sent after the commit."""
    flying = _outbox.get()
    if flying is not None:
        flying += dispatches
    elif dispatches:
        transaction.on_commit(partial(outbox.send, dispatches))


@contextmanager
def gathering(ready: list[Dispatch]) -> Iterator[None]:
    """Gather what is to be sent, for whoever sends it."""
    token = _outbox.set(ready)
    try:
        yield
    finally:
        _outbox.reset(token)
