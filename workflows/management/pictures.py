"""A run on a terminal: its facts, its steps with a bar of time each, and how it ended.

Made from the JSON of a run, so a stored run and a simulated one look the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from workflows.engine.states import FINISHED_RUNS, LIVE_STEPS, StepState
from workflows.management.output import (
    STYLES,
    as_readable_json,
    cell,
    duration,
    facts,
    moment,
    plain,
    say,
    shown_time,
    state,
    table,
)

MOST_STEPS = 200
"""Steps that a picture shows; --json has them all."""

_SHORTEST_BAR, _LONGEST_BAR = 6, 28
_ORDER = tuple(one.value for one in StepState)
_OVER = frozenset(one.value for one in FINISHED_RUNS)
_ALIVE = frozenset(one.value for one in LIVE_STEPS)


def run_facts(run: Mapping[str, Any], *, now: datetime) -> Table:
    """Return what is known of a run besides its steps."""
    version = f" v{run['version']}" if run["version"] is not None else ""
    parent = run.get("parent")
    return facts(
        [
            ("run", run["id"]),
            ("workflow", f"{run['workflow']}{version}"),
            ("environment", run["environment"]),
            ("child of", f"{parent['run']}, step {parent['path']}" if parent else ""),
            ("state", _state_and_reason(run)),
            ("waits for", place_words(run["waits_for"])),
            ("late since", shown_time(run["late_since"]) if run["late_since"] else ""),
            ("started", shown_time(run["started_at"] or run["created_at"])),
            ("took" if run["finished_at"] else "for", duration(_seconds(run, now))),
            ("error", _error(run["error"])),
        ]
    )


def steps_table(
    steps: Sequence[Mapping[str, Any]], run: Mapping[str, Any], *, now: datetime
) -> Table:
    """Return the steps, each with its bar in the run's time."""
    begin = moment(run["started_at"]) or moment(run["created_at"]) or now
    end = max(moment(run["finished_at"]) or now, begin)
    made = table("step", "state", "try", "began", "took", "")
    for step in steps[:MOST_STEPS]:
        first, last = _span(step, now)
        made.add_row(
            cell(step["path"]),
            _state_and_reason(step),
            cell(step["attempt"] or ""),
            cell(f"+{duration((first - begin).total_seconds())}" if first else ""),
            cell(duration((last - first).total_seconds()) if first and last else ""),
            Bar(first, last, begin, end, style=STYLES.get(step["state"], "")),
        )
    return made


def errors_of(steps: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Return a line for each step that has an error."""
    wrong = [step for step in steps[:MOST_STEPS] if step["error"]]
    return [cell(f"{step['path']}: {_error(step['error'])}", "red") for step in wrong]


@dataclass(frozen=True, slots=True)
class Bar:
    """When a step ran, as a bar on the line of the run's time: as long as there is room."""

    first: datetime | None
    last: datetime | None
    begin: datetime
    end: datetime
    style: str = ""

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_SHORTEST_BAR, _LONGEST_BAR)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.drawn(min(options.max_width, _LONGEST_BAR))

    def drawn(self, width: int) -> Text:
        """Return the line, `width` characters long."""
        if self.first is None or self.last is None:
            return Text(" " * width)
        whole = (self.end - self.begin).total_seconds() or 1.0
        left = min(int(width * (self.first - self.begin).total_seconds() / whole), width - 1)
        right = round(width * (self.last - self.begin).total_seconds() / whole)
        length = min(max(right - left, 1), width - left)
        return Text.assemble(" " * left, ("━" * length, self.style), " " * (width - left - length))


def counts_line(counts: Mapping[str, int]) -> Text:
    """Return how many steps are in which state."""
    line = Text()
    for name in sorted(counts, key=_ORDER.index):
        line.append(f"{counts[name]} {name.lower()}  ", style=STYLES.get(name, ""))
    return line


def run_picture(
    run: Mapping[str, Any],
    steps: Sequence[Mapping[str, Any]],
    *,
    total: int,
    now: datetime,
    counts: Mapping[str, int] | None = None,
) -> RenderableType:
    """Return the facts of a run and its steps; of many steps the first."""
    parts: list[RenderableType] = [run_facts(run, now=now)]
    if counts:
        parts.append(counts_line(counts))
    parts.append(steps_table(steps, run, now=now))
    parts += errors_of(steps)
    hidden = total - min(len(steps), MOST_STEPS)
    if hidden > 0:
        parts.append(Text(f"... and {hidden} more steps: --json has them all", style="dim"))
    return Group(*parts)


def print_output(console: Console, run: Mapping[str, Any]) -> None:
    """Write the output of a run, if it has one."""
    if run["output"] is not None:
        say(console, f"output: {as_readable_json(run['output'])}")


def ending(run: Mapping[str, Any], *, now: datetime) -> str:
    """Return how the run ended, or where it stands, as a sentence."""
    version = f" v{run['version']}" if run["version"] is not None else ""
    name = f"The run {run['id']} of {run['workflow']}{version}"
    if run["state"] not in _OVER:
        return f"{name} is {run['state']}."
    error = f": {_error(run['error'])}" if run["error"] else ""
    return f"{name} is {run['state']} after {duration(_seconds(run, now))}{error}."


def _seconds(run: Mapping[str, Any], now: datetime) -> float:
    begin = moment(run["started_at"]) or moment(run["created_at"]) or now
    return max(((moment(run["finished_at"]) or now) - begin).total_seconds(), 0.0)


def _span(step: Mapping[str, Any], now: datetime) -> tuple[datetime | None, datetime | None]:
    first, last = moment(step["started_at"]), moment(step["finished_at"])
    if first is None or last is None:
        return first, (now if first and step["state"] in _ALIVE else first)
    return first, last


def place_words(place: Mapping[str, Any] | None) -> str:
    """Say what a run waits for that has not begun; nothing when it waits for no place."""
    if place is None:
        return ""
    one = f"one of {place['limit']} places" if place["limit"] > 1 else "the one place"
    return f"{one} for the key {place['key']!r}, as number {place['number']} in line"


def _state_and_reason(step: Mapping[str, Any]) -> Text:
    shown = state(step["state"])
    if step["reason"]:
        shown.append(f" {step['reason']}", style="dim")
    return shown


def _error(error: Mapping[str, Any] | None) -> str | None:
    if error is None:
        return None
    message = plain(str(error["message"])).strip().partition("\n")[0].removesuffix(".")
    return f"{error['class']} {error['code']}: {message}"
