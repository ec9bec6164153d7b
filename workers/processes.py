"""Run a command with bounds: its time, its output, and the life of all its descendants.

The command runs under `workers.keeper`, a process that ends it and everything that came from it
as soon as this side closes the socket between them: at a timeout, at an interruption, and when
this worker dies. Output is read as it comes and kept only at both ends.
"""

import json
import os
import selectors
import socket
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from workers import keeper

POLL = 1.0
"""Seconds between two looks at whether the step was cancelled."""

FAREWELL = keeper.GRACE + keeper.PATIENCE + 0.5
"""Seconds that the keeper may take to end everything; less than the grace of `run_within`."""

MARGIN = 4096
CHUNK = 65536


class Capture:
    """The beginning and the end of a stream, in at most `limit` bytes of JSON.

    A margin more is kept where the stream is cut, and given away only after the secrets are
    masked: a secret that the cut splits would not be found.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._room = limit // 2 + MARGIN
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what came; what lies between both ends is dropped at once."""
        self.total += len(data)
        first = data[: self._room - len(self._head)]
        self._head += first
        self._tail += data[len(first) :]
        if len(self._tail) > self._room + CHUNK:
            del self._tail[: -self._room]

    def text(self, mask: Callable[[Any], Any]) -> str:
        """Give the text, with a notice in the place of what was cut."""
        if self.total <= len(self._head) + len(self._tail):
            head = tail = mask((self._head + self._tail).decode(errors="replace"))
            if _json_bytes(head) <= self.limit:
                return str(head)
        else:
            head = mask(self._head.decode(errors="replace"))[:-MARGIN]
            tail = mask(self._tail.decode(errors="replace"))[MARGIN:]
        notice = f"\n[... cut: there were {self.total:,} bytes ...]\n"
        return f"{_beginning(head, self.limit // 2)}{notice}{_end(tail, self.limit // 2)}"


@dataclass(frozen=True, slots=True)
class Command:
    """What to run. The environment is exactly `env`."""

    arguments: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    stdin: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went: an exit status (negative: the signal), an error of starting it, or neither.

    Neither means that its time was up, or that the keeper was lost.
    """

    status: int | None = None
    error: int | None = None
    what: str = ""
    left_behind: int = 0
    timed_out: bool = False


def run(
    command: Command,
    *,
    stdout: Capture,
    stderr: Capture,
    seconds: float | None = None,
    watch: Callable[[], None] = lambda: None,
) -> Ended:
    """Run the command to its end or through its time; whatever happens, nothing of it stays.

    `watch` is called every second, and may raise to end the command.
    """
    ours, theirs = socket.socketpair()
    process: subprocess.Popen[bytes] | None = None
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        order = {
            "command": command.arguments,
            "env": dict(command.env),
            "cwd": str(command.cwd),
        }
        ours.sendall(json.dumps(order).encode() + b"\n")
        deadline = None if seconds is None else time.monotonic() + seconds
        with _Conversation(process, ours, command.stdin, stdout, stderr) as conversation:
            return conversation.hold(deadline, watch)
    finally:
        ours.close()
        theirs.close()
        if process is not None:
            _see_off(process)


class _Conversation:
    """Reading and writing of all streams at once, until the other side has closed them."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        stdin: bytes,
        stdout: Capture,
        stderr: Capture,
    ) -> None:
        assert process.stdin is not None  # noqa: S101 - asked for as pipes
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._stdin = process.stdin
        self._to_send = memoryview(stdin)
        self._said = bytearray()
        self._control = control.fileno()
        self._lost = False
        self._selector = selectors.DefaultSelector()
        self._listen(process.stdout.fileno(), stdout.feed)
        self._listen(process.stderr.fileno(), stderr.feed)
        self._listen(control.fileno(), self._said.extend)
        os.set_blocking(self._stdin.fileno(), False)
        self._selector.register(self._stdin.fileno(), selectors.EVENT_WRITE, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def _listen(self, stream: int, hear: Callable[[bytes], None]) -> None:
        self._selector.register(stream, selectors.EVENT_READ, hear)

    def hold(self, deadline: float | None, watch: Callable[[], None]) -> Ended:
        next_look = time.monotonic() + POLL
        while self._selector.get_map() and not self._lost:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return Ended(timed_out=True)
            if now >= next_look:
                watch()
                next_look = now + POLL
            until = next_look if deadline is None else min(next_look, deadline)
            for key, _ in self._selector.select(max(0.0, until - now)):
                if key.data is None:
                    self._send()
                else:
                    self._hear(key.fd, key.data)
        return Ended(**json.loads(self._said)) if self._said else Ended()

    def _hear(self, stream: int, hear: Callable[[bytes], None]) -> None:
        data = os.read(stream, CHUNK)
        if data:
            hear(data)
            return
        self._selector.unregister(stream)
        if stream == self._control:
            self._lost = not self._said

    def _send(self) -> None:
        try:
            sent = os.write(self._stdin.fileno(), self._to_send[:CHUNK]) if self._to_send else 0
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._to_send = memoryview(b"")
            sent = 0
        self._to_send = self._to_send[sent:]
        if not self._to_send:
            self._selector.unregister(self._stdin.fileno())
            self._stdin.close()


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Wait for the keeper, which ends everything; close the streams only after that."""
    try:
        process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _json_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace")) - 2


def _beginning(text: str, limit: int) -> str:
    """Give the longest beginning that takes at most `limit` bytes of JSON."""
    size = bisect_right(range(len(text) + 1), limit, key=lambda size: _json_bytes(text[:size])) - 1
    return text[:size]


def _end(text: str, limit: int) -> str:
    """Give the longest end that takes at most `limit` bytes of JSON."""
    return _beginning(text[::-1], limit)[::-1]
