"""The story of a run: what happened, when on the virtual clock, and why, as a small table."""

from collections.abc import Sequence
from datetime import timedelta

from workflows.engine.plan import ROOT
from workflows.engine.simulation import Simulation
from workflows.engine.states import StepState
from workflows.testing.stage import Line

MOST_LINES = 60
"""Lines of a story; of a longer one the beginning and the end."""

_QUIET = frozenset({StepState.PENDING, StepState.QUEUED, StepState.RUNNING})
_BLOCKS = frozenset({"children"})


def since(moment: timedelta) -> str:
    """Return a time since the start of the run in at most two units: `+1.5s`, `+2d 3h`."""
    seconds = moment.total_seconds()
    if seconds < 60:  # noqa: PLR2004 - seconds of a minute
        return f"+{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    left, parts = round(seconds), []
    for size, name in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{name}")
    return "+" + " ".join(parts[:2])


def story(run: Simulation, lines: Sequence[Line]) -> str:
    """Return the story of a run as text."""
    told = [line for line in lines if _is_told(line)]
    rows = [_row(run, line) for line in told]
    left_out = len(rows) - MOST_LINES
    if left_out > 0:
        note = ("", f"... {left_out} more ...", "", "", "")
        rows = [*rows[: MOST_LINES // 2], note, *rows[-MOST_LINES // 2 :]]
    rows += [
        ("", path, row.view.state.value, "", _why(row.view.reason))
        for path, row in run.rows.items()
        if row.view.alive
    ][:MOST_LINES]
    header = ("time", "step", "state", "try", "")
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(4)]
    table = "\n".join(_shown(row, widths) for row in [header, *rows])
    return f"{headline(run)}\n{table}"


def headline(run: Simulation) -> str:
    """Return how the run ended, or where it stands."""
    error = f": {run.error.error_class} {run.error.code}: {run.error.message}" if run.error else ""
    if run.finished_at is None:
        return f"{run.plan.workflow} is {run.state.value}, and nothing more happens{error}"
    took = since(run.finished_at - run.started_at).removeprefix("+")
    return f"{run.plan.workflow} is {run.state.value} after {took}{error}"


def _is_told(line: Line) -> bool:
    if line.act or line.path == ROOT:
        return True
    if line.after == StepState.WAITING:
        return line.reason not in _BLOCKS
    return line.after not in _QUIET


def _row(run: Simulation, line: Line) -> tuple[str, str, str, str, str]:
    why = f"{line.error.error_class} {line.error.code}: {line.error.message}" if line.error else ""
    notes = "; ".join(filter(None, [line.reason.replace("_", " "), why]))
    attempt = str(line.attempt) if line.attempt else ""
    name = line.path or "(the run)"
    return since(line.at - run.started_at), name, line.act or line.after, attempt, notes


def _why(reason: object) -> str:
    return str(reason).replace("_", " ") if reason else ""


def _shown(row: tuple[str, ...], widths: Sequence[int]) -> str:
    cells = [row[column].ljust(widths[column]) for column in range(4)]
    return "  ".join(["", *cells, row[4]]).rstrip()
