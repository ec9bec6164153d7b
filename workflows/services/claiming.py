"""Claiming: a worker takes queued attempts; each is had by one worker at most.

A step with a guard or a pool asks first, and is parked when it may not begin.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from enum import Enum
from functools import partial

from environments.models import environment_of
from workflows import store
from workflows.engine import compensating
from workflows.engine.events import Claimed, Parked
from workflows.engine.plan import Node
from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState
from workflows.services import guards, profiles
from workflows.services.flights import in_flight
from workflows.services.patience import patiently
from workflows.services.plans import Pinned, pinned
from workflows.services.progress import (
    Progress,
    Proposal,
    advance_ahead,
    advance_run,
    conclude_all,
    propose,
)
from workflows.services.work import Taker, Work, asks, lease, slice_of, work_of, works_of
from workflows.store import Seen


class PutAside(Enum):
    """What comes of a claim when the attempt has been parked: there may be others to be had."""

    PUT_ASIDE = "put_aside"


PUT_ASIDE = PutAside.PUT_ASIDE


def claim_step(  # noqa: PLR0913 - the facts of a message, named
    *, pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime, again: bool = False
) -> Work | None:
    """Claim a queued attempt; None when somebody else has it, or it is no longer wanted.

    It is parked instead while its guard is open, or no profile of its pool is free.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    recall = partial(_claimed_before, pin, taker, path)
    if patiently(partial(_must_ask, pin.plan.node(path), taker)):
        asking = partial(_claim_asking, pin, path, attempt, taker, now)
        found = in_flight(asking, recall, again=again)
        return None if found is PUT_ASIDE else found
    return patiently(partial(_claim, pin, path, attempt, taker, now), recall, again=again)


def claim_any_step(
    *, pin: Pinned, taker: Taker, now: datetime, after: int = -1, again: bool = False
) -> Work | None:
    """Claim a queued step of the fan-out that no other worker is taking, first behind `after`.

    With `again`, an earlier call of the same taker may have come through unheard.
    """
    once = partial(_claim_any, pin, taker, now, after)
    recall = partial(_claimed_before, pin, taker)
    while (found := in_flight(once, recall, again=again)) is PUT_ASIDE:
        pass
    return found


def claim_steps(*, fences: Sequence[tuple[Pinned, str]], taker: Taker, now: datetime) -> list[Work]:
    """Claim the first attempts at steps, each of a run of its own, as far as they can be had."""
    fences = [(pin, path) for pin, path in fences if not asks(pin.plan.node(path))]
    proposals = [_propose_claims(pin, [path], taker, now) for pin, path in fences]
    return [
        work
        for (pin, _), progress in zip(fences, conclude_all(proposals), strict=True)
        if progress is not None
        for work in works_of(pin, progress, taker.queue)
    ]


