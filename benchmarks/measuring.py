"""Measure: first which way of running bare Celery is its best, then all side by side.

In a round everybody does the same work once, in turn, so that a slow moment of the machine meets
all; who begins changes with the round, and the first round is thrown away. A ratio is taken within
a round; the figure is the median over the rounds.
"""

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.conf import settings
from rich.progress import Progress

from benchmarks import variants
from benchmarks.contests import WIDE, WIDEST, Contest
from benchmarks.figures import Figure, Target, best_of, in_turn, ratios, short
from benchmarks.stage import bare_celery, platform
from benchmarks.variants import Variant

TRIALS = 3
FLAT = 0.9
"""How much of a narrow fan-out's speed for each branch a wide one keeps, at least."""

SETTINGS = {"same": "the same settings", "best": "its best settings"}
Trials = dict[str, dict[str, float]]


@dataclass(slots=True)
class Result:
    """What came of a contest: the values of each round, by who made them."""

    contest: Contest
    best: str
    rounds: list[dict[str, float]]

    def values(self, who: str) -> tuple[float, ...]:
        """Return somebody's values, round by round."""
        return tuple(one[who] for one in self.rounds)

    @property
    def line(self) -> str:
        """What came of it, in short: shown while the next is measured."""
        figure = self.figure()
        beside = [
            f"{short(self.ratio(who).median)} times {who}"
            for who in self.rounds[0]
            if who != "ours"
        ]
        return f"{figure.name}: {short(figure.median)} {figure.unit} {', '.join(beside)}".rstrip()

    def figure(self) -> Figure:
        """Return what the platform did."""
        one = self.contest
        target = None if one.least is None else Target(one.least)
        return Figure(one.name, one.what, self.values("ours"), one.unit, target)

    def ratio(self, to: str) -> Figure:
        """Return how many times better than bare Celery the platform was."""
        limit = self.contest.targets.get(to)
        return Figure(
            self.contest.name,
            f"relative to bare Celery under {SETTINGS[to]}",
            ratios(self.values("ours"), self.values(to), self.contest.better),
            "",
            None if limit is None else Target(limit),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the result as it is kept."""
        return self.figure().as_json() | {
            "best": self.best,
            "rounds": self.rounds,
            "ratios": {
                who: self.ratio(who).as_json() for who in ("same", "best") if who in self.rounds[0]
            },
        }


def trials(tried: Sequence[Variant], wanted: Sequence[Contest], progress: Progress) -> Trials:
    """Let every variant of bare Celery do the work a few times; return the medians."""
    found: Trials = {one.name: {} for one in wanted}
    for variant in progress.track(tried, description="what is best for bare Celery"):
        with bare_celery(variant) as bare:
            for one in wanted:
                if one.bare is not None:
                    one.bare(bare)
                    values = [one.bare(bare) for _ in range(TRIALS)]
                    found[one.name][variant.name] = statistics.median(values)
    return found


def contests(
    wanted: Sequence[Contest],
    tried: Sequence[Variant],
    found: Trials,
    repeats: int,
    progress: Progress,
) -> list[Result]:
    """Let the platform and bare Celery do the same work, in turn."""
    by_name = {one.name: one for one in tried}
    results = []
    with platform() as ours, bare_celery(variants.same(settings.ENV.broker)) as same:
        for one in wanted:
            best = ""
            with ExitStack() as stack:
                sides = {"ours": partial(one.ours, ours)}
                if one.bare is not None:
                    best = best_of(found[one.trial], one.better)
                    at_best = stack.enter_context(bare_celery(by_name[best]))
                    sides["same"] = partial(one.bare, same)
                    sides["best"] = partial(one.bare, at_best)
                rounds = rounds_of(sides, repeats, progress, one.name)
            results.append(Result(one, best, rounds))
            progress.console.print(results[-1].line)
    return results


def rounds_of(
    sides: Mapping[str, Callable[[], float]], repeats: int, progress: Progress, name: str
) -> list[dict[str, float]]:
    """Let every side do its work once in each round; throw the first round away."""
    names = list(sides)
    made = [
        {who: _alone(sides[who]) for who in in_turn(names, number)}
        for number in progress.track(range(repeats + 1), description=name)
    ]
    return made[1:]


def _alone(side: Callable[[], float]) -> float:
    """Let a side do its work, without the garbage of the one before."""
    gc.collect()
    return side()


def flatness(results: Sequence[Result]) -> list[Figure]:
    """Return how a branch's cost in a wide fan-out compares to that in a narrow one."""
    by_name = {one.contest.name: one for one in results}
    narrow, wide = by_name.get("fan_out_1000"), by_name.get("fan_out_10000")
    if narrow is None or wide is None:
        return []
    pairs = zip(narrow.values("ours"), wide.values("ours"), strict=True)
    kept = tuple((one / WIDE) / (other / WIDEST) for one, other in pairs)
    what = f"branches a second in a fan-out of {WIDEST:,} relative to one of {WIDE:,}"
    return [Figure("flat", what, kept, "", Target(FLAT))]
