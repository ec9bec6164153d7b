"""The lookout: beat itself looks whether anything is due, and does what the engine is late with.

Every second one statement tells whether a timer is due, and only then the engine is asked to tick:
the question costs a tenth of the answer, and it mostly is no. That, and every sweep, comes to the
engine as a message, which needs Redis and the engine's worker. Without either, expired leases and
due retries would wait for both; but all they need is the database. So where somebody is late, this
thread of beat sweeps.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count

import structlog

from workers.outage import outlast
from workers.publisher import CeleryPublisher
from workflows import store
from workflows.services import recovery

log = structlog.get_logger(__name__)

LOOK_EVERY = 1.0
LATE_LOOK_EVERY = 3
"""Of so many looks, one also asks whether somebody is late."""

LATE = timedelta(seconds=6)
"""How long what is due is left to the engine, which looks every five seconds."""


def begin() -> None:
    """Keep a lookout until the process ends."""
    threading.Thread(target=_run, name="lookout", daemon=True).start()


def look(*, now: datetime, tick: Callable[[], None]) -> None:
    """Have the engine tick if a timer is due; while there is no broker, what is due gets late."""
    if store.any_due(now=now):
        with suppress(OSError):
            tick()


def look_for_late(*, now: datetime) -> list[str]:
    """Sweep if something is late, and return what was done."""
    if not store.is_overdue(now - LATE):
        return []
    return recovery.recover(now=now).lines


def _run() -> None:
    tick = CeleryPublisher().ask_to_tick
    for turn in count(1):
        time.sleep(LOOK_EVERY)
        try:
            outlast(lambda _: look(now=store.now(), tick=tick))
            if turn % LATE_LOOK_EVERY == 0:
                for line in outlast(lambda _: look_for_late(now=store.now())):
                    log.warning("lookout.swept", did=line)
        except Exception:
            log.exception("lookout.trouble")
