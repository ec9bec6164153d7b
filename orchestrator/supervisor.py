"""Keep the platform's processes running: start, restart with backoff, stop in order.

Why not a library: honcho ends every process when one ends; circus brings ZeroMQ sockets and its own
event loop, and restarts without growing delays; supervisord keeps the output from the terminal.
What remains is this loop. It must be driven from the main thread: Linux ties a child's life to the
thread that started it.

Each child carries a mark in its environment. That mark, not a number in a file, is how the
processes of a launcher that was killed are found again, grandchildren included.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from orchestrator.embedded.processes import alive_after

MARK = "ORCHESTRATOR_CHILD_OF"
FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0
STEADY_AFTER = 30.0
LAST_WORDS_WITHIN = 1.0
STOP_WITHIN = 15.0
"""Seconds to end in, beside the time that a child gives what it is doing."""

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep running: the name before its lines, its command, its own environment.

    It `inherits` these open files, under the same numbers.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inherits: tuple[int, ...] = ()


@dataclass(slots=True)
class _Watch:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    relay: threading.Thread | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0


def delay_after(failures: int) -> float:
    """Return the seconds to wait before the restart that follows so many failures in a row."""
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (failures - 1))


def say(name: str, line: str) -> None:
    """Print a line with the name of the process that it is about."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(f"{name:>12} | {line}\n")
        sys.stdout.flush()


class Supervisor:
    """Keeps children running until `stop`. `watch` is called again and again, and never waits.

    A child that is told to stop has `patience` seconds for what it is doing, and STOP_WITHIN more.
    """

    def __init__(
        self,
        home: Path,
        *,
        patience: float = 10.0,
        say: Say = say,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._patience = patience
        self._say = say
        self._now = now
        self._watches: dict[str, _Watch] = {}

    def keep(self, child: Child) -> None:
        """Start the child at the next `watch` and keep it running."""
        self._watches.setdefault(child.name, _Watch(child))

    def release(self, name: str) -> None:
        """Stop the child and forget it."""
        watch = self._watches.pop(name)
        self._end([watch])

    @property
    def names(self) -> set[str]:
        """The names of the children that are kept."""
        return set(self._watches)

    def watch(self) -> None:
        """Start what is due; notice what ended, say so, and set the time of its restart."""
        for watch in self._watches.values():
            if watch.process is None and self._now() >= watch.due:
                self._start(watch)
            elif watch.process is not None and watch.process.poll() is not None:
                self._ended(watch, watch.process)

    def stop(self) -> None:
        """End all children, in the order in which they were given, and what they left behind."""
        watches = list(self._watches.values())
        self._watches.clear()
        self._end(watches)
        end_marked(self._home)

    def _start(self, watch: _Watch) -> None:
        watch.started = self._now()
        watch.process = subprocess.Popen(
            watch.child.command,
            env=os.environ | watch.child.environment | {MARK: str(self._home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=watch.child.inherits,
        )
        watch.relay = threading.Thread(
            target=self._relay, args=(watch.child.name, watch.process.stdout), daemon=True
        )
        watch.relay.start()

    def _ended(self, watch: _Watch, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid)
        if watch.relay is not None:
            watch.relay.join(timeout=LAST_WORDS_WITHIN)
        steady = self._now() - watch.started >= STEADY_AFTER
        watch.failures = 1 if steady else watch.failures + 1
        delay = delay_after(watch.failures)
        watch.process, watch.due = None, self._now() + delay
        self._say(
            watch.child.name, f"ended {_manner(process.returncode)}; starts again in {delay:g} s"
        )

    def _end(self, watches: Iterable[_Watch]) -> None:
        running = [watch.process for watch in watches if watch.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._patience + STOP_WITHIN
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            _kill_group(process.pid)
            process.wait()

    def _relay(self, name: str, output: IO[bytes]) -> None:
        with output:
            for line in output:
                if text := line.decode(errors="replace").rstrip():
                    self._say(name, text)


def end_marked(home: Path) -> int:
    """Kill every process that carries the mark of this home; return how many there were."""
    found = [process for process in psutil.process_iter() if _mark_of(process) == str(home)]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    alive_after(found, seconds=5)
    return len(found)


def _mark_of(process: psutil.Process) -> str | None:
    if process.pid == os.getpid():
        return None
    with contextlib.suppress(psutil.Error, OSError):
        mark: str | None = process.environ().get(MARK)
        return mark
    return None


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _manner(returncode: int) -> str:
    if returncode < 0:
        return f"by signal {signal.Signals(-returncode).name}"
    return f"with status {returncode}"
