"""Another try, at once, where that may help: after a deadlock, or on a new connection."""

from collections.abc import Callable
from typing import TypeVar

from django.db import connection

from workflows import store
from workflows.store import Cure

T = TypeVar("T")

TRIES = 5


def patiently(
    once: Callable[[], T], recall: Callable[[], T | None] | None = None, *, again: bool = False
) -> T:
    """Do what is a transaction of its own; again, at once, where that may help.

    A commit may come through although nobody hears the answer. So before another try `recall`
    is asked what came of the last one, and returns None if nothing did; with `again`, a try of
    an earlier call is meant. Who can wait for a database that is away does so further up.
    """
    for tries in range(TRIES):
        try:
            found = recall() if recall is not None and (again or tries) else None
            return once() if found is None else found
        except store.ERRORS as error:
            cure = store.cure_of(error)
            if cure is Cure.LATER and not connection.in_atomic_block:
                connection.close()
            elif cure is not Cure.AT_ONCE:
                raise
            if tries == TRIES - 1:
                raise
    raise AssertionError(TRIES)
