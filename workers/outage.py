"""Outlast an outage: what a worker has to say to the database is kept, and said when it is back.

Only the end of the process ends the waiting. Meanwhile the message stays unacknowledged, and the
log has one line when the outage begins and one when it is over (`workflows.store.trouble`). Each
try has its own connection: Django keeps one that is known to be lost, and fails on it for ever.
"""

import time
from collections.abc import Callable
from random import Random, SystemRandom
from typing import TypeVar

from django.db import connection

from workflows import store
from workflows.store import Cure

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 1.0, 2.0
"""Seconds between two tries: few, for a lease waits only so long for its worker to come back."""

CHANCE: Random = SystemRandom()


def outlast(call: Callable[[bool], T]) -> T:
    """Call until the database has done it, whatever that takes; what it will never do is raised.

    The call is told whether an earlier one may have come through without being heard of.
    """
    tries = 0
    while True:
        try:
            result = call(tries > 0)
        except store.ERRORS as error:
            cure = store.cure_of(error)
            if cure is None:
                raise
            store.outage.note(error)
            if cure is Cure.LATER and not connection.in_atomic_block:
                connection.close()
        else:
            if tries:
                store.outage.over()
            return result
        time.sleep(pause_after(tries, CHANCE))
        tries += 1


def pause_after(tries: int, chance: Random) -> float:
    """Return the seconds to wait: longer each time up to a second, and for each process another."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(tries, 10))
    return chance.uniform(longest / 2, longest)
