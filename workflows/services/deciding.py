"""Deciding: the engine is asked, and given what it may not know itself: chance, settings, URLs.

What a worker wishes to go on with is claimed by the same decision. Nothing is stored here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random, SystemRandom

from django.conf import settings

from workflows import store
from workflows.engine import looping
from workflows.engine.advance import advance, requirement
from workflows.engine.decision import Decision
from workflows.engine.events import Claimed, Drained, Event, Succeeded
from workflows.engine.plan import ROOT, Node, Plan
from workflows.engine.slice import Requirement, Slice, StepView
from workflows.engine.states import StepState
from workflows.language.words import OnFailure
from workflows.links import callback_url
from workflows.store import Ahead

CHANCE: Random = SystemRandom()


@dataclass(frozen=True, slots=True)
class Wish:
    """What the worker would go on with: a step that becomes ready on its queue."""

    queue: str
    worker: str
    lease_until: datetime
    fits: Callable[[Node], bool] = field(default=lambda _: True)
    abreast: Callable[[Node], bool] = field(default=lambda _: False)
    """What it would go on with together with others like it."""
    width: int = 1
    """How many of those."""


def patience() -> timedelta:
    """Return how long a queued step may wait for a worker before it is sent again."""
    return timedelta(seconds=settings.ORCHESTRATOR["REPUBLISH_SECONDS"])


def decided(plan: Plan, held: Slice, *events: Event, now: datetime) -> Decision:
    """Decide events; what is held of the run changes with them."""
    held.link = partial(callback_url, held.run.id)
    return advance(plan, held, *events, now=now, chance=CHANCE, patience=patience())


def needed(plan: Plan, events: Sequence[Event]) -> Requirement:
    """Return what must be held of a run to decide events."""
    wanted = looping.refills(plan, [one.path for one in events if isinstance(one, Succeeded)])
    for event in events:
        wanted |= requirement(plan, event)
    return wanted


def left_to_others(event: Event, unsettled: frozenset[str]) -> bool:
    """Say whether somebody else will settle the scope that has drained."""
    return isinstance(event, Drained) and event.path in unsettled


def claim_ready(
    plan: Plan, held: Slice, decision: Decision, wish: Wish, now: datetime
) -> tuple[StepView, ...]:
    """Claim what this decision queued where the worker listens: the first, or several abreast."""
    ready = [
        move.after
        for move in decision.moves
        if move.after.state is StepState.QUEUED
        and held.steps[move.after.path] is move.after
        and store.queue_of(plan.nodes[move.after.node], held.run.environment) == wish.queue
        and wish.fits(plan.nodes[move.after.node])
    ]
    quick = [view for view in ready if view.attempt == 1 and wish.abreast(plan.nodes[view.node])]
    wanted = quick[: wish.width] if quick and quick[0] is ready[0] else ready[:1]
    taken = [Claimed(one.path, one.attempt, wish.worker, wish.lease_until) for one in wanted]
    if not taken:
        return ()
    decision.extend(decided(plan, held, *taken, now=now))
    views = (held.steps[one.path] for one in taken)
    return tuple(view for view in views if view.state is StepState.RUNNING)


def look_ahead(plan: Plan, claimed: Sequence[StepView], unsettled: frozenset[str]) -> Ahead | None:
    """Return what the ends of claimed steps will be decided upon, if rows alone can tell."""
    wanted, alone = Requirement(), None
    if any(plan.nodes[view.node].is_item for view in claimed):
        return None
    for view in claimed:
        if plan.nodes[view.node].retry.max_duration is not None:
            return None
        wanted |= requirement(plan, Succeeded(view.path, view.attempt))
        if len(claimed) > 1 or plan.nodes[view.node].needed_by or view.scope in unsettled:
            continue
        if view.scope == ROOT and plan.on_failure is OnFailure.PARK:
            continue
        wanted |= requirement(plan, Drained(view.scope))
        alone = view.scope
    if wanted.roots or wanted.records:
        return None
    return Ahead(tuple(wanted.paths), alone)
