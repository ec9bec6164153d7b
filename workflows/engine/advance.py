"""Advance a run: events in; what changes, and what to do about it, out.

THE ONE LAW: whatever changes the state of a run or a step is decided here and
stored by `workflows.store.commit`; nothing else does either.

Pure: no clock, no chance, no database, no Celery. The caller holds the locks and
stores the decision in one transaction. What a step does not hear in its state
changes nothing, nor does an event of another attempt: a message may come late,
twice, or both.

An event whose slice does not hold enough is not decided but handed back as a
follow-up: the caller loads what `requirement` says and asks again.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import assert_never

from workflows.engine import (
    approving,
    compensating,
    ending,
    forking,
    looping,
    migrating,
    operators,
    starting,
    trying,
    waiting,
)
from workflows.engine.decision import Decision
from workflows.engine.draft import Draft
from workflows.engine.events import (
    Answered,
    CancelRequested,
    Claimed,
    CompensationDue,
    CompensationRequested,
    Contested,
    Discarded,
    Drained,
    Ended,
    Event,
    Failed,
    Forked,
    Gathered,
    GivenUp,
    Halted,
    LeaseExpired,
    Migrated,
    Parked,
    PauseRequested,
    Reached,
    Reentered,
    Refilled,
    Replayed,
    ResumeRequested,
    RetryDue,
    SkipDecided,
    Started,
    Stopped,
    Succeeded,
    TimedOut,
)
from workflows.engine.plan import LOOPS, NO_NODE, ROOT, Node, Plan, Reads, template_of
from workflows.engine.policy import PATIENCE
from workflows.engine.slice import Requirement, Slice, StepView, reading
from workflows.engine.states import Reason, StepState
from workflows.language.words import StepKind

ACCEPTS: Mapping[StepState, tuple[type[Event], ...]] = {
    StepState.PENDING: (Reached, Contested),
    StepState.QUEUED: (Claimed, Parked),
    StepState.RUNNING: (Succeeded, Failed, LeaseExpired),
    StepState.RETRYING: (RetryDue,),
    StepState.WAITING: (Answered, TimedOut, Drained),
    StepState.FAILED: (Replayed, SkipDecided, Discarded),
    StepState.SKIPPED: (Reentered,),
    StepState.CANCELLED: (Reentered,),
}
"""What a step hears in a state. Everything else is late, or a duplicate."""


THE_RUN = Requirement(scopes=frozenset({ROOT}))
"""What changes the run's own row needs that row under lock, as counting its root scope does."""


def advance(
    plan: Plan,
    held: Slice,
    *events: Event,
    now: datetime,
    chance: Random,
    patience: timedelta = PATIENCE,
) -> Decision:
    """Decide `events` in their order, and whatever follows from them within the slice.

    `patience` is how long a queued step waits for a worker before it is sent again.
    """
    draft = Draft(plan, held, now=now, chance=chance, patience=patience)
    for event in events:
        draft.later(event)
    while draft.queue:
        event = draft.next()
        if isinstance(event, Drained) and _is_idle(draft, event):
            continue
        if isinstance(event, Refilled) and len(draft.decision.born) >= looping.MOST_BORN:
            draft.decision.left.append(event.path)
            continue
        if held.covers(requirement(plan, event)):
            _decide(draft, event)
        else:
            draft.decision.follow_ups.append(event)
    return draft.finish()


def requirement(plan: Plan, event: Event) -> Requirement:
    """Return what a slice must hold so that `event` can be decided."""
    path: str = getattr(event, "path", ROOT)
    template = template_of(path)
    key = (type(event), template)
    known: Requirement | None = plan.memory.get(key)
    if known is None:
        known = plan.memory[key] = _requirement(plan, _at(event, template))
    return known if template == path else known.near(path)


def _at(event: Event, path: str) -> Event:
    """Return the event as one of the step at another path."""
    if path == getattr(event, "path", path):
        return event
    changed: Event = replace(event, path=path)  # type: ignore[arg-type] # it has one
    return changed


