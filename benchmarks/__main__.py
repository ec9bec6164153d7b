"""`make bench`: measure, print a table, write `benchmarks/results/latest.json`.

Each scenario is repeated, the platform and bare Celery in turn, so that a slow
moment of the machine meets both. The figure is the median; the spread is the
distance between the quartiles of the ratio.
"""

import argparse
import json
import os
import platform
import statistics
from pathlib import Path

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"

import django

django.setup()

from django.conf import settings

os.environ["BARE_BROKER"] = settings.CELERY_BROKER_URL
os.environ["BARE_RESULTS"] = settings.CELERY_RESULT_BACKEND

from rich.console import Console
from rich.table import Table

from benchmarks import scenarios
from benchmarks.scenarios import Scenario
from benchmarks.stage import stage

RESULTS = Path(__file__).parent / "results" / "latest.json"


def main() -> None:
    """Measure what was asked for."""
    options = _options()
    wanted = [one for one in scenarios.SCENARIOS if not options.only or one.name in options.only]
    with stage():
        scenarios.prepare()
        results = {one.name: _measure(one, options.repeats) for one in wanted}
    _show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs of measurements each")
    parser.add_argument("--only", nargs="*", help="names of scenarios")
    return parser.parse_args()


def _measure(scenario: Scenario, repeats: int) -> dict[str, object]:
    scenario.ours()
    scenario.bare()
    pairs = [(scenario.ours(), scenario.bare()) for _ in range(repeats)]
    ratios = [scenario.ratio(ours, bare) for ours, bare in pairs]
    quartiles = statistics.quantiles(ratios, n=4) if repeats > 1 else [ratios[0]] * 3
    return {
        "ours": round(statistics.median(ours for ours, _ in pairs), 3),
        "bare_celery": round(statistics.median(bare for _, bare in pairs), 3),
        "ratio": round(statistics.median(ratios), 3),
        "unit": scenario.unit,
        "repeats": repeats,
        "spread": round(quartiles[2] - quartiles[0], 3),
    }


def _show(results: dict[str, dict[str, object]]) -> None:
    table = Table("scenario", "ours", "bare Celery", "unit", "ratio", "spread", "repeats")
    for name, one in results.items():
        columns = ("ours", "bare_celery", "unit", "ratio", "spread", "repeats")
        table.add_row(name, *(str(one[column]) for column in columns))
    console = Console()
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, prefork of 2")
    console.print(table)


if __name__ == "__main__":
    main()
