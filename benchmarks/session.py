"""One session of measuring, from the warning of a busy machine to the written page."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from benchmarks import contests, costs, large, machine, measuring, report, variants, with_history
from benchmarks.contests import CONTESTS
from benchmarks.figures import Figure
from benchmarks.rabbitmq import rabbitmq
from benchmarks.stage import HOME, services

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"
PAGE = ROOT / "docs" / "benchmarks.md"
HISTORY = "history"
WIDE = 160
"""Columns of the output where there is no terminal."""

COSTS: dict[str, Callable[[Progress], list[Figure]]] = {
    "memory": costs.memory,
    "disk": costs.disk,
    "idle": costs.idle,
    "large": large.large,
}
KNOWN = (*(one.name for one in CONTESTS), *COSTS, HISTORY)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be measured; `history` is how many finished runs there are to be, or 0."""

    only: frozenset[str]
    repeats: int
    history: int
    write_docs: bool
    command: str

    def wants(self, name: str) -> bool:
        """Say whether this is among what is to be measured."""
        return not self.only or name in self.only


def run(wish: Wish) -> None:
    """Measure, show and keep; a name that is unknown ends the program with what is known."""
    if unknown := wish.only.difference(KNOWN):
        sys.exit(f"There is no {', '.join(sorted(unknown))} here. Known: {', '.join(KNOWN)}.")
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    about: dict[str, Any] = {
        "command": wish.command,
        "date": f"{timezone.now():%Y-%m-%d}",
        "revision": machine.revision(),
        "repeats": wish.repeats,
        "warning": machine.load_warning(),
        "machine": machine.machine(),
    }
    if about["warning"]:
        console.print(about["warning"], style="yellow")
    with services(), Progress(console=console, transient=True) as progress:
        contests.prepare()
        about["postgresql"] = machine.durability()
        beside, about["versions"] = _beside(wish, console, progress)
        figures = beside.pop("figures") + _alone(wish, progress)
    _keep({"about": about, **beside, "figures": [one.as_json() for one in figures]})
    _show(console)
    if wish.write_docs:
        redraw()


def redraw() -> None:
    """Write the page from the figures that were kept last."""
    PAGE.write_text(report.document(_kept()))


def _beside(
    wish: Wish, console: Console, progress: Progress
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what came of the contests, and the versions of all that takes part."""
    wanted = [one for one in CONTESTS if wish.wants(one.name)]
    needed = {one.trial for one in wanted if one.bare is not None}
    tests = [one for one in CONTESTS if one.name in needed]
    with rabbitmq(HOME / "rabbitmq", wanted=bool(tests)) as broker:
        if tests and broker is None:
            console.print("RabbitMQ is not installed: bare Celery is measured on Redis alone.")
        versions = machine.versions(broker)
        tried = variants.candidates(settings.ENV.broker, broker)
        found = measuring.trials(tried, tests, progress) if tests else {}
        results = measuring.contests(wanted, tried, found, wish.repeats, progress)
    trials = {one.name: {"unit": one.unit, "values": found[one.name]} for one in tests}
    beside = {
        "contests": [one.as_json() for one in results],
        "trials": trials,
        "figures": measuring.flatness(results),
    }
    return beside, versions


def _alone(wish: Wish, progress: Progress) -> list[Figure]:
    found = [
        figure
        for name, measure in COSTS.items()
        if wish.wants(name)
        for figure in measure(progress)
    ]
    if wish.history and wish.wants(HISTORY):
        found += with_history.measure(wish.history, wish.repeats, progress)
    return found


def _keep(results: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(RESULTS.read_text())
    return kept


def _show(console: Console) -> None:
    results = _kept()
    for sheet in report.sheets(results):
        console.print(sheet.as_rich())
    if missed := report.missed(results):
        console.print("Not met:", *missed, sep="\n  ")