def _requirement(plan: Plan, event: Event) -> Requirement:  # noqa: C901, PLR0911, PLR0912 - the table of events, one line each
    match event:
        case Started():
            return Requirement()
        case GivenUp() | Migrated():
            return Requirement(everything=True)
        case Forked():
            return THE_RUN | Requirement(everything=True)
        case PauseRequested() | ResumeRequested():
            return THE_RUN
        case CancelRequested():
            return THE_RUN | Requirement(unfinished=frozenset({ROOT}))
        case CompensationRequested() | CompensationDue():
            return Requirement(undoing=True)
        case Replayed(path) | SkipDecided(path) | Discarded(path) if compensating.is_undo(
            plan, path
        ):
            return _undoing(path) | Requirement(undoing=True)
        case Halted(path):
            return Requirement(unfinished=frozenset({path}))
        case Reentered(path):
            return Requirement(subtrees=frozenset({path}))
        case TimedOut(path):
            return _out_of_time(plan, path)
        case Claimed(path) | Parked(path) | RetryDue(path):
            return Requirement(paths=frozenset({path}))
        case Reached(path):
            return _reached(plan, path)
        case Contested(path):
            around = plan.path(plan.node(path).scope, path)
            return Requirement(subtrees=frozenset({around}))
        case Succeeded(path) | Answered(path):
            return _ended_well(plan, path)
        case Failed(path) | LeaseExpired(path) | Ended(path):
            return _told(plan, path)
        case Drained(path) if plan.node(path).kind in LOOPS:
            return Requirement(paths=frozenset({path}))
        case Stopped(path):
            return _with_fallbacks(plan, path)
        case Refilled(path):
            return _with_fallbacks(plan, path) | Requirement(batches=frozenset({path}))
        case Gathered(path):
            all_items = Requirement(gathered=frozenset({path}))
            return _told(plan, path) | reading(plan, plan.node(path).yields, path) | all_items
        case Drained(path):
            counted = Requirement(scopes=frozenset({path}))
            return _told(plan, path) | reading(plan, plan.node(path).yields, path) | counted
        case Replayed(path):
            return _reopening(plan, path) | reading(plan, plan.node(path).inline, path)
        case SkipDecided(path) | Discarded(path):
            return _reopening(plan, path)
        case _:
            assert_never(event)


def _reopening(plan: Plan, path: str) -> Requirement:
    """Return what may change with what a person has become of a failed step."""
    around = {plan.path(one, path) for one in plan.ancestors(plan.node(path))}
    return THE_RUN | Requirement(paths=frozenset({path, *around} - {ROOT}), reopenable=True)


def _out_of_time(plan: Plan, path: str) -> Requirement:
    if path == ROOT:
        return THE_RUN
    node = plan.node(path)
    if node.kind is StepKind.WAIT:
        return _ended_well(plan, path)
    if node.kind is StepKind.APPROVAL:
        return _ended_well(plan, path) | reading(plan, node.inline, path)
    return _with_fallbacks(plan, path)


def _ended_well(plan: Plan, path: str) -> Requirement:
    node = plan.node(path)
    return requirement(plan, Ended(path)) | reading(plan, _without(node.yields, node), path)


def _told(plan: Plan, path: str) -> Requirement:
    """Return the step itself, and the steps that hear of its end with what they read then."""
    node = plan.node(path)
    if node.index == plan.root.index:
        return Requirement()
    if node.undoes != NO_NODE:
        return _undoing(path)
    wanted = _with_fallbacks(plan, path) | _looked_on(plan, path)
    if node.handles != NO_NODE:
        return wanted | _told(plan, plan.path(node.handles, path))
    dependents = {plan.path(index, path): plan.nodes[index] for index in node.needed_by}
    wanted |= Requirement(paths=frozenset(dependents))
    for dependent, one in dependents.items():
        wanted |= reading(plan, one.inline, dependent)
    return wanted


def _looked_on(plan: Plan, path: str) -> Requirement:
    """Return what the loop around an instance of its body reads when that has ended."""
    node = plan.node(path)
    if not node.is_item:
        return Requirement()
    loop = plan.nodes[node.scope]
    is_state = loop.kind is StepKind.STATES
    wanted = reading(plan, node.transition_reads if is_state else loop.until_reads, path)
    if loop.kind is StepKind.FOREACH and loop.max_parallel <= looping.REFILL:
        # Its window is filled up at every end: the next item is looked up at once.
        wanted |= Requirement(batches=frozenset({plan.path(loop, path)}))
    return wanted


def _undoing(path: str) -> Requirement:
    """Return the compensation and its step."""
    return Requirement(paths=frozenset({path, compensating.step_of(path)}))


def _reached(plan: Plan, path: str) -> Requirement:
    node = plan.node(path)
    wanted = _with_fallbacks(plan, path) | reading(plan, node.inline, path)
    if node.source:
        wanted |= Requirement(paths=frozenset({plan.path(node.source, path)}))
    return wanted | THE_RUN if node.kind is StepKind.EXIT else wanted


