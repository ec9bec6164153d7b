"""What is to be sent to workers, as values, and the Publisher that sends it.

A message carries ids and a fence, never data, and is only a nudge: the QUEUED
rows are the outbox, and recovery sends again what was never claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import structlog
from django.conf import settings
from django.utils.module_loading import import_string

log = structlog.get_logger(__name__)

FAN_OUT_FROM = 8
"""From this many steps on one queue at once, a chord of takers is cheaper than a message each."""

FAN_OUT_WIDTH = 32
"""How many takers a fan-out has at most: no fewer than the workers of a queue, or some idle."""

ABREAST = 20
"""How many quick steps a worker takes at once, and how many travel in one message."""

FIRST_TAKERS = 2
"""How many takers are sent to a loop at most; each sends another while it finds more."""

LOOPS_AT_ONCE = 50
"""How many loops one message has filled up."""

CROWDED = 1000
"""With this many messages waiting in a queue, nothing is sent to it a second time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Begin at one queued attempt, and run on from there."""

    run: UUID
    version: UUID
    path: str
    attempt: int
    queue: str
    is_quick: bool = False
    """Whether it has proven quick, so that it had better share a message with others."""


@dataclass(frozen=True, slots=True)
class Line:
    """A queued attempt and the first attempts of the steps after it, on other queues, in order.

    The worker of each segment leaves the message for the next to the line; a segment that
    does not complete its step ends the line.
    """

    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class FanOut:
    """Have `width` takers carry out whatever is queued of the run, then settle the scope.

    Whoever ends the items of a loop settles it, so nobody waits for its takers; a few are sent,
    and call for others.
    """

    run: UUID
    version: UUID
    queue: str
    width: int
    scope: str
    is_loop: bool = False


@dataclass(frozen=True, slots=True)
class Refill:
    """Have the engine begin the items of loops that have room for some, one after the other."""

    run: UUID
    version: UUID
    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """Have the engine look at what is due: something is, and nobody need wait for the clock."""


@dataclass(frozen=True, slots=True)
class Attend:
    """Have the engine see to the child runs of a run: something about them has come to be due."""

    run: UUID


@dataclass(frozen=True, slots=True)
class Vacated:
    """Have the engine see who has waited for the place that the run has left."""

    run: UUID


Dispatch = Segment | Line | FanOut | Refill | Look | Attend | Vacated


class Publisher(Protocol):
    """Sends dispatches to workers."""

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """Send them, or raise OSError when the broker cannot be reached."""

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue; raises OSError like `publish`."""


@lru_cache
def publisher() -> Publisher:
    """Return the publisher that the settings name."""
    made: Publisher = import_string(settings.ORCHESTRATOR["PUBLISHER"])()
    return made


def publish(dispatches: Sequence[Dispatch]) -> bool:
    """Send dispatches after a commit, and say whether the broker has taken all of them.

    A broker that is down delays the work and loses nothing.
    """
    try:
        publisher().publish(dispatches)
    except OSError as error:
        log.warning("dispatch.postponed", dispatches=len(dispatches), error=str(error))
        return False
    return True


def is_crowded(queue: str) -> bool:
    """Say whether so many messages wait in a queue that it explains why a step is not claimed.

    Sending such steps again and again would let the queue grow without bound.
    """
    try:
        return publisher().waiting(queue) >= CROWDED
    except OSError:
        return False
