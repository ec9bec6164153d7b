"""Measure: first which way of running bare Celery is its best, then all side by side.

In a round everybody does the same work once, in turn, so that a slow moment of the machine meets
all; who begins changes with the round. The ratio is taken within a round; the figure is the median
over the rounds.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import contests, variants
from benchmarks.contests import Contest
from benchmarks.rabbitmq import rabbitmq
from benchmarks.stage import HOME, bare_celery, platform, services
from benchmarks.variants import Variant

RESULTS = Path(__file__).parent / "results" / "latest.json"
TRIALS = 3


@dataclass(slots=True)
class Result:
    """What came of a contest: the values of each round, by who made them."""

    contest: Contest
    best: str
    trials: dict[str, float]
    rounds: list[dict[str, float]] = field(default_factory=list)

    def median(self, who: str) -> float:
        """Return the median of somebody's values."""
        return statistics.median(one[who] for one in self.rounds)

    def ratios(self, to: str) -> list[float]:
        """Return how many times better the platform was, round by round."""
        return [self.contest.ratio(one["ours"], one[to]) for one in self.rounds]


def run(*, only: list[str] | None, repeats: int) -> None:
    """Measure the contests named in `only`, or all of them."""
    wanted = [one for one in contests.CONTESTS if not only or one.name in only]
    console = Console()
    with (
        services(),
        rabbitmq(HOME / "rabbitmq") as broker,
        Progress(console=console, transient=True) as progress,
    ):
        contests.prepare()
        if broker is None:
            console.print("RabbitMQ is not installed: bare Celery is measured on Redis alone.")
        tried = variants.candidates(settings.ENV.broker, broker)
        trials = _trials(tried, wanted, progress)
        with platform():
            results = [_contest(one, tried, trials[one.name], repeats, progress) for one in wanted]
    _show(console, results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([_facts(one) for one in results], indent=2) + "\n")


def _trials(
    tried: Sequence[Variant], wanted: Sequence[Contest], progress: Progress
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {one.name: {} for one in wanted}
    for variant in progress.track(tried, description="the best of bare Celery"):
        with bare_celery(variant) as bare:
            for one in wanted:
                one.bare(bare)
                values = [one.bare(bare) for _ in range(TRIALS)]
                found[one.name][variant.name] = statistics.median(values)
    return found


def _contest(
    contest: Contest,
    tried: Sequence[Variant],
    trials: dict[str, float],
    repeats: int,
    progress: Progress,
) -> Result:
    pick = max if contest.better == "higher" else min
    best = pick(tried, key=lambda one: trials[one.name])
    result = Result(contest, best.name, trials)
    with ExitStack() as stack:
        same = stack.enter_context(bare_celery(variants.same(settings.ENV.broker)))
        at_best = stack.enter_context(bare_celery(best))
        sides: dict[str, Callable[[], float]] = {
            "ours": contest.ours,
            "same": lambda: contest.bare(same),
            "best": lambda: contest.bare(at_best),
        }
        _round(sides, 0)
        for number in progress.track(range(repeats), description=contest.name):
            result.rounds.append(_round(sides, number))
    return result


def _round(sides: dict[str, Callable[[], float]], number: int) -> dict[str, float]:
    names = list(sides)
    first = number % len(names)
    return {name: sides[name]() for name in [*names[first:], *names[:first]]}


def _facts(one: Result) -> dict[str, Any]:
    return {
        "name": one.contest.name,
        "unit": one.contest.unit,
        "best": one.best,
        "trials": one.trials,
        "rounds": one.rounds,
    }


def _show(console: Console, results: Sequence[Result]) -> None:
    for one in results:
        table = Table("bare Celery", one.contest.unit, title=f"{one.contest.name}: quick trials")
        for name, value in one.trials.items():
            table.add_row(name, f"{value:.4g}")
        console.print(table)
    table = Table("contest", "who", "median", "unit", "ratio", "lowest", "highest", "target")
    for one in results:
        shown = {"ours": "platform", "same": "bare, same settings", "best": f"bare, {one.best}"}
        for who, name in shown.items():
            ratios = one.ratios(who)
            table.add_row(
                one.contest.name,
                name,
                f"{one.median(who):.4g}",
                one.contest.unit,
                *(f"{f(ratios):.2f}" for f in (statistics.median, min, max)),
                str(one.contest.targets.get(who, "")),
            )
    console.print(table)
