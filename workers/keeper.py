"""Keep a command and every process that comes from it; let none outlive its worker.

A program of its own, run with `python -I -S` by `workers.processes`, so only the standard library
and a quick start. It is a child subreaper (prctl(2)): a process that leaves its session and its
parent becomes a child of this one and is still found. The worker holds the other end of a socket:
it sends the command, hears how it ended, and when it closes its end, or dies, everything is ended:
first SIGTERM, after a grace SIGKILL, until no descendant is left. What the command leaves running
when it ends by itself is ended too. Linux only.
"""

import ctypes
import errno
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CHANGED_SIGNALS = (*IGNORED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ)
GRACE = 1.0
PATIENCE = 2.5
"""Seconds for SIGKILL to be heard; a process in an uninterruptible wait may need longer."""


def main(control: int) -> None:
    """Carry out the one command that comes over the control socket."""
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for ignored in IGNORED_SIGNALS:
        signal.signal(ignored, signal.SIG_IGN)
    _become_subreaper()
    order = json.loads(_line(control))
    child = _spawn(order, control)
    if child is None:
        return
    _let_go_of_output()
    status = _wait(child, wake, control)
    if status is None:
        _end_all(grace=GRACE)
        return
    left = _end_all(grace=GRACE)
    _say(control, {"status": os.waitstatus_to_exitcode(status), "left_behind": left})


def _become_subreaper() -> None:
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _spawn(order: dict[str, Any], control: int) -> int | None:
    """Start the command in a session of its own, or say why it cannot be started."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(control)
        os.close(read)
        _become(order, write)
    os.close(write)
    with os.fdopen(read) as trouble:
        failure = trouble.read()
    if not failure:
        return child
    os.waitpid(child, 0)
    _say(control, json.loads(failure))
    return None


def _become(order: dict[str, Any], trouble: int) -> None:
    what = order["cwd"]
    try:
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        for changed in CHANGED_SIGNALS:
            signal.signal(changed, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.chdir(what)
        what = order["command"][0]
        os.execvpe(what, order["command"], order["env"])  # noqa: S606 - the point of it
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None) or errno.EINVAL
        os.write(trouble, json.dumps({"error": number, "what": what}).encode())
    finally:
        os._exit(127)


def _let_go_of_output() -> None:
    """Close the command's streams here, so that their readers see the end of them."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)


def _wait(child: int, wake: int, control: int) -> int | None:
    """Give the status of the child, or None when the worker has closed its end."""
    while True:
        ready, _, _ = select.select([wake, control], [], [])
        if control in ready:
            return None
        os.read(wake, 4096)
        while (ended := _reap()) is not None:
            if ended[0] == child:
                return ended[1]


def _end_all(grace: float) -> int:
    """End every descendant; give how many there were."""
    if not _living():
        return 0
    found = _descendants()
    for pid in found:
        _kill(pid, signal.SIGTERM)
    polite = time.monotonic() + grace
    patience = polite + PATIENCE
    pause = 0.001
    while _living() and time.monotonic() < patience:
        if time.monotonic() > polite:
            for pid in _descendants():
                _kill(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return len(found)


def _living() -> bool:
    while _reap() is not None:
        pass
    return bool(_descendants())


def _reap() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _descendants() -> list[int]:
    """Find the processes below this one, however deep (proc(5): the parent is field 4)."""
    children: dict[int, list[int]] = {}
    for folder in os.scandir("/proc"):
        if folder.name.isdecimal():
            with (
                suppress(FileNotFoundError, ProcessLookupError),
                open(f"/proc/{folder.name}/stat", "rb") as stat,  # noqa: PTH123 - pathlib is slow to load
            ):
                parent = stat.read().rpartition(b")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(folder.name))
    found: list[int] = []
    below = [os.getpid()]
    while below:
        here = children.get(below.pop(), [])
        found += here
        below += here
    return found


def _line(control: int) -> bytes:
    text = b""
    while not text.endswith(b"\n"):
        part = os.read(control, 65536)
        if not part:
            os._exit(0)
        text += part
    return text


def _say(control: int, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        os.write(control, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
