"""The clock: django-celery-beat's scheduler, frugal, and brief about a broker that is away."""

import time
from typing import Any

import structlog
from celery.beat import SchedulingError
from django_celery_beat.schedulers import DatabaseScheduler

log = structlog.get_logger(__name__)

LOOKS_EVERY = 5.0
"""Seconds between two looks at whether somebody has changed the schedule."""


class Clock(DatabaseScheduler):
    """Looks for changes now and then, not several times for each message.

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
        return bool(super().schedule_changed())

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
