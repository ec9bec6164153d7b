"""Steps that do not listen, do not fit, or do not live; and one that is noted down."""

import os
import signal
import time
from collections import deque
from contextlib import suppress
from itertools import repeat
from pathlib import Path

from workers.context import TaskContext
from workers.registry import task


@task("hostile.swallow")
def swallow() -> None:
    """Go on whatever interrupts it."""
    while True:
        with suppress(BaseException):
            time.sleep(60)


@task("hostile.hold")
def hold() -> None:
    """Hold the interpreter in C, where no signal handler and no other thread gets a turn."""
    deque(repeat(None), maxlen=0)


@task("hostile.hold_once", idempotent=False)
def hold_once() -> None:
    """Do the same, and be one that must not be repeated."""
    hold()


@task("hostile.leak")
def leak() -> None:
    """Take memory until there is no more."""
    kept = []
    while True:
        kept.append(bytearray(2**20))


@task("hostile.die")
def die(context: TaskContext) -> None:
    """Be killed at the first attempt, as by a kernel that has no memory left."""
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@task("hostile.slow_at_first")
def slow_at_first(context: TaskContext) -> None:
    """Take a minute at the first attempt, and no time at the second."""
    time.sleep(60 if context.attempt == 1 else 0)


@task("hostile.note")
def note(ledger: Path, context: TaskContext, seconds: float = 0.0) -> None:
    """Take some time, then write the step's own key into a ledger."""
    time.sleep(seconds)
    with ledger.open("a") as file:
        file.write(f"{context.idempotency_key}\n")


@task("hostile.browse")
def browse(context: TaskContext, seconds: float = 0.0) -> str:
    """Count a visit in the profile that the step has leased, and tell whose it was.

    Its folder is entered before, and a note is left in it at the end.
    """
    profile = context.profile
    assert profile is not None
    (profile.folder / f"entered-{context.attempt}").touch()
    time.sleep(seconds)
    with (profile.folder / "visits").open("a") as file:
        file.write(f"{context.idempotency_key}\n")
    profile.context["visits"] = profile.context.get("visits", 0) + 1
    return profile.name
