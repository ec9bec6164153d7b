"""Leases: while a step runs, its worker says so, and hears whether to stop.

One thread in each process renews the lease of the step that the process is
carrying out. A short step costs nothing: the thread first looks after a moment.
One that has ended is spoken for until its outcome is recorded. While the database is
away nobody can renew, and nobody loses a lease for that (`workflows.services.recovery`), but each
is soon to be heard after it.

While a step runs, its limit stands in the worker's shared memory (`workers.slots`), where the
parent process sees it (`workers.warden`) and ends the process that overruns it. Should that fail
too, the step is no longer spoken for, and its lease expires.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from django.conf import settings
from django.db import connection

from workers.probing import PROBE_WITHIN
from workers.slots import slots
from workflows import store
from workflows.services.work import Work, lease

LOOK_EVERY = 2.0
"""Seconds between two looks at whether a running step is to be cancelled."""

LOOK_AGAIN = 0.5
"""Seconds to the next look after one that the database did not answer."""

RENEWALS = 3
"""How often a lease is renewed in its time: two may be lost before the third is too late."""

OVERRUN = 10.0
"""Seconds beyond limit and grace after which a step is no longer spoken for."""


@dataclass(slots=True)
class Held:
    """A step that a process carries out, or that waits its turn; and when it must have ended."""

    work: Work
    began: float
    renewed: float
    limit: float = math.inf
    stop: bool = False
    ended: bool = False
    seconds: float = 0.0

    def begin(self) -> None:
        """Note that the step begins now."""
        self.began = time.monotonic()
        self.limit = self.began + time_of(self.work)
        slots.mark(self.limit)

    def end(self) -> None:
        """Note that the step has ended: no limit holds any more while its outcome is recorded."""
        slots.mark(0.0)
        self.ended = True
        self.seconds = time.monotonic() - self.began

    def overran(self, now: float) -> bool:
        """Say whether the process should have been ended long ago."""
        return not self.ended and now > self.limit + grace() + OVERRUN


Rest = TypeVar("Rest", bound="GivesBack")


class GivesBack(Protocol):
    """Work that waits behind the current step."""

    def give_back(self) -> None:
        """Let others have it."""


class Keeper:
    """Keeps the leases of the current steps of this process."""

    def __init__(self) -> None:
        self._held: tuple[Held, ...] = ()
        self._since = 0.0
        self._rests: tuple[GivesBack, ...] = ()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, *works: Work) -> Iterator[tuple[Held, ...]]:
        """Speak for the steps until the block ends. The time of each begins with its turn."""
        now = time.monotonic()
        held = tuple(Held(work, began=now, renewed=now) for work in works)
        with self._changed:
            self._held, self._since = held, time.monotonic()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()
        try:
            yield held
        finally:
            slots.mark(0.0)
            with self._changed:
                self._held = ()

    @contextmanager
    def minding(self, rest: Rest) -> Iterator[Rest]:
        """Have `rest` given back when a step takes long, and when the block ends early."""
        self._rests = (*self._rests, rest)
        try:
            yield rest
        finally:
            self._rests = self._rests[:-1]
            rest.give_back()

    def _run(self) -> None:
        away = False
        while True:
            with self._changed:
                self._changed.wait(min(LOOK_AGAIN, look_every()) if away else look_every())
                held, since = self._held, self._since
            if not held or time.monotonic() - since < look_every():
                continue
            try:
                for rest in self._rests:
                    rest.give_back()
                for one in held:
                    look(one, now=time.monotonic())
            except store.ERRORS as error:
                store.outage.note(error)
                connection.close()
                away = True
            else:
                if away:
                    store.outage.over()
                away = False


def renew_every() -> float:
    """Return the seconds between two renewals of a lease."""
    return lease().total_seconds() / RENEWALS


def look_every() -> float:
    """Return the seconds between two looks, of which none comes too late for a renewal."""
    return min(LOOK_EVERY, renew_every())


def time_of(work: Work) -> float:
    """Return after how many seconds a step must have ended, with the question to its probe."""
    asking = PROBE_WITHIN if work.probe_first else 0.0
    return asking + (longest() if work.timeout is None else min(work.timeout, longest()))


def longest() -> float:
    """Return the seconds that any step may take."""
    return float(settings.ORCHESTRATOR["LONGEST_STEP_SECONDS"])


def bounded(timeout: float | None) -> float | None:
    """Return after how many seconds a step is interrupted; None for one without a timeout."""
    return None if timeout is None else min(timeout, longest())


def grace() -> float:
    """Return the seconds that an interrupted step has to end before its process is ended."""
    return float(settings.ORCHESTRATOR["TIMEOUT_GRACE_SECONDS"])


def look(held: Held, *, now: float) -> None:
    """Renew the lease when it is time, and note whether the step is to stop."""
    work = held.work
    if held.overran(now):
        return
    if now - held.renewed >= renew_every():
        until = store.now() + lease()
        answer = store.renew(work.run, work.path, work.attempt, until=until)
        held.renewed = now
    else:
        answer = store.cancel_requested(work.run, work.path, work.attempt)
    if answer is None or answer:
        held.stop = True


keeper = Keeper()
