"""Figures and their targets. Pure: values in, medians, ratios and verdicts out."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]

MET = "met"
NOT_MET = "not met"
NO_TARGET = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at: at least, or at most, so much."""

    limit: float
    better: Better = "higher"

    def is_met_by(self, value: float) -> bool:
        """Say whether the value is good enough."""
        return value >= self.limit if self.better == "higher" else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.better == 'higher' else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured, several times or once, and what is aimed at."""

    name: str
    what: str
    values: tuple[float, ...]
    unit: str
    target: Target | None = None

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """Whether the median is what was aimed at."""
        if self.target is None:
            return NO_TARGET
        return MET if self.target.is_met_by(self.median) else NOT_MET

    def as_json(self) -> dict[str, Any]:
        """Return the figure as the results keep it."""
        return {
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": str(self.target or ""),
            "verdict": self.verdict,
        }


def ratios(ours: Sequence[float], others: Sequence[float], better: Better) -> tuple[float, ...]:
    """Return how many times better ours is, round by round: above 1 is better, either way."""
    pairs = zip(ours, others, strict=True)
    return tuple(one / other if better == "higher" else other / one for one, other in pairs)


def best_of(trials: Mapping[str, float], better: Better) -> str:
    """Return the name of the best value."""
    pick = max if better == "higher" else min
    return pick(trials, key=lambda name: trials[name])


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """Return the names in the order of a round: each begins once in as many rounds as there are."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def short(value: float) -> str:
    """Write a value with three significant digits or all before the point, and no exponent."""
    whole = len(str(int(abs(value))))
    return f"{value:,.{max(0, 3 - whole)}f}"


def spread(values: Sequence[float]) -> str:
    """Write the lowest and the highest value."""
    return f"{short(min(values))} to {short(max(values))}" if len(values) > 1 else ""