def claim_abreast(
    *, pin: Pinned, taker: Taker, now: datetime, after: int = -1, again: bool = False
) -> list[Work]:
    """Claim the first attempts at quick queued steps of the fan-out; several or none.

    Those come first that are behind the node `after`.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    recall = partial(_all_claimed_before, pin, taker)
    return in_flight(partial(_claim_abreast, pin, taker, after, now), recall, again=again)


def claims_of(*, pin: Pinned, taker: Taker) -> list[Work]:
    """Return all that the taker has claimed of a run, whether or not it has heard of it."""
    pin = pinned(pin.run)
    held = slice_of(pin, environment_of(taker.queue))
    claimed = tuple(store.all_held_by(pin.run, taker.worker))
    return works_of(pin, Progress(held=held, claimed=claimed), taker.queue)


def has_queued(*, pin: Pinned, taker: Taker) -> bool:
    """Say whether a queued step of the fan-out still waits for a worker."""
    scope = taker.fan or ""
    found = in_flight(lambda: store.next_queued(pin.run, scope, taker.queue, after=-1))
    return found is not None


def _must_ask(node: Node, taker: Taker) -> bool:
    """Say whether an attempt may be claimed only if its guard, or its pool, lets it pass."""
    if node.pool:
        return True
    return bool(node.guard) and guards.is_shut(environment_of(taker.queue), node.guard)


def may_follow(taker: Taker, node: Node) -> bool:
    """Say whether an attempt may be claimed as what follows on another, with nothing to ask."""
    return not _must_ask(node, taker)


def _claim_any(pin: Pinned, taker: Taker, now: datetime, after: int) -> Work | PutAside | None:
    found = store.next_queued(pin.run, taker.fan or "", taker.queue, after=after)
    if found is None or not pin.knows(found[0]):
        return None
    must_ask = _must_ask(pin.plan.node(found[0]), taker)
    return (_claim_asking if must_ask else _claim)(pin, *found, taker, now)


def _claim_asking(
    pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime
) -> Work | PutAside | None:
    """Claim an attempt if guard and pool let it pass, else park it. The caller has a transaction.

    What it waits for longest comes last, so that it holds no profile while its guard is open.
    """
    node, place = pin.plan.node(path), environment_of(taker.queue)
    if not _is_here(pin, node, taker.queue):
        return None
    parked: Parked | None = None
    kept: list[Callable[[], None]] = []
    for has, ask in ((node.guard, guards.pass_guard), (node.pool, profiles.lease_profile)):
        if has and parked is None:
            parked, keep = ask(pin, path, attempt, environment=place, now=now)
            kept = [keep] if parked else [*kept, keep]
    event = parked or Claimed(path, attempt, taker.worker, now + lease())
    progress = advance_run(pin, event, now=now, unsettled=taker.unsettled)
    if not progress.decision.moves or progress.held is None:
        return None
    if parked is not None and node.pool:
        profiles.let_go_of(pin, path, attempt)
    for keep in kept:
        keep()
    if parked is not None:
        return PUT_ASIDE
    work = work_of(pin, progress, taker.queue, progress.held.steps[path])
    return None if work is None else replace(work, tells_guard=bool(node.guard))


def _claim(pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime) -> Work | None:
    if not _is_here(pin, pin.plan.node(path), taker.queue):
        return None
    if compensating.is_undo(pin.plan, path):
        return in_flight(partial(_claim_undo, pin, path, attempt, taker, now))
    reason = store.why_queued(pin.run, path, attempt) if attempt > 1 else None
    queued = _queued(pin, path, attempt, reason)
    progress = advance_ahead(
        pin,
        Seen((queued,)),
        Claimed(path, attempt, taker.worker, now + lease()),
        environment=environment_of(taker.queue),
        now=now,
        unsettled=taker.unsettled,
    )
    return None if progress is None else next(iter(works_of(pin, progress, taker.queue)), None)


def _claim_undo(pin: Pinned, path: str, attempt: int, taker: Taker, now: datetime) -> Work | None:
    """Claim under locks: what is decided ahead is of runs that run, and this one is undone."""
    claimed = Claimed(path, attempt, taker.worker, now + lease())
    progress = advance_run(pin, claimed, now=now)
    held = progress.held
    view = held.steps[path] if held and progress.decision.moves else None
    return work_of(pin, progress, taker.queue, view)


def _is_here(pin: Pinned, node: Node, queue: str) -> bool:
    """Say whether a step is for the workers of a queue's environment, whoever sent it there."""
    place = environment_of(queue)
    if node.environment:
        return node.environment == place
    return place not in pin.plan.elsewhere or store.standing(pin.run, place).home == place


def _claim_abreast(pin: Pinned, taker: Taker, after: int, now: datetime) -> list[Work]:
    scope, width = taker.fan or "", taker.width
    found = store.all_queued(pin.run, scope, taker.queue, after=after, limit=width)
    paths = [
        path
        for path, attempt in found
        if attempt == 1 and pin.knows(path) and taker.goes_abreast(pin.plan.node(path))
    ]
    proposal = _propose_claims(pin, paths, taker, now) if len(paths) > 1 else None
    progress = None if proposal is None else proposal.commit()
    return [] if progress is None else works_of(pin, progress, taker.queue)


def _propose_claims(
    pin: Pinned, paths: Sequence[str], taker: Taker, now: datetime
) -> Proposal | None:
    until = now + lease()
    return propose(
        pin,
        Seen(tuple(_queued(pin, path, 1) for path in paths)),
        *(Claimed(path, 1, taker.worker, until) for path in paths),
        environment=environment_of(taker.queue),
        now=now,
        unsettled=taker.unsettled,
    )


def _queued(pin: Pinned, path: str, attempt: int, reason: Reason | None = None) -> StepView:
    node = pin.plan.node(path)
    return StepView(
        path=path,
        node=node.index,
        scope=pin.plan.path(node.scope, path),
        state=StepState.QUEUED,
        attempt=attempt,
        reason=reason,
    )


def _all_claimed_before(pin: Pinned, taker: Taker) -> list[Work] | None:
    return claims_of(pin=pin, taker=taker) or None


def _claimed_before(pin: Pinned, taker: Taker, path: str | None = None) -> Work | None:
    """Return what the taker has claimed without hearing of it; of one step, or of any."""
    pin = pinned(pin.run)
    claimed = store.held_by(pin.run, taker.worker, path)
    held = slice_of(pin, environment_of(taker.queue))
    return work_of(pin, Progress(held=held), taker.queue, claimed)
