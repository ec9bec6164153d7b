"""Progress of one run: load, decide, write, until nothing more follows, in one transaction."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random, SystemRandom
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from workflows import store
from workflows.dispatch import (
    FAN_OUT_FROM,
    FAN_OUT_WIDTH,
    FIRST_TAKERS,
    LOOPS_AT_ONCE,
    Attend,
    Dispatch,
    FanOut,
    Line,
    Look,
    Refill,
    Segment,
    Vacated,
)
from workflows.engine import looping
from workflows.engine.advance import advance, requirement
from workflows.engine.decision import Decision
from workflows.engine.events import (
    CancelRequested,
    Claimed,
    Drained,
    Event,
    Parked,
    Started,
    StepError,
    Succeeded,
)
from workflows.engine.plan import LOOPS, ROOT, Node, Plan
from workflows.engine.slice import Requirement, RunView, Slice, StepView
from workflows.engine.states import FINISHED_RUNS, Reason, RunReason, RunState, StepState
from workflows.language.words import OnFailure, StepKind
from workflows.links import callback_url
from workflows.services import early, outbox
from workflows.services.announcing import tell_who_is_asked
from workflows.services.patience import patiently
from workflows.services.plans import Pinned, pinned_to
from workflows.store import Ahead, Change, Expected, NewRun, Seen

T = TypeVar("T")

ENGINE = "engine"
CHANCE: Random = SystemRandom()

GOING_ON = frozenset({RunState.RUNNING, RunState.PAUSED, RunState.COMPENSATING})
"""In these states of a run, what becomes ready is to be carried out sooner or later."""

_outbox: ContextVar[list[Dispatch] | None] = ContextVar("outbox", default=None)
"""What is to be sent after the commit of the current flight; None outside of one."""


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


@dataclass(slots=True)
class Progress:
    """What became of a run in one transaction."""

    decision: Decision = field(default_factory=Decision)
    held: Slice | None = None
    claimed: tuple[StepView, ...] = ()
    seen: Seen | None = None
    """What the next decision may be made upon, about the steps that were claimed."""
    pinned: Pinned | None = None
    """The run in the version by which it was decided, where that is another than was known."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run that is to be, and where; `refusal` is why it is over before it begins."""

    pinned: Pinned
    new: NewRun
    environment: str
    refusal: StepError | None = None


def begin_runs(beginnings: Sequence[Beginning], *, now: datetime, actor: str) -> list[bool]:
    """Bring runs into being and begin them, with one statement; say which of them are new.

    There may be another for the same reason. Nothing need be loaded of what is new. The caller
    holds the transaction.
    """
    begun = [_begun(one, now) for one in beginnings]
    changes = [
        store.change(
            one.pinned.run,
            one.pinned.plan,
            one.environment,
            progress.decision,
            now=now,
            actor=actor,
            new=one.new,
        )
        for one, progress in zip(beginnings, begun, strict=True)
    ]
    stored = [seen is not None for seen in store.commit_all(changes)]
    for one, progress, is_new in zip(beginnings, begun, stored, strict=True):
        if not is_new:
            continue
        _send(_hints(one.pinned, progress))
        if progress.decision.follow_ups:
            advance_run(one.pinned, *progress.decision.follow_ups, now=now, actor=actor)
    return stored


def _begun(one: Beginning, now: datetime) -> Progress:
    parent = str(one.new.parent or "")
    held = Slice(RunView(str(one.pinned.run), environment=one.environment, parent=parent))
    if one.refusal is not None:
        held.alone, held.held = frozenset({ROOT}), Requirement(everything=True)
        refused = CancelRequested(RunReason.SKIPPED, one.refusal)
        return Progress(_decided(one.pinned.plan, held, refused, now=now), held)
    if one.new.waits is not None or one.new.forked_from is not None:
        return Progress(held=held)
    return Progress(_decided(one.pinned.plan, held, Started(), now=now), held)


def patience() -> timedelta:
    """Return how long a queued step may wait for a worker before it is sent again."""
    return timedelta(seconds=settings.ORCHESTRATOR["REPUBLISH_SECONDS"])


def _decided(plan: Plan, held: Slice, *events: Event, now: datetime) -> Decision:
    held.link = partial(callback_url, held.run.id)
    return advance(plan, held, *events, now=now, chance=CHANCE, patience=patience())


