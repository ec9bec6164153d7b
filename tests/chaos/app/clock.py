"""Step the wall clock of this process by the seconds that a file names, as a bad NTP server would.

Only this process and its forks are stepped; `time.monotonic` goes on, as it does in reality.
"""

import os
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

LOOK_EVERY = 0.25


class Clock:
    """The wall clock of this process, and how far it is stepped. A fork inherits both."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._step = 0.0
        self._traveller: time_machine.Traveller | None = None

    def follow(self) -> None:
        """Apply what the file says, now and whenever it changes."""
        threading.Thread(target=self._follow, name="clock", daemon=True).start()

    def _follow(self) -> None:
        while True:
            self._apply(self._wanted())
            time.sleep(LOOK_EVERY)

    def _wanted(self) -> float:
        with suppress(OSError, ValueError):
            return float(self._file.read_text())
        return 0.0

    def _apply(self, step: float) -> None:
        if step == self._step:
            return
        if self._traveller is None:
            self._traveller = time_machine.travel(datetime.now(UTC), tick=True).start()
        self._traveller.shift(timedelta(seconds=step - self._step))
        self._step = step


def follow(path: str) -> None:
    """Follow the file here and in every process that is forked from here."""
    clock = Clock(Path(path))
    clock.follow()
    os.register_at_fork(after_in_child=clock.follow)
