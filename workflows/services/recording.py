"""Recording: how claimed attempts ended is stored, and what follows is claimed with it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from workflows import store
from workflows.engine.events import Failed, Succeeded
from workflows.engine.plan import Node
from workflows.services import guards, profiles
from workflows.services.claiming import claim_any_step, may_follow
from workflows.services.deciding import Wish
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
from workflows.services.sending import send_queued
from workflows.services.work import Taker, Work, lease, slice_of, works_of
from workflows.store import Seen

Outcome = Succeeded | Failed

Done = tuple[Work, Outcome]


def record_outcome(  # noqa: PLR0913 - the facts of an outcome, named
    *,
    work: Work,
    outcome: Outcome,
    taker: Taker,
    run_on: bool,
    now: datetime,
    siblings: bool = True,
    again: bool = False,
) -> list[Work]:
    """Record how an attempt ended; with `run_on`, return what is next, claimed already.

    That is one attempt, or several that go abreast; it may be one of its `siblings` in a fan-out.
    With `again`, an earlier call of the same taker may have come through unheard.
    """
    if work.profile is not None:
        profiles.give_back(work.profile, outcome, now=now)
    wish = _wish(taker, partial(may_follow, taker), now) if run_on else None
    recall = partial(_recorded_before, [(work, outcome)], taker)
    ahead = partial(_record_ahead, work, outcome, taker, wish, now)
    progress = patiently(ahead, recall, again=again) or in_flight(
        lambda: advance_run(
            work.pinned,
            outcome,
            now=now,
            wish=wish,
            unsettled=taker.unsettled,
            brought=taker.brought,
        ),
        recall,
    )
    pin = progress.pinned or work.pinned
    _let_go(work.pinned, pin, progress, now)
    if work.node.guard:
        guard, asked = work.node.guard, work.tells_guard
        guards.tell(work.place, guard, outcome, is_asked=asked, now=now)
    if progress.claimed:
        return patiently(partial(works_of, pin, progress, work.queue))
    if run_on and siblings and taker.fan is not None:
        after = -1 if taker.settles else pin.plan.node(work.path).index
        sibling = claim_any_step(pin=pin, taker=taker, now=now, after=after, again=again)
        return [] if sibling is None else [sibling]
    return []


def _record_ahead(
    work: Work, outcome: Outcome, taker: Taker, wish: Wish | None, now: datetime
) -> Progress | None:
    if work.seen is None:
        return None
    return advance_ahead(
        work.pinned,
        work.seen,
        outcome,
        environment=work.environment,
        now=now,
        wish=wish,
        unsettled=taker.unsettled,
        brought=taker.brought,
    )


def record_outcomes(
    *, done: Sequence[Done], taker: Taker, run_on: bool, now: datetime
) -> list[Work]:
    """Record how several attempts ended that went abreast; with `run_on`, claim what is next.

    All in one statement, as far as they meet nobody; the others in a transaction for each run.
    """
    wish = _wish(taker, taker.goes_abreast, now) if run_on else None
    runs: dict[UUID, list[Done]] = {}
    for work, outcome in done:
        runs.setdefault(work.run, []).append((work, outcome))
    proposals = [_propose_outcomes(some, taker, wish, now) for some in runs.values()]
    claimed: list[Work] = []
    for some, ahead in zip(runs.values(), conclude_all(proposals), strict=True):
        progress = ahead or _record_together(some, taker, wish, now)
        work, _ = some[0]
        pin = progress.pinned or work.pinned
        _let_go(work.pinned, pin, progress, now)
        claimed += works_of(pin, progress, work.queue)
    return claimed


def _propose_outcomes(
    some: Sequence[Done], taker: Taker, wish: Wish | None, now: datetime
) -> Proposal | None:
    """Decide several outcomes of one run, and claim what follows."""
    first, _ = some[0]
    if any(work.seen is None for work, _ in some):
        return None
    seen = {view.path: view for work, _ in some if work.seen for view in work.seen.steps}
    single = len(some) == 1
    alone = first.seen.alone if single and first.seen else frozenset[str]()
    return propose(
        first.pinned,
        Seen(tuple(seen.values()), alone),
        *(outcome for _, outcome in some),
        environment=first.environment,
        now=now,
        wish=wish,
        unsettled=taker.unsettled,
    )


def _record_together(
    some: Sequence[Done], taker: Taker, wish: Wish | None, now: datetime
) -> Progress:
    """Record several outcomes of one run under the locks."""
    outcomes = [outcome for _, outcome in some]
    facts: dict[str, Any] = {"now": now, "wish": wish, "unsettled": taker.unsettled}
    return in_flight(
        partial(advance_run, some[0][0].pinned, *outcomes, **facts),
        partial(_recorded_before, some, taker),
    )


def _recorded_before(some: Sequence[Done], taker: Taker) -> Progress | None:
    """Return what came of outcomes whose answer was lost; None when they were not recorded."""
    work, _ = some[0]
    if not store.has_ended_by(work.run, work.path, work.attempt, taker.worker):
        return None
    pin = pinned(work.run)
    send_queued(pin, work.environment)
    done = {one.path for one, _ in some}
    views = store.all_held_by(work.run, taker.worker)
    following = tuple(view for view in views if view.path not in done)
    return Progress(held=slice_of(pin, work.environment), claimed=following, pinned=pin)


def _wish(taker: Taker, fits: Callable[[Node], bool], now: datetime) -> Wish:
    abreast, width = taker.goes_abreast, 1 if taker.brought else taker.width
    return Wish(taker.queue, taker.worker, now + lease(), fits, abreast, width)


def _let_go(before: Pinned, pin: Pinned, progress: Progress, now: datetime) -> None:
    """Let others have the profiles that a run held, in any of its versions, once it has ended."""
    has_profiles = before.plan.has_profiles or pin.plan.has_profiles
    if has_profiles and progress.decision.run_moves:
        profiles.release_run(pin.run, now=now)
