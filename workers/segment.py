"""A segment: carry out claimed steps, record their outcomes, run on while there is time.

Each step is committed before the next begins, alone or with those abreast of it; only the way
through the broker is saved. The lease is held until the outcome is recorded, which may take as
long as the database is away.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial

from workers.abreast import go_abreast
from workers.attempt import carry_out_timed, record
from workers.leases import keeper
from workers.outage import outlast
from workers.pace import pace
from workers.slots import slots
from workflows.dispatch import Segment
from workflows.engine.events import Succeeded
from workflows.services import outbox
from workflows.services.plans import Pinned, pinned_to
from workflows.services.work import Taker, Work

SLICE = 2.0
"""Seconds after which a worker takes its next message instead of running on."""


def run_on(works: Sequence[Work], taker: Taker, *, began: float) -> bool:
    """Carry out claimed steps and what follows on them; return whether the last one succeeded."""
    completed = False
    has_time = partial(_has_time, began)
    while works:
        if len(works) > 1:
            works, completed = go_abreast(works, taker, has_time), False
            continue
        work = works[0]
        with keeper.hold(work) as (held,):
            outcome = carry_out_timed(work, held)
            completed = isinstance(outcome, Succeeded)
            works = outlast(partial(record, work, outcome, taker, has_time()))
    return completed


def _has_time(began: float) -> bool:
    return time.monotonic() - began < SLICE and not slots.stopping


class Rest:
    """What of a bundle nobody has begun yet; a step that takes long does not hold it up."""

    def __init__(self, segments: Iterable[Segment]) -> None:
        self._segments = deque(segments)

    def next(self) -> Segment | None:
        """Take what is to be begun next, if there is anything left."""
        try:
            return self._segments.popleft()
        except IndexError:
            return None

    def quick(self) -> list[tuple[Pinned, str]]:
        """Take what may go abreast: first attempts at quick steps."""
        pins = [(one, pinned_to(one.run, one.version)) for one in tuple(self._segments)]
        quick = [
            (one, pin)
            for one, pin in pins
            if one.attempt == 1 and pace.is_quick(pin.plan.node(one.path))
        ]
        return [(pin, one.path) for one, pin in quick if self._take(one)]

    def _take(self, segment: Segment) -> bool:
        """Take a segment, unless another thread has given it back."""
        try:
            self._segments.remove(segment)
        except ValueError:
            return False
        return True

    def give_back(self, *more: Segment) -> None:
        """Send to the queue, one by one, what is left. Safe while another thread takes."""
        left = [*more, *iter(self.next, None)]
        if left:
            outbox.send(left)