def advance_run(  # noqa: PLR0913 - the facts of one transaction, named
    pinned: Pinned,
    *events: Event,
    now: datetime,
    actor: str = ENGINE,
    wish: Wish | None = None,
    unsettled: frozenset[str] = frozenset(),
    brought: str = "",
    held: Slice | None = None,
) -> Progress:
    """Decide `events` and all that follows; store it; have ready steps sent after the commit.

    With a `wish`, what becomes ready on its queue, and is wished for, is claimed at once and is
    not sent, once nothing follows that might end it. `unsettled` names scopes that somebody
    else will settle, `brought` a step whose message is on its way already; `held` is what the
    caller has locked and read of the run, if it has. The caller holds the transaction.

    A run that has gone over to another version goes on by that one, but nothing is claimed by a
    message that was sent before.
    """
    progress = Progress()
    todo: list[Event] = list(events)
    while todo:
        wanted, known = _needed(pinned.plan, todo), pinned.version
        try:
            held = held or store.load(pinned.run, pinned.plan, wanted, actor=actor, version=known)
        except store.WentOverError as moved:
            progress.pinned = pinned = pinned_to(pinned.run, moved.version)
            todo, brought = [event for event in todo if _still_holds(pinned, event)], ""
            continue
        decision = _decided(pinned.plan, held, *todo, now=now)
        todo = [event for event in decision.follow_ups if not _left_to_others(event, unsettled)]
        is_early = early.may_have_come(decision.waits)
        if wish is not None and not todo and not is_early:
            progress.claimed = _claim_ready(pinned.plan, held, decision, wish, now)
        place = held.run.environment
        change = store.change(pinned.run, pinned.plan, place, decision, now=now, actor=actor)
        store.commit(change)
        if is_early:
            todo = [*early.answers(pinned.run, decision.waits, now=now), *todo]
        progress.decision.extend(decision)
        progress.held, held = held, None
    _send(_hints(pinned, progress, brought, wish=wish))
    return progress


