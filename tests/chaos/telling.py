"""What the processes said that could explain a violation, short enough to be printed.

The evidence is a folder, and of a test that has failed elsewhere there is only what it printed.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

LINES = 40
STACK_LINES = 120
WIDTH = 300

TROUBLE = re.compile(r"\[(?:warning|error|critical) *\] (?P<event>\S+)(?!.* code=4)")
"""A line of the platform's log that is no mere information; its event is one word.

That somebody was told what they asked wrongly is no trouble of the platform's.
"""

REFUSAL = "[django.request]"
"""Django's own line about such an answer, beside the platform's."""

MARK = "----"
"""What the harness writes into the log of a process that it starts, or that has ended."""


def told(logs: Path) -> Iterator[str]:
    """Return the last troubles of each process, and where it stood if that was looked at."""
    for path in sorted(logs.glob("*.log")):
        yield from _section(path, list(troubles(_lines(path)))[-LINES:])
    for path in sorted(logs.glob("*.stacks")):
        yield from _section(path, _lines(path)[-STACK_LINES:])


def troubles(lines: Iterable[str]) -> Iterator[str]:
    """Return warnings, errors, starts and ends; of those of one kind in a row, the last."""
    for event, found in groupby(filter(_event, lines), _event):
        *before, last = found
        more = f" (and {len(before)} of {event} before)" if before else ""
        yield f"{last[:WIDTH]}{more}"


def _event(line: str) -> str:
    if line.startswith(MARK):
        return line
    found = None if REFUSAL in line else TROUBLE.search(line)
    return found["event"] if found else ""


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


def _section(path: Path, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{MARK} {path.name}, the last of it:"
        yield from (line[: WIDTH * 2] for line in lines)
