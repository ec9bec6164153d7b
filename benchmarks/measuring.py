"""Measure the scenarios, show a table, keep the figures.

Each scenario is repeated, the platform and bare Celery in turn, so that a slow
moment of the machine meets both. The figure is the median; the spread is the
distance between the quartiles of the ratio.
"""

import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.stage import share_settings, stage

share_settings()

from benchmarks import scenarios  # noqa: E402 - bare Celery reads its settings when imported
from benchmarks.scenarios import Scenario  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "latest.json"
COLUMNS = ("ours", "bare_celery", "unit", "ratio", "spread", "repeats")


def run(*, only: list[str] | None, repeats: int) -> None:
    """Measure the scenarios named in `only`, or all of them."""
    wanted = [one for one in scenarios.SCENARIOS if not only or one.name in only]
    with stage():
        scenarios.prepare()
        results = {one.name: _measure(one, repeats) for one in wanted}
    _show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _measure(scenario: Scenario, repeats: int) -> dict[str, Any]:
    scenario.ours()
    scenario.bare()
    rounds = track(range(repeats), description=scenario.name, transient=True)
    pairs = [(scenario.ours(), scenario.bare()) for _ in rounds]
    ratios = [scenario.ratio(ours, bare) for ours, bare in pairs]
    quartiles = statistics.quantiles(ratios, n=4) if repeats > 1 else ratios * 3
    return {
        "ours": round(statistics.median(ours for ours, _ in pairs), 3),
        "bare_celery": round(statistics.median(bare for _, bare in pairs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "unit": scenario.unit,
        "repeats": repeats,
        "spread": round(quartiles[2] - quartiles[0], 3),
    }


def _show(results: dict[str, dict[str, Any]]) -> None:
    table = Table("scenario", *COLUMNS)
    for name, one in results.items():
        table.add_row(name, *(str(one[column]) for column in COLUMNS))
    console = Console()
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, prefork of 2")
    console.print(table)