def _still_holds(pinned: Pinned, event: Event) -> bool:
    """Say whether something is to be decided although the run has gone over since it was said."""
    path: str = getattr(event, "path", ROOT)
    return not isinstance(event, Claimed | Parked) and pinned.knows(path)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A decision made ahead, to be stored if what it was made upon still holds."""

    pinned: Pinned
    decision: Decision
    held: Slice
    claimed: tuple[StepView, ...]
    change: Change
    brought: str = ""
    wish: Wish | None = None

    def commit(self) -> Progress | None:
        """Store it in one statement; None when what it was made upon does not hold any more."""
        return self.conclude(store.commit(self.change))

    def conclude(self, answer: Seen | None) -> Progress | None:
        """Return what came of it; None when nothing was stored."""
        if answer is None:
            return None
        seen = answer if answer.steps else None
        progress = Progress(self.decision, self.held, self.claimed, seen)
        _send(_hints(self.pinned, progress, self.brought, answer.parent, self.wish))
        return progress


def advance_ahead(pinned: Pinned, seen: Seen, *events: Event, **facts: Any) -> Progress | None:
    """Decide upon what was seen, and store it in one statement, which is the transaction.

    Takes the facts that `propose` takes. None when what was seen does not hold any more, or
    does not suffice: then nothing has changed.
    """
    proposal = propose(pinned, seen, *events, **facts)
    return None if proposal is None else proposal.commit()


def conclude_all(proposals: Sequence[Proposal | None]) -> list[Progress | None]:
    """Store decisions about different runs in one statement, which is the transaction.

    None for what does not hold any more, or did not suffice.
    """
    answers = iter(store.commit_all([one.change for one in proposals if one is not None]))
    with _gathering() as ready:
        found = [None if one is None else one.conclude(next(answers)) for one in proposals]
    outbox.send(ready)
    return found


@contextmanager
def _gathering() -> Iterator[list[Dispatch]]:
    """Gather what is to be sent."""
    ready: list[Dispatch] = []
    token = _outbox.set(ready)
    try:
        yield ready
    finally:
        _outbox.reset(token)


def propose(  # noqa: PLR0913 - the facts of one statement, named
    pinned: Pinned,
    seen: Seen,
    *events: Event,
    environment: str,
    now: datetime,
    wish: Wish | None = None,
    unsettled: frozenset[str] = frozenset(),
    brought: str = "",
) -> Proposal | None:
    """Decide upon what was seen; None when that does not suffice."""
    plan = pinned.plan
    run = RunView(str(pinned.run), RunState.RUNNING, environment=environment)
    held = Slice(run, {view.path: view for view in seen.steps}, alone=seen.alone)
    decision = _decided(plan, held, *events, now=now)
    if any(not _left_to_others(event, unsettled) for event in decision.follow_ups):
        return None
    if early.may_have_come(decision.waits):
        return None
    claimed = tuple(
        held.steps[event.path]
        for event in events
        if isinstance(event, Claimed) and held.steps[event.path].worker
    )
    if wish is not None:
        claimed = _claim_ready(plan, held, decision, wish, now)
    change = store.change(
        pinned.run,
        plan,
        environment,
        decision,
        now=now,
        actor=ENGINE,
        expected=Expected(pinned.version, seen.steps, next(iter(seen.alone), None)),
        ahead=_look_ahead(plan, claimed, unsettled) if claimed else None,
    )
    return Proposal(pinned, decision, held, claimed, change, brought, wish)


def _look_ahead(plan: Plan, claimed: Sequence[StepView], unsettled: frozenset[str]) -> Ahead | None:
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


def _needed(plan: Plan, events: Sequence[Event]) -> Requirement:
    wanted = looping.refills(plan, [one.path for one in events if isinstance(one, Succeeded)])
    for event in events:
        wanted |= requirement(plan, event)
    return wanted


def _left_to_others(event: Event, unsettled: frozenset[str]) -> bool:
    return isinstance(event, Drained) and event.path in unsettled


def _claim_ready(
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
    decision.extend(_decided(plan, held, *taken, now=now))
    views = (held.steps[one.path] for one in taken)
    return tuple(view for view in views if view.state is StepState.RUNNING)


def _hints(
    pinned: Pinned,
    progress: Progress,
    brought: str = "",
    parent: str = "",
    wish: Wish | None = None,
) -> list[Dispatch]:
    """Return what is to be sent: steps that are ready, and who sees to child runs and places."""
    hints = _ready(pinned, progress, brought, wish)
    decision = progress.decision
    for first in range(0, len(decision.left), LOOPS_AT_ONCE):
        loops = tuple(decision.left[first : first + LOOPS_AT_ONCE])
        hints.append(Refill(pinned.run, pinned.version, loops))
    if decision.waits and progress.held is not None:
        tell_who_is_asked(pinned, progress.held.run.environment, decision.waits)
    if pinned.plan.has_children and (decision.waits or decision.closings):
        hints.append(Attend(pinned.run))
    parent = parent or (progress.held.run.parent if progress.held else "")
    is_over = any(move.after.state in FINISHED_RUNS for move in decision.run_moves)
    if parent and is_over:
        hints.append(Attend(UUID(parent)))
    if pinned.plan.concurrency is not None and is_over:
        hints.append(Vacated(pinned.run))
    return hints


def _ready(pinned: Pinned, progress: Progress, brought: str, wish: Wish | None) -> list[Dispatch]:
    """Return what is to be sent: who listens has the engine look for what came before it."""
    listens = any(awaited.kind is Reason.EVENT for awaited in progress.decision.waits)
    queued = _queued(pinned, progress, brought, wish)
    return [*queued, Look()] if listens else queued


def _queued(pinned: Pinned, progress: Progress, brought: str, wish: Wish | None) -> list[Dispatch]:
    held = progress.held
    if held is None or held.run.state not in GOING_ON:
        return []
    last = {move.after.path: move.after for move in progress.decision.moves}
    ready = [
        view
        for view in last.values()
        if view.state is StepState.QUEUED and (view.path != brought or view.attempt != 1)
    ]
    if not ready or (held.run.state is RunState.PAUSED and not _was_resumed(pinned)):
        return []
    return dispatches_of(pinned, held.run.environment, ready, wish)


def _was_resumed(pinned: Pinned) -> bool:
    """Say whether a run that was seen paused goes on; else whoever resumes it waits for this.

    So a step that becomes ready at that moment is sent by one of the two.
    """
    return store.lock_run(pinned.run) is RunState.RUNNING


def dispatches_of(
    pinned: Pinned, environment: str, ready: Iterable[StepView], wish: Wish | None = None
) -> list[Dispatch]:
    """Return how queued steps are sent: one by one, or to takers where there are many.

    Of what goes abreast, each taker takes as many as whoever wished for it.
    """
    groups: dict[tuple[str, str], list[StepView]] = {}
    for view in ready:
        queue = store.queue_of(pinned.plan.nodes[view.node], environment)
        groups.setdefault((queue, view.scope), []).append(view)
    found: list[Dispatch] = []
    for (queue, scope), views in groups.items():
        is_loop = pinned.plan.node(scope).kind in LOOPS
        is_quick = wish is not None and wish.abreast(pinned.plan.nodes[views[0].node])
        width = _takers(len(views), wish if is_quick else None, is_loop=is_loop)
        if width:
            found.append(FanOut(pinned.run, pinned.version, queue, width, scope, is_loop))
        else:
            found += [_along(pinned, environment, view, queue, is_quick) for view in views]
    return found


def _takers(count: int, quick: Wish | None, *, is_loop: bool) -> int:
    """Return how many takers carry out so many steps of a scope; none when each goes alone.

    The takers of a loop call for further ones themselves. What goes abreast outside of loops
    travels in bundles, unless it is so much that a chord of takers is cheaper.
    """
    if is_loop:
        enough = FIRST_TAKERS if quick is None else -(-count // quick.width)
        return min(count, enough) if quick or count > 1 else 0
    at_least = FAN_OUT_FROM if quick is None else FAN_OUT_FROM * quick.width
    return min(count, FAN_OUT_WIDTH) if count >= at_least else 0


def _along(
    pinned: Pinned, environment: str, view: StepView, queue: str, is_quick: bool
) -> Dispatch:
    """Return a line where the steps after this one are known in advance and on other queues."""
    first = Segment(pinned.run, pinned.version, view.path, view.attempt, queue, is_quick)
    if view.attempt != 1:
        return first
    segments = [first]
    node = pinned.plan.nodes[view.node]
    while (after := _only_successor(pinned.plan, node)) is not None:
        node = after
        queue = store.queue_of(node, environment)
        segments.append(Segment(pinned.run, pinned.version, node.path, 1, queue))
    return first if len(segments) == 1 else Line(tuple(segments))


def _only_successor(plan: Plan, node: Node) -> Node | None:
    """Return the task that surely follows on another queue, if there is one."""
    if len(node.needed_by) != 1:
        return None
    after = plan.nodes[node.needed_by[0]]
    follows = after.kind is StepKind.TASK and len(after.needs) == 1 and after.when is None
    is_elsewhere = (after.environment, after.queue_class) != (node.environment, node.queue_class)
    return after if follows and is_elsewhere else None


def _send(dispatches: list[Dispatch]) -> None:
    """Have messages sent after the commit."""
    flying = _outbox.get()
    if flying is not None:
        flying += dispatches
    elif dispatches:
        transaction.on_commit(partial(outbox.send, dispatches))


def send_queued(pinned: Pinned, environment: str) -> None:
    """Have whatever is queued of a run sent: nobody knows whether it has been."""
    _send(dispatches_of(pinned, environment, store.queued(pinned.run)))


def in_transaction(work: Callable[[], T]) -> T:
    """Do the work in one transaction of Django's; again after a deadlock or a lost connection.

    What was committed before the connection was lost is met by the second try as late: the
    fence tells, and it changes nothing.
    """

    def once() -> T:
        with transaction.atomic():
            return work()

    return patiently(once)


def in_flight(
    work: Callable[[], T], recall: Callable[[], T | None] | None = None, *, again: bool = False
) -> T:
    """Do the work, which asks the store alone, in one transaction of few round trips.

    What any of the tries made ready is sent: the one that was not heard of may have come through.
    """
    ready: list[Dispatch] = []

    def once() -> T:
        if connection.in_atomic_block:
            return in_transaction(work)
        token = _outbox.set(ready)
        try:
            with store.flight():
                return work()
        finally:
            _outbox.reset(token)

    result = patiently(once, recall, again=again)
    outbox.send(list(dict.fromkeys(ready)))
    return result
