"""Which fault comes when: made of the seed and the minutes alone, before anything is started.

The faults are dealt like cards: each comes once before any comes again, in an order and at times
that chance decides. What a fault needs to know (whom, how long) is drawn here as well, so that a
schedule printed is the whole plan, and the same seed and minutes are the same plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Protocol

CALM = 5.0
"""Seconds before the first fault: runs are under way by then."""

GAP = 6.0
"""Mean seconds between two faults where there is room; a short storm is denser."""


class Drawn(Protocol):
    """A kind of fault, as far as a schedule asks."""

    name: str

    def draw(self, chance: Random) -> dict[str, Any]:
        """Draw what the fault needs to know."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault at a time, in seconds from the beginning of the storm."""

    at: float
    fault: str
    how: Mapping[str, Any]

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def schedule_of(*, seed: int, seconds: float, faults: Sequence[Drawn]) -> list[Injection]:
    """Return what is injected, in the order of its times."""
    chance = Random(f"{seed} {seconds:g}")  # noqa: S311 - chance here must repeat
    room = max(0.0, seconds - CALM)
    count = max(len(faults), int(room / GAP))
    deck: list[Drawn] = []
    found = []
    for place in range(count):
        if not deck:
            deck = list(faults)
            chance.shuffle(deck)
        fault = deck.pop()
        how = fault.draw(chance)
        share = (place + chance.random()) / count
        at = CALM + share * max(0.0, room - float(how.get("seconds", 0.0)))
        found.append(Injection(round(at, 2), fault.name, how))
    return sorted(found, key=lambda injection: injection.at)
