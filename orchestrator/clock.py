"""The clock: django-celery-beat's scheduler, frugal, and brief about what is away.

While the database is away it goes on with the schedule it has. The library's own writes a
traceback at every look then, and ends when its full look comes in the middle of an outage.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from celery.beat import SchedulingError
from django.db import DatabaseError, InterfaceError, connection
from django_celery_beat.schedulers import SCHEDULE_SYNC_MAX_INTERVAL, DatabaseScheduler

from workflows.store import outage

log = structlog.get_logger(__name__)

LOOKS_EVERY = 5.0
"""Seconds between two looks at whether somebody has changed the schedule."""


class Clock(DatabaseScheduler):
    """Looks for changes now and then, not several times for each message; keeps what it has.

    A message that the broker does not take is not kept: the next one does the same.
    """

    _looks_at = 0.0
    _away = False

    def schedule_changed(self) -> bool:
        """Say whether the schedule has changed, as far as was looked."""
        now = time.monotonic()
        if now < self._looks_at:
            return False
        self._looks_at = now + LOOKS_EVERY
        return database_answers() and bool(super().schedule_changed())

    @property
    def schedule(self) -> Mapping[str, Any]:
        """The schedule; while the database is away, as it was last known."""
        known: Mapping[str, Any] | None = self._schedule
        try:
            found: Mapping[str, Any] = super().schedule
        except (DatabaseError, InterfaceError) as error:
            if known is None:
                raise
            outage.note(error)
            # The look that failed is made again soon, and not in five minutes.
            ago = timedelta(seconds=SCHEDULE_SYNC_MAX_INTERVAL - LOOKS_EVERY)
            self._last_full_sync = datetime.now() - ago  # noqa: DTZ005 - as naive as the library's
            return known
        return found

    def sync(self) -> None:
        """Write down when each entry ran last; while the database is away, another time."""
        if database_answers():
            super().sync()

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send what is due; of an outage, its beginning and its end are logged."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
        except SchedulingError as error:
            if not self._away:
                log.warning("clock.broker_away", task=entry.task, error=str(error))
            self._away = True
        else:
            if self._away:
                log.warning("clock.broker_back", task=entry.task)
            self._away = False


def database_answers() -> bool:
    """Say whether the database can be used, if need be on a new connection."""
    try:
        connection.ensure_connection()
        if not connection.is_usable():
            connection.close()
            connection.ensure_connection()
    except (DatabaseError, InterfaceError) as error:
        outage.note(error)
        return False
    outage.over()
    return True
