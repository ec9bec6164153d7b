"""A simulated run on a terminal: its way, every attempt in time, why steps were passed over."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.text import Text

from workflows.engine.plan import Node
from workflows.engine.states import Reason, StepState
from workflows.management.output import STYLES, cell, duration, facts, plain, state, table
from workflows.management.pictures import MOST_STEPS
from workflows.testing.run import Run
from workflows.testing.stage import Line
from workflows.testing.story import since

SHORTEST, LONGEST = 8, 40
MOST_ON_THE_WAY = 60
AT_WORK = "━"

WHY: Mapping[str, str] = {
    Reason.WHEN: "its `when` is false",
    Reason.NO_CASE: "none of its cases is true, and there is no `else`",
    Reason.NOT_TAKEN: "another case was taken",
    Reason.UPSTREAM_FAILED: "what it needs has failed",
    Reason.UPSTREAM_SKIPPED: "what it needs was skipped",
    Reason.EXIT: "the run had left by then",
    Reason.FAIL_FAST: "another step had failed, and `fail_fast` ended the rest",
    Reason.LOST_RACE: "another was first, or enough had come",
    Reason.TIMEOUT: "the time was up",
}
"""Why a step was passed over, or ended early, in words."""


@dataclass(frozen=True, slots=True)
class Span:
    """A while that a step spent in one way: at work, waiting, between attempts, as a block."""

    first: datetime
    last: datetime
    mark: str
    style: str


@dataclass(frozen=True, slots=True)
class Track:
    """The line of a step in the Gantt: its spans in the run's time, as long as there is room."""

    spans: Sequence[Span]
    begin: datetime
    end: datetime

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(SHORTEST, LONGEST)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.drawn(min(options.max_width, LONGEST))

    def drawn(self, width: int) -> Text:
        """Return the line, `width` characters long."""
        whole = (self.end - self.begin).total_seconds() or 1.0
        marks: list[tuple[str, str]] = [(" ", "")] * width
        for span in sorted(self.spans, key=lambda span: span.mark == AT_WORK):
            left = min(int(width * (span.first - self.begin).total_seconds() / whole), width - 1)
            right = round(width * (span.last - self.begin).total_seconds() / whole)
            for place in range(left, min(max(right, left + 1), width)):
                marks[place] = (span.mark, span.style)
        return Text.assemble(*marks)


def simulated_picture(run: Run) -> RenderableType:
    """Return a simulated run as it is shown to its author."""
    parts: list[RenderableType] = [_facts(run), _steps(run)]
    passed_over = [cell(line) for line in _passed_over(run)]
    parts += [cell(line) for line in _undo(run)]
    if passed_over:
        parts += [Text("passed over", style="bold"), *passed_over[:MOST_STEPS]]
    errors = [one for one in run.steps.values() if one.error is not None]
    parts += [
        cell(f"{one.path}: {one.error.error_class} {one.error.code}: {one.error.message}", "red")
        for one in errors[:MOST_STEPS]
        if one.error is not None
    ]
    return Group(*parts)


def _facts(run: Run) -> RenderableType:
    simulation = run.simulation
    error = run.error and f"{run.error.error_class} {run.error.code}: {run.error.message}"
    end = run.finished_at or _last(run)
    way = [*run.path[:MOST_ON_THE_WAY], *(["..."] if len(run.path) > MOST_ON_THE_WAY else [])]
    return facts(
        [
            ("workflow", simulation.plan.workflow),
            ("environment", simulation.plan.environment),
            ("state", state(run.state)),
            (
                "took" if run.finished_at else "for",
                duration((end - run.started_at).total_seconds()),
            ),
            ("error", error),
            ("path", " > ".join(way)),
        ]
    )


def _undo(run: Run) -> Iterator[str]:
    """Yield what was undone, what an undo would undo, and what none could."""
    if not run.simulation.plan.can_be_undone:
        return
    for title, paths in (
        ("undone", run.compensated),
        ("an undo would undo", run.compensable),
        ("nothing undoes", run.irreversible),
    ):
        if paths:
            more = f" and {len(paths) - MOST_ON_THE_WAY} more" * (len(paths) > MOST_ON_THE_WAY)
            yield f"{title}: {' > '.join(paths[:MOST_ON_THE_WAY])}{more}"


def _steps(run: Run) -> RenderableType:
    made = table("step", "state", "try", "began", "took", "")
    end = max(run.finished_at or _last(run), run.started_at)
    spans: dict[str, list[Span]] = {}
    for path, span in _spans(run.lines, end):
        spans.setdefault(path, []).append(span)
    for path, step in list(run.steps.items())[:MOST_STEPS]:
        own = spans.get(path, [])
        shown = state(step.state)
        if step.reason:
            shown.append(f" {step.reason}", style="dim")
        made.add_row(
            cell(path),
            shown,
            cell(step.attempts or ""),
            cell(since(own[0].first - run.started_at) if own else ""),
            cell(duration((own[-1].last - own[0].first).total_seconds()) if own else ""),
            Track(own, run.started_at, end),
        )
    left_out = len(run.steps) - MOST_STEPS
    if left_out > 0:
        return Group(made, Text(f"... and {left_out} more steps: --json has them all", style="dim"))
    return made


def _spans(lines: Sequence[Line], end: datetime) -> Iterator[tuple[str, Span]]:
    """Yield what each step did from one line about it to the next."""
    current: dict[str, Line] = {}
    for line in lines:
        if not line.path or line.act:
            continue
        if line.path in current:
            yield from _span(current[line.path], line.at)
        current[line.path] = line
    for line in current.values():
        if line.after in _MARKS:
            yield from _span(line, end)


_MARKS: Mapping[str, str] = {
    StepState.RUNNING: AT_WORK,
    StepState.WAITING: "╌",
    StepState.RETRYING: "·",
    StepState.COMPENSATING: "◂",
}
"""How the Gantt draws a state; a block that waits for what is inside of it has a thin line."""


def _span(line: Line, last: datetime) -> Iterator[tuple[str, Span]]:
    if line.after in _MARKS and (last > line.at or line.after == StepState.RUNNING):
        mark = "─" if line.reason == Reason.CHILDREN else _MARKS[line.after]
        yield line.path, Span(line.at, last, mark, STYLES.get(line.after, ""))


def _passed_over(run: Run) -> Iterator[str]:
    for path, step in run.steps.items():
        if step.state in {StepState.SKIPPED, StepState.CANCELLED} and step.reason:
            why = WHY.get(step.reason, step.reason.replace("_", " "))
            yield f"{plain(path)}: {why}{_condition(run.simulation.plan.node(path), step.reason)}"


def _condition(node: Node, reason: str) -> str:
    return f": {node.when}" if reason == Reason.WHEN and isinstance(node.when, str) else ""


def _last(run: Run) -> datetime:
    return max((line.at for line in run.lines), default=run.started_at)
