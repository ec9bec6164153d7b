"""What keeps a worker's pool in order: nobody overruns, nobody is missed, a stop is heard by all.

The parent process watches the limits of its children (`workers.slots`) and kills who is past its
limit and grace: a step that swallows its interruption, or holds the interpreter in C. The child
that gets the place of a dead one ends, at once, what that one was doing. The thread in the parent
only compares numbers and sends signals, for the parent forks: there must be no connection and no
lock that a child could inherit.

SIGTERM or Ctrl-C: every child hears that it is not to begin anything more; what runs has
SOFT_SHUTDOWN_SECONDS; then it is interrupted, and killed if it does not yield; last, what
did not end is handed back, by that thread where the parent itself does not come to it because its
loop waits for Redis. SIGQUIT, or a second signal, leaves no time. Celery's own soft
shutdown is not used: it sleeps through the whole time, hears no result meanwhile, and its
children run on. Linked to Celery by being imported.
"""

import os
import resource
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import psutil
import psycopg
import structlog
from billiard.process import current_process
from celery.signals import worker_process_init, worker_ready, worker_shutdown
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, connection

from workers.leases import grace
from workers.slots import Seat, family_of, names_of, slots
from workflows import store
from workflows.engine.events import Loss
from workflows.services import recovery

log = structlog.get_logger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks at the limits, and at who has died."""

POLITE = 5.0
"""Seconds from the interruption of a step at a stop to SIGKILL; `processes.FAREWELL` fits in."""

LEAVES = 4.0
"""Seconds from the end of the children to that of the parent, which then ends whatever it does."""

TOLD_WITHIN = 3.0
"""Seconds that a child takes at most, before its first message, to release what the one before it
was doing; Celery kills a child that is not up within `worker_proc_alive_timeout`."""

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Warden:
    """The parent's side: one for each worker."""

    def __init__(self) -> None:
        self._watching = False
        self._stops = 0
        self._worker = ""

    def begin(self, consumer: Any) -> None:
        """Watch, and hear the signals; again after a reconnection changes nothing."""
        if self._watching:
            return
        self._watching = True
        self._worker = str(consumer.hostname)
        # Celery looks when a child's pipe closes, which may be a moment before it can be seen to
        # be dead, and then again only after five seconds.
        consumer.timer.call_repeatedly(LOOK_EVERY, consumer.pool.maintain_pool)
        for number in STOPS:
            signal.signal(number, self._stop)
        threading.Thread(target=self._watch, name="warden", daemon=True).start()

    def _watch(self) -> None:
        seen: frozenset[Seat] = frozenset()
        while True:
            time.sleep(LOOK_EVERY)
            overdue = slots.overdue(grace=grace())
            for seat in overdue - seen:
                log.warning("worker.overran", pid=seat.pid)
                _kill(seat.pid)
            seen = overdue

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._stops += 1
        slots.stop()
        state.should_stop = os.EX_OK  # type: ignore[assignment] # its stub knows only None
        at_once = self._stops > 1 or number == signal.SIGQUIT
        patience = 0.0 if at_once else float(settings.ORCHESTRATOR["SOFT_SHUTDOWN_SECONDS"])
        ending = threading.Timer(patience, _end, [self._worker])
        ending.daemon = True
        ending.start()


def _kill(pid: int) -> None:
    """Kill a child; a number that is a stranger's by now is left alone."""
    _signal([child for child in psutil.Process().children() if child.pid == pid], signal.SIGKILL)


def _end(worker: str) -> None:
    """End the children, and then the parent if that does not end by itself."""
    _end_children()
    time.sleep(LEAVES)
    log.warning("worker.left", worker=worker, seconds=LEAVES)
    _release(family_of(worker), Loss.STOPPED)
    os._exit(os.EX_OK)


def _end_children() -> None:
    children = psutil.Process().children()
    _signal(children, signal.SIGQUIT)
    time.sleep(POLITE)
    _signal(children, signal.SIGKILL)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    warden.begin(sender)


@worker_process_init.connect
def _sit_down(sender: str | None = None, **_: Any) -> None:
    """Take a place in the pool, and tell what became of who had it before."""
    place = getattr(current_process(), "index", None)
    if sender is None or place is None:
        return
    _bound_memory()
    before = slots.take(place)
    if before is not None:
        loss = Loss.OVERRAN if before.overran(time.monotonic()) else Loss.DIED
        # A thread, for a database that is away must not keep the child from being up.
        args = names_of(sender, before.pid), loss
        releasing = threading.Thread(target=_release, args=args, daemon=True)
        releasing.start()
        releasing.join(TOLD_WITHIN)


def _bound_memory() -> None:
    mebibytes = settings.ORCHESTRATOR["WORKER_MEMORY_MIB"]
    if mebibytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (mebibytes * 2**20, hard))


@worker_shutdown.connect
def _hand_back(sender: Any = None, **_: Any) -> None:
    """Hand back what the children that are gone did not end."""
    connection.close()
    _release(family_of(sender.hostname), Loss.STOPPED)


def _release(worker: str, loss: Loss) -> None:
    """End what a process was doing; without a database its lease does that, later."""
    try:
        report = recovery.release_worker(worker=worker, loss=loss, now=store.now())
        for line in report.lines:
            log.warning("worker.released", what=line)
    except (DatabaseError, psycopg.Error) as error:
        log.warning("worker.not_released", worker=worker, error=str(error))
    finally:
        connection.close()


warden = Warden()