def _with_fallbacks(plan: Plan, path: str) -> Requirement:
    """Return the step, its loop, and its fallback paths, which exist only if begun before.

    An instance of the body of a loop is counted there when it ends.
    """
    node = plan.node(path)
    others = {plan.path(handler.node, path) for handler in node.handlers}
    if node.is_item:
        others.add(plan.path(node.scope, path))
    return Requirement(paths=frozenset({path, *others}))


def _without(reads: Reads, node: Node) -> Reads:
    return Reads(reads.roots, reads.steps - {node.id})


def _is_idle(draft: Draft, drained: Drained) -> bool:
    """Say whether nothing comes of it: the scope has live steps, or the loop is looked at later."""
    if draft.plan.node(drained.path).kind in LOOPS:
        return draft.is_drained_later(drained.path)
    views = draft.slice.steps.values()
    return any(view.scope == drained.path and view.alive for view in views)


def _decide(draft: Draft, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - the table of events, one line each
    match event:
        case Started():
            starting.start_run(draft)
        case Forked(path):
            forking.begin(draft, path)
        case GivenUp():
            migrating.give_up(draft, event)
        case Migrated():
            migrating.go_on(draft, event)
        case Reached(path):
            if _hears(draft, path, event):
                starting.reach(draft, draft.view(path))
        case Contested(path):
            if _hears(draft, path, event):
                starting.settle_contest(draft, draft.view(path))
        case Claimed():
            if _hears_attempt(draft, event):
                trying.claim(draft, event)
        case Parked():
            if _hears_attempt(draft, event):
                trying.park(draft, event)
        case Succeeded():
            if _hears_attempt(draft, event):
                trying.succeed(draft, event)
            else:
                trying.keep_late(draft, event)
        case Failed():
            if _hears_attempt(draft, event):
                trying.fail(draft, event)
            else:
                trying.keep_late(draft, event)
        case LeaseExpired():
            if _hears_attempt(draft, event):
                trying.lose(draft, event)
        case RetryDue():
            if _hears_attempt(draft, event):
                trying.retry(draft, event)
        case Ended(path):
            view = draft.view(path)
            if draft.node_of(view).undoes == NO_NODE:
                ending.tell(draft, view)
            else:
                compensating.tell(draft, view)
        case Drained(path):
            ending.drain(draft, path)
        case Stopped(path):
            ending.stop(draft, path)
        case Refilled(path):
            looping.refill(draft, draft.view(path))
        case Gathered(path):
            ending.close_loop(draft, draft.view(path))
        case Halted():
            ending.halt(draft, event)
        case Answered(path):
            if _hears(draft, path, event) and waiting.is_meant(draft.view(path), event):
                waiting.answer(draft, event)
        case TimedOut(path):
            if path == ROOT:
                ending.time_out(draft, path)
            elif _hears(draft, path, event):
                _time_out(draft, draft.view(path))
        case PauseRequested():
            operators.pause(draft)
        case ResumeRequested():
            operators.resume(draft)
        case CancelRequested():
            operators.cancel(draft, event)
        case CompensationRequested(error):
            compensating.request(draft, error)
        case CompensationDue():
            compensating.go_on(draft)
        case Replayed(path):
            if path == ROOT:
                operators.replay_run(draft)
            elif _hears(draft, path, event):
                operators.replay(draft, event)
        case Reentered(path):
            if _hears(draft, path, event):
                operators.reenter(draft, event)
        case SkipDecided():
            if _hears(draft, event.path, event):
                operators.skip(draft, event)
        case Discarded():
            if _hears(draft, event.path, event):
                operators.discard(draft, event)
        case _:
            assert_never(event)


def _time_out(draft: Draft, view: StepView) -> None:
    if view.reason is Reason.APPROVAL:
        approving.time_out(draft, view)
    else:
        waiting.time_out(draft, view)


def _hears(draft: Draft, path: str, event: Event) -> bool:
    view = draft.slice.steps.get(path)
    return view is not None and type(event) in ACCEPTS.get(view.state, ())


def _hears_attempt(
    draft: Draft, event: Claimed | Parked | Succeeded | Failed | LeaseExpired | RetryDue
) -> bool:
    return _hears(draft, event.path, event) and draft.view(event.path).attempt == event.attempt
