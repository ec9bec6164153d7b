"""The lookout: beat itself does what is overdue when the engine has not.

A sweep usually comes as a message, which needs Redis and the engine's worker. Without either,
expired leases and due retries would wait for both; but all they need is the database. So a thread
of beat looks now and then, with one statement, and sweeps only where somebody is late.
"""

import threading
import time
from datetime import datetime, timedelta

import structlog

from workers.outage import outlast
from workflows import store
from workflows.services import recovery

log = structlog.get_logger(__name__)

LOOK_EVERY = 3.0
LATE = timedelta(seconds=6)
"""How long what is due is left to the engine, which looks every five seconds."""


def begin() -> None:
    """Keep a lookout until the process ends."""
    threading.Thread(target=_run, name="lookout", daemon=True).start()


def look(*, now: datetime) -> list[str]:
    """Sweep if something is late, and return what was done."""
    if not store.is_overdue(now - LATE):
        return []
    return recovery.recover(now=now).lines


def _run() -> None:
    while True:
        time.sleep(LOOK_EVERY)
        try:
            for line in outlast(lambda _: look(now=store.now())):
                log.warning("lookout.swept", did=line)
        except Exception:
            log.exception("lookout.trouble")
