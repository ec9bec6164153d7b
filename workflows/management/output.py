"""What a terminal or a script is shown: sentences, tables, one JSON value on one line.

Every text that came from elsewhere is stripped of what would steer the terminal.
Colours and lines of a terminal's width are for terminals alone.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any, cast

from django.core.management.base import OutputWrapper
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflows.engine.states import RunState, StepState

WIDTH_OF_A_FILE = 160
"""The width of lines that go to a file or a pipe, unless COLUMNS says otherwise."""

STYLES: Mapping[str, str] = {
    RunState.PENDING: "dim",
    RunState.RUNNING: "cyan",
    RunState.PAUSED: "yellow",
    RunState.COMPENSATING: "magenta",
    RunState.CANCELLING: "yellow",
    RunState.COMPLETED: "green",
    RunState.FAILED: "bold red",
    RunState.CANCELLED: "yellow",
    RunState.COMPENSATED: "magenta",
    StepState.QUEUED: "blue",
    StepState.WAITING: "blue",
    StepState.RETRYING: "yellow",
    StepState.SKIPPED: "dim",
    StepState.COMPENSATION_FAILED: "bold red",
}
"""Colours of the states; runs and steps share most of their words."""

COLUMNS_OF_IDS = frozenset({"approval", "incident", "run"})
"""An id is copied from the table, so it stays in one piece; the other columns fold."""

_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_DIRECTIONS = {code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_STEERING = _CONTROLS | _DIRECTIONS


def console_on(stream: OutputWrapper, *, no_color: bool, force_color: bool) -> Console:
    """Return a console that writes to a command's stream."""
    stream.ending, stream.style_func = "", None
    on_file = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        file=cast("IO[str]", stream),
        width=WIDTH_OF_A_FILE if on_file else None,
        no_color=no_color or None,
        force_terminal=force_color or None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def say(console: Console, sentence: str, style: str = "") -> None:
    """Write a sentence as it is, never folded: a script may look for it."""
    console.print(Text(plain(sentence), style=style), soft_wrap=True)


def as_json(value: Any) -> str:
    """Return the value as one line of ASCII, which every pipe can carry."""
    return json.dumps(value, separators=(",", ":"))


def as_readable_json(value: Any) -> str:
    """Return the value for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def plain(text: str) -> str:
    """Return the text with everything written out that would steer the terminal."""
    return text.translate(_STEERING)


def cell(value: object, style: str = "") -> Text:
    """Return a value for a table; nothing is a dash."""
    text = "-" if value is None or value == "" else plain(str(value))
    return Text(text, style=style)


def state(name: str) -> Text:
    """Return a state in its colour."""
    return Text(name, style=STYLES.get(name, ""))


def table(*columns: str, title: str = "") -> Table:
    """Return an empty table."""
    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in COLUMNS_OF_IDS)
    return made


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Return names and values below each other; what has no value is left out."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            made.add_row(name, value if isinstance(value, Text) else cell(value))
    return made


def moment(text: str | None) -> datetime | None:
    """Read a time of the JSON."""
    return None if text is None else datetime.fromisoformat(text)


def shown_time(text: str | None) -> Text:
    """Return a time of the JSON to the second, in UTC."""
    at = moment(text)
    return cell(at and f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}")


def duration(seconds: float) -> str:
    """Return a length of time in at most two units: `320ms`, `1.2s`, `4m 10s`, `2d 3h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds:.1f}s"
    left, units = int(seconds), ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    parts: list[str] = []
    for size, name in units:
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{name}")
    return " ".join(part for part in parts[:2] if not part.startswith("0"))


def listing(page: Sequence[Any], cursor: str | None) -> dict[str, Any]:
    """Return a page of a list as a script gets it."""
    return {"results": list(page), "next": cursor}
