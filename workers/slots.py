"""The memory that the processes of one worker share: who sits where, and until when it may work.

Made before the worker forks. Every process of the pool has a place, which it alone writes, without
a lock and in well under a microsecond. So a step can be watched by somebody who needs nothing of
the process that carries it out, neither its attention nor its interpreter lock; and whoever gets
the place of a process that died knows whom it follows, and whether that one had overrun.
Times are of `time.monotonic()`, which all processes of a machine share.
"""

import mmap
import os
import secrets
import time
from dataclasses import dataclass

PLACES = 512
"""As many as WORKER_CONCURRENCY can be."""

NOBODY = 0
"""The place of a process that is not one of a pool: it is written, and nobody looks at it."""

FAMILY = secrets.token_hex(3)
"""Tells the processes of this worker from all others, also from those before a restart."""


@dataclass(frozen=True, slots=True)
class Seat:
    """A process and its limit: when the step that it carries out must have ended; 0 for none."""

    pid: int
    limit: float

    def overran(self, now: float) -> bool:
        """Say whether its step should have ended."""
        return 0 < self.limit <= now


class Slots:
    """The shared memory: a word that says whether to stop, then pid and limit of every place."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * (3 + 2 * PLACES))).cast("d")
        self._mine = NOBODY

    def take(self, place: int) -> Seat | None:
        """Sit down on a place, counted from 0; return who sat there before."""
        if not 0 <= place < PLACES:
            return None
        words, mine = self._words, 1 + 2 * (place + 1)
        before = Seat(int(words[mine]), words[mine + 1])
        words[mine + 1], words[mine] = 0.0, os.getpid()
        self._mine = mine
        return before if before.pid else None

    def mark(self, limit: float) -> None:
        """Say until when the step of this process may take; 0 when it has ended."""
        self._words[self._mine + 1] = limit

    def overdue(self, *, grace: float) -> frozenset[Seat]:
        """Return who is past its limit by more than `grace` seconds."""
        words, latest = self._words, time.monotonic() - grace
        return frozenset(
            Seat(int(words[3 + 2 * place]), limit)
            for place, limit in enumerate(words[4::2].tolist())
            if 0 < limit <= latest
        )

    def stop(self) -> None:
        """Tell all processes that the worker is stopping."""
        self._words[0] = 1.0

    @property
    def stopping(self) -> bool:
        """Say whether the worker is stopping: what runs may finish, nothing new is begun."""
        return self._words[0] != 0


def names_of(hostname: str, pid: int | None = None) -> str:
    """Return what all names begin with that a process gives itself; this one without a `pid`."""
    return f"{family_of(hostname)}{pid or os.getpid()}-"


def family_of(hostname: str) -> str:
    """Return what the names of all processes of this worker begin with."""
    return f"{hostname}/{FAMILY}."


def process_of(name: str) -> str:
    """Return what all names begin with that the process of this one gives itself."""
    return name.rpartition("-")[0]


def host_of(name: str) -> str:
    """Return the worker, by the name that Celery knows it by, that a name belongs to."""
    return name.partition("/")[0]


slots = Slots()
