"""The time, as the database has it: the machines of a platform need not agree about theirs.

Read every few seconds, and carried on by the monotonic clock, which nobody sets. So a machine whose
clock is wrong, or is set right while it works, neither loses leases nor keeps those of the dead.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic

import psycopg
from django.db import DatabaseError
from django.utils import timezone

from workflows.store.session import cursor

READ = "SELECT clock_timestamp()"
READ_EVERY = 10.0
"""Seconds; what the two clocks drift apart in so long is nothing."""

AGAIN_AFTER = 1.0
"""Seconds until the next try when the database could not be asked."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database's clock said, and when that was on the monotonic clock."""

    time: datetime
    taken: float

    def now(self) -> datetime:
        """Return what it says by now."""
        return self.time + timedelta(seconds=monotonic() - self.taken)


@dataclass(slots=True)
class Clock:
    """The last reading, and when the next one is due."""

    reading: Reading | None = None
    due: float = 0.0

    def now(self) -> datetime:
        """Return the time; where the database has never answered, this machine's."""
        if monotonic() >= self.due:
            self._read()
        return timezone.now() if self.reading is None else self.reading.now()

    def _read(self) -> None:
        self.due = monotonic() + AGAIN_AFTER
        with suppress(psycopg.Error, DatabaseError):
            connected = cursor()  # which may take long, and is no part of the question
            asked = monotonic()
            row = connected.execute(READ).fetchone()
            answered = monotonic()
            if row is not None:
                self.reading = Reading(row[0], (asked + answered) / 2)
                self.due = answered + READ_EVERY


clock = Clock()
"""This process's. A fork may go on with it: the monotonic clock is the machine's."""


def now() -> datetime:
    """Return the time of the database."""
    return clock.now()
