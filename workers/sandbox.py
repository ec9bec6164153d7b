"""The bounds around a call: a time limit that interrupts it, and a folder that goes with it.

In the main thread (Celery's prefork and solo pools) the limit is an interval timer: it interrupts
system calls too. In any other thread the interpreter is asked to raise in that thread: then the
interruption comes with the next Python instruction, so a call that blocks in C runs on until it
returns. Both may be nested; the earliest limit wins.
"""

import ctypes
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TypeVar

from workers.errors import StepTimeout

Result = TypeVar("Result")

GRACE = 5.0
"""Seconds that an interrupted function has for its clean-up before it is interrupted again."""


class Workdir:
    """A temporary folder: made when first asked for, removed with everything in it."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def path(self) -> Path:
        """Make the folder if it is not there yet."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="step-"))
        return self._path

    def remove(self) -> None:
        """Remove the folder; what cannot be removed must not fail the step, so it is left."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


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
