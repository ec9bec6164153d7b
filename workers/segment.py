"""A segment: carry out a claimed step, record its outcome, run on while there is time.

Each step is committed on its own; only the way through the broker is saved. The lease is held
until the outcome is recorded, which may take as long as the database is away.
"""

import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from django.conf import settings

from workers import executor
from workers.context import LeasedProfile
from workers.executor import Assignment
from workers.folders import ProfileRoom
from workers.leases import Held, bounded, keeper
from workers.outage import outlast
from workers.pace import pace
from workers.registry import catalog
from workers.slots import slots
from workflows import store
from workflows.dispatch import Segment
from workflows.engine.events import Failed, Succeeded
from workflows.services import outbox, steps
from workflows.services.plans import Pinned, pinned_to
from workflows.services.profiles import Profile
from workflows.services.steps import Outcome, Taker, Work

SLICE = 2.0
"""Seconds after which a worker takes its next message instead of running on."""


def run_on(work: Work | None, taker: Taker, *, began: float) -> bool:
    """Carry out `work` and what follows on its queue; return whether the last one succeeded."""
    completed = False
    while work is not None:
        with keeper.hold(work) as (held,):
            outcome = carry_out_timed(work, held)
            completed = isinstance(outcome, Succeeded)
            further = time.monotonic() - began < SLICE and not slots.stopping
            work = outlast(partial(record, work, outcome, taker, further))
    return completed


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


def record(work: Work, outcome: Outcome, taker: Taker, further: bool, again: bool) -> Work | None:
    """Record how an attempt ended, and return the next one, but for siblings to go abreast."""
    return steps.record_outcome(
        work=work,
        outcome=outcome,
        taker=taker,
        run_on=further,
        siblings=not pace.is_quick(work.node),
        now=store.now(),
        again=again,
    )


def carry_out_timed(work: Work, held: Held) -> Outcome:
    """Carry out one attempt, and note how long it took."""
    held.begin()
    outcome = carry_out(work, held)
    held.end()
    pace.note(work.uses, held.seconds)
    return outcome


def carry_out(work: Work, held: Held) -> Outcome:
    """Carry out one attempt."""
    if work.refusal is not None:
        return Failed(work.path, work.attempt, work.refusal)
    if work.profile is None:
        return _performed(work, held, None)
    room = _room_of(work.profile)
    given = LeasedProfile(work.profile.name, work.profile.pool, work.profile.context or {}, room)
    try:
        return _performed(work, held, given)
    finally:
        work.profile.context = given.context
        work.profile.soiled = room.leave(
            keep=work.profile.keeps_folder, most_mib=settings.ORCHESTRATOR["PROFILE_FOLDER_MIB"]
        )


def _room_of(profile: Profile) -> ProfileRoom:
    root = Path(settings.ORCHESTRATOR["PROFILE_DIR"])
    return ProfileRoom(root, profile.environment, profile.id, profile.turn)


def _performed(work: Work, held: Held, profile: LeasedProfile | None) -> Outcome:
    assignment = Assignment(
        run_id=str(work.run),
        path=work.path,
        attempt=work.attempt,
        workflow=work.pinned.plan.workflow,
        environment=work.place,
        uses=work.uses,
        arguments=work.arguments,
        names=work.names,
        timeout=bounded(work.timeout),
        idempotent=work.node.idempotent,
        probe_first=work.probe_first,
        probe_only=work.probe_only,
        profile=profile,
    )
    return executor.execute(assignment, registry=catalog, cancelled=lambda: held.stop)
