"""Launch, find and end servers that work in a directory of ours and may outlive their starter.

A process is recognised by its program and its working directory, never by a number in a file:
after a `kill -9` or a reboot such a number may belong to a stranger.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from orchestrator.embedded.errors import EmbeddedError

# Kept, so that Python neither warns about a child it forgets nor leaves a zombie.
_LAUNCHED: list[subprocess.Popen[bytes]] = []


def working_in(directory: Path, *, program: str) -> list[psutil.Process]:
    """List the live processes of the program that work in the directory, eldest first."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == program and process.cwd() == str(directory):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def end(processes: list[psutil.Process], *, by: signal.Signals, within: float) -> None:
    """Ask the eldest to end, and kill whatever is left after so many seconds."""
    for process in processes[:1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(by)
    for process in alive_after(processes, seconds=within):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    alive_after(processes, seconds=5)
    _LAUNCHED[:] = [server for server in _LAUNCHED if server.poll() is None]


def alive_after(processes: list[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until all have ended, at most so many seconds, and return those that have not.

    A zombie has ended: in a container the first process may never collect it.
    """
    deadline = time.monotonic() + seconds
    while (left := [one for one in processes if _lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def launch(
    command: Sequence[str | Path],
    *,
    log: Path,
    ready: Callable[[], bool],
    within: float,
    **how: Any,
) -> None:
    """Start a server that outlives us and wait until it is ready.

    It gets a session of its own, so that a Ctrl-C in the terminal does not reach it.

    Raises:
        EmbeddedError: if it ends, or is not ready after so many seconds; with the end of its log.

    """
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **how,
        )
    _LAUNCHED.append(server)
    deadline = time.monotonic() + within
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise EmbeddedError(
                f"{Path(command[0]).name} did not start. Its log {log} ends:\n{tail}"
            )
        time.sleep(0.02)
