"""Progress of one run: load, decide, write, until nothing more follows, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from workflows import store
from workflows.dispatch import Dispatch
from workflows.engine.decision import Decision
from workflows.engine.events import CancelRequested, Claimed, Event, Parked, Started, StepError
from workflows.engine.plan import ROOT
from workflows.engine.slice import Requirement, RunView, Slice, StepView
from workflows.engine.states import RunReason, RunState
from workflows.models import ENGINE
from workflows.services import early, outbox
from workflows.services.deciding import (
    Wish,
    claim_ready,
    decided,
    left_to_others,
    look_ahead,
    needed,
)
from workflows.services.flights import gathering, send
from workflows.services.plans import Pinned, pinned_to
from workflows.services.sending import hints
from workflows.store import Change, Expected, NewRun, Seen


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
    stored = _stored(beginnings, begun, now, actor)
    for one, progress, is_new in zip(beginnings, begun, stored, strict=True):
        if is_new and progress.decision.follow_ups:
            advance_run(one.pinned, *progress.decision.follow_ups, now=now, actor=actor)
    return stored


def begin_runs_ahead(
    beginnings: Sequence[Beginning], *, now: datetime, actor: str
) -> list[bool] | None:
    """Do as `begin_runs` with a statement that is the transaction; None where more must follow."""
    begun = [_begun(one, now) for one in beginnings]
    if any(progress.decision.follow_ups for progress in begun):
        return None
    ready: list[Dispatch] = []
    with gathering(ready):
        stored = _stored(beginnings, begun, now, actor)
    outbox.send(ready)
    return stored


def _stored(
    beginnings: Sequence[Beginning], begun: Sequence[Progress], now: datetime, actor: str
) -> list[bool]:
    """Store the first decisions about runs, and send what is ready of those that are new."""
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
        if is_new:
            send(hints(one.pinned, progress.decision, progress.held))
    return stored


def _begun(one: Beginning, now: datetime) -> Progress:
    parent = str(one.new.parent or "")
    held = Slice(RunView(str(one.pinned.run), environment=one.environment, parent=parent))
    if one.refusal is not None:
        held.alone, held.held = frozenset({ROOT}), Requirement(everything=True)
        refused = CancelRequested(RunReason.SKIPPED, one.refusal)
        return Progress(decided(one.pinned.plan, held, refused, now=now), held)
    if one.new.waits is not None or one.new.forked_from is not None:
        return Progress(held=held)
    return Progress(decided(one.pinned.plan, held, Started(), now=now), held)


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
        wanted, known = needed(pinned.plan, todo), pinned.version
        try:
            held = held or store.load(pinned.run, pinned.plan, wanted, actor=actor, version=known)
        except store.WentOverError as moved:
            progress.pinned = pinned = pinned_to(pinned.run, moved.version)
            todo, brought = [event for event in todo if _still_holds(pinned, event)], ""
            continue
        decision = decided(pinned.plan, held, *todo, now=now)
        todo = [event for event in decision.follow_ups if not left_to_others(event, unsettled)]
        is_early = early.may_have_come(decision.waits)
        if wish is not None and not todo and not is_early:
            progress.claimed = claim_ready(pinned.plan, held, decision, wish, now)
        place = held.run.environment
        change = store.change(pinned.run, pinned.plan, place, decision, now=now, actor=actor)
        store.commit(change)
        if is_early:
            todo = [*early.answers(pinned.run, decision.waits, now=now), *todo]
        progress.decision.extend(decision)
        progress.held, held = held, None
    send(hints(pinned, progress.decision, progress.held, brought, wish))
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
        if answer.parent:
            self.held.run = replace(self.held.run, parent=answer.parent)
        send(hints(self.pinned, self.decision, self.held, self.brought, self.wish))
        seen = answer if answer.steps else None
        return Progress(self.decision, self.held, self.claimed, seen)


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
    ready: list[Dispatch] = []
    with gathering(ready):
        found = [None if one is None else one.conclude(next(answers)) for one in proposals]
    outbox.send(ready)
    return found


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
    decision = decided(plan, held, *events, now=now)
    if any(not left_to_others(event, unsettled) for event in decision.follow_ups):
        return None
    if early.may_have_come(decision.waits):
        return None
    claimed = tuple(
        held.steps[event.path]
        for event in events
        if isinstance(event, Claimed) and held.steps[event.path].worker
    )
    if wish is not None:
        claimed = claim_ready(plan, held, decision, wish, now)
    change = store.change(
        pinned.run,
        plan,
        environment,
        decision,
        now=now,
        actor=ENGINE,
        expected=Expected(pinned.version, seen.steps, next(iter(seen.alone), None)),
        ahead=look_ahead(plan, claimed, unsettled) if claimed else None,
    )
    return Proposal(pinned, decision, held, claimed, change, brought, wish)
