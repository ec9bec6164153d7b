"""The bounds around a call: a time limit that interrupts it, and a folder that goes with it.

In the main thread (Celery's prefork and solo pools) the limit is an interval timer: it interrupts
system calls too. In any other thread the interpreter is asked to raise in that thread: then the
interruption comes with the next Python instruction, so a call that blocks in C runs on until it
returns. Both may be nested; the earliest limit wins.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

from workers.errors import StepTimeout

Result = TypeVar("Result")

GRACE = 5.0
"""Seconds that an interrupted function has for its clean-up before it is interrupted again."""


FOLDER = "orchestrator-step-"


class Workdir:
    """A temporary folder: made when first asked for, removed with everything in it.

    Its lock ends with the process that holds it, whatever that dies of: a folder that can be
    locked is nobody's, see `remove_left_behind`.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lock: int | None = None

    def path(self) -> Path:
        """Make the folder if it is not there yet."""
        while self._path is None:
            made = Path(tempfile.mkdtemp(prefix=FOLDER))
            self._lock = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks: then nobody can tell
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if made.exists():
                self._path = made
            else:
                os.close(self._lock)
        return self._path

    def remove(self) -> None:
        """Remove the folder; what cannot be removed must not fail the step, so it is left."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_left_behind() -> int:
    """Remove the folders of steps whose process was killed, and return how many there were."""
    removed = 0
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        if (lock := _locked(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)
            removed += 1
    return removed


def _locked(path: Path) -> int | None:
    """Lock a folder for this process; None when another has it, or it is gone or not ours."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def run_within(seconds: float | None, function: Callable[[], Result]) -> Result:
    """Call the function and raise `StepTimeout` inside it when the seconds have passed.

    A function that swallows the interruption has still timed out: whatever it returns or raises
    after that, this raises `StepTimeout`, for the result of an interrupted call means nothing.
    """
    if seconds is None:
        return function()
    if seconds <= 0:
        raise StepTimeout(seconds)
    if threading.current_thread() is threading.main_thread():
        return _under_timer(seconds, function)
    return _under_watchdog(seconds, function)


def _under_timer(seconds: float, function: Callable[[], Result]) -> Result:
    outer_left, outer_interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < outer_left <= seconds:
        return function()

    limit = StepTimeout(seconds)
    armed = True
    fired = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal fired
        if armed:
            fired = True
            raise limit

    began = time.monotonic()
    outer_handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, GRACE)
        result = function()
    except Exception as error:
        armed = False
        if fired:
            raise limit from error
        raise
    finally:
        # First of all, and before any call: from here on a late alarm does nothing.
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer_handler)
        if outer_left:
            spent = time.monotonic() - began
            signal.setitimer(signal.ITIMER_REAL, max(outer_left - spent, 0.001), outer_interval)
    if fired:
        raise limit
    return result


def _under_watchdog(seconds: float, function: Callable[[], Result]) -> Result:
    thread = ctypes.c_ulong(threading.get_ident())
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    lock = threading.Lock()
    ended = False
    fired = False

    def interrupt() -> None:
        nonlocal fired
        with lock:
            if not ended:
                fired = True
                set_exception(thread, ctypes.py_object(StepTimeout))

    watchdog = threading.Timer(seconds, interrupt)
    watchdog.daemon = True
    try:
        watchdog.start()
        result = function()
    except (Exception, StepTimeout) as error:
        if fired:
            limit = StepTimeout(seconds)
            limit.details |= getattr(error, "details", {}) if isinstance(error, StepTimeout) else {}
            raise limit from error
        raise
    finally:
        try:
            with lock:
                ended = True
        finally:
            watchdog.cancel()
            set_exception(thread, None)
    if fired:
        raise StepTimeout(seconds)
    return result
