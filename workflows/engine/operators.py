"""What people ask of a run: hold it, let it go on, end it, and deal with a failed step.

A replay reopens what ended only because of the failure: the scopes around the
step, and the steps that were skipped or cancelled for it. Completed steps are
never done again, and no step is born twice: one that had begun goes on.
"""

from collections.abc import Iterator

from workflows.engine import compensating, looping, starting
from workflows.engine.draft import Draft
from workflows.engine.events import (
    CancelRequested,
    Discarded,
    Drained,
    Ended,
    Halted,
    Reached,
    Reentered,
    Replayed,
    SkipDecided,
    StepError,
)
from workflows.engine.plan import NO_NODE, ROOT, is_inside, number_of
from workflows.engine.slice import Ending, StepView
from workflows.engine.states import LIVE_RUNS, Reason, RunReason, RunState, StepState
from workflows.language.words import ErrorClass, ExitStatus, OnFailure, StepKind

UPSTREAM = frozenset({Reason.UPSTREAM_FAILED, Reason.UPSTREAM_SKIPPED})
"""Why a step may have been skipped for what became of the steps that it needs."""

REVIVED = UPSTREAM | {Reason.FAIL_FAST, Reason.TIMEOUT, Reason.REPLAYED, Reason.HELD_BACK}
"""Why a step may have ended inside a scope that goes on now."""

HELD = frozenset({Reason.TIMEOUT, Reason.HELD_BACK})
"""Why a step may have ended beside those that failed, in a scope that a replay reopens."""

OPERABLE = frozenset({RunState.RUNNING, RunState.PAUSED, RunState.FAILED})
"""The states of a run in which a failed step of it may be begun again."""

UNDOABLE = frozenset({RunState.RUNNING, RunState.PAUSED})
"""The states of a run that can be cancelled and then undone."""

UNDONE_BY_HAND = StepError(
    ErrorClass.CANCELLED, "run.cancelled", "a person cancelled the run and had it undone"
)
"""Why a live run that is cancelled with its undo has failed."""


def pause(draft: Draft) -> None:
    """Hold a running run."""
    if draft.slice.run.state is RunState.RUNNING:
        draft.move_run(RunState.PAUSED)


def resume(draft: Draft) -> None:
    """Let a paused run go on."""
    if draft.slice.run.state is RunState.PAUSED:
        draft.move_run(RunState.RUNNING)
        draft.later(Drained(ROOT))


def cancel(draft: Draft, event: CancelRequested) -> None:
    """End a live run: what no worker holds at once, the rest when its worker lets go.

    One that is to be undone then has no way from CANCELLED: it runs on to its end as failed.
    """
    state, ending = draft.slice.run.state, draft.slice.run.ending
    if event.undo and state in UNDOABLE:
        end = Ending(ExitStatus.FAILED, error=UNDONE_BY_HAND, undo=True)
        draft.move_run(RunState.RUNNING, ending=end)
        draft.later(Halted(ROOT, Reason.RUN_CANCELLED))
    elif not event.undo and state in LIVE_RUNS - {RunState.CANCELLING}:
        if event.error is not None:
            ending = Ending(ExitStatus.CANCELLED, error=event.error)
        draft.move_run(RunState.CANCELLING, reason=event.reason, ending=ending)
        draft.later(Halted(ROOT, Reason.RUN_CANCELLED))


def replay_run(draft: Draft) -> None:
    """Have a failed run go on from its failed steps, or from where its time was up."""
    run = draft.slice.run
    if run.state is not RunState.FAILED or run.is_undone:
        return
    if not _replay_failed(draft, ROOT):
        _reopen_run(draft)
        _recount(draft)
        draft.later(Drained(ROOT))


def replay(draft: Draft, event: Replayed) -> None:
    """Have a failed step tried again, with a fresh budget; of a scope, the steps that failed."""
    view = draft.view(event.path)
    node = draft.node_of(view)
    if node.undoes != NO_NODE:
        compensating.replay(draft, event)
        return
    if not _is_open(draft, view) or _replay_failed(draft, view.path):
        return
    _reopen(draft, view)
    _retire_fallbacks(draft, view)
    fresh = draft.touch(view, failures=0, losses=0, error=None, retry_until=None)
    if event.arguments is not None:
        draft.correct(fresh, event.arguments)
    if _has_begun(draft, view):
        _go_on_inside(draft, fresh)
    elif node.kind is StepKind.TASK and (view.attempt or node.when is None):
        starting.queue(draft, fresh, Reason.REPLAYED)
    else:
        starting.start(draft, fresh)
    _recount(draft)


def skip(draft: Draft, event: SkipDecided) -> None:
    """Have a failed step count as done; what depends on it goes on."""
    view = draft.view(event.path)
    node = draft.node_of(view)
    if node.undoes != NO_NODE:
        compensating.skip(draft, view, event.output)
        return
    if not _is_open(draft, view):
        return
    draft.move(view, StepState.SKIPPED, reason=Reason.SKIPPED_BY_OPERATOR, output=event.output)
    _reopen(draft, view)
    _recount(draft)
    is_heard = node.handles != NO_NODE or node.is_item
    draft.later(Ended(view.path) if is_heard else Drained(view.scope))


def discard(draft: Draft, event: Discarded) -> None:
    """Give a failed step up for good; it still counts as a failure of its scope."""
    view = draft.view(event.path)
    if draft.node_of(view).undoes != NO_NODE:
        compensating.discard(draft, view)
    elif view.reason is not Reason.OPTIONAL:
        draft.move(view, StepState.SKIPPED, reason=Reason.DISCARDED)
        if draft.plan.on_failure is OnFailure.PARK:
            draft.slice.tallies.pop(ROOT, None)
            draft.later(Drained(ROOT))


def reenter(draft: Draft, event: Reentered) -> None:
    """Have a fallback path go on that had been begun before its step was done again."""
    _revive(draft, draft.view(event.path))
    _recount(draft)


def _is_open(draft: Draft, inner: StepView) -> bool:
    """Say whether the run, and every scope around the step, still depends on the step."""
    run = draft.slice.run
    if run.state not in OPERABLE or run.is_undone:
        return False
    while inner.scope != ROOT:
        outer = draft.view(inner.scope)
        awaited = Reason.CATCH if _is_fallback_of(draft, inner, outer) else Reason.CHILDREN
        waits = outer.state is StepState.WAITING and outer.reason is awaited
        if outer.state is not StepState.FAILED and not waits:
            return False
        inner = outer
    return True


def _is_fallback_of(draft: Draft, inner: StepView, outer: StepView) -> bool:
    return draft.node_of(inner).handles == outer.node


def _replay_failed(draft: Draft, scope: str) -> bool:
    """Replay the steps that failed in a scope; say whether there are any."""
    failed = [view for view in _body(draft, scope) if view.failed and view.final]
    again = [Replayed(view.path) for view in failed if view.state is StepState.FAILED]
    for event in again:
        draft.later(event)
    return bool(again)


def _reopen(draft: Draft, view: StepView) -> None:
    """Reopen the scopes around the step, and what ended because of them or of the step."""
    opened, inner = [view], view
    while inner.scope != ROOT:
        outer = draft.view(inner.scope)
        if looping.is_stopped_by(outer, inner):
            draft.touch(outer, error=None)
        if outer.state is not StepState.FAILED:
            break
        if _is_fallback_of(draft, inner, outer):
            starting.wait_for_children(draft, outer, Reason.CATCH)
        else:
            _retire_fallbacks(draft, outer)
            _go_on_inside(draft, draft.touch(outer, error=None), HELD)
        opened.append(outer)
        inner = outer
    if draft.slice.run.state is RunState.FAILED:
        _reopen_run(draft)
    elif draft.slice.run.reason is RunReason.PARKED:
        draft.move_run(draft.slice.run.state)
    for each in opened:
        node = draft.node_of(each)
        if draft.owner_of(node).fail_fast and node.handles == NO_NODE:
            _revive_inside(draft, each.scope, frozenset({Reason.FAIL_FAST}))
    _reopen_dependents(draft, opened)


def _reopen_run(draft: Draft) -> None:
    """Have a failed run go on. That its time was up is over; how a step ended it stands."""
    ending, held = draft.slice.run.ending, HELD - {Reason.TIMEOUT}
    if ending and ending.error and ending.error.error_class is ErrorClass.TIMEOUT:
        ending, held = None, HELD
    _revive_inside(draft, ROOT, held)
    draft.move_run(RunState.RUNNING, ending=ending)


def _reopen_dependents(draft: Draft, opened: list[StepView]) -> None:
    """Have the steps wait again that were skipped for what became of the steps they need."""
    revived = [view for view in draft.slice.steps.values() if view.reason is Reason.REOPENED]
    todo = [*opened, *revived]
    while todo:
        need = todo.pop()
        for index in draft.node_of(need).needed_by:
            view = draft.view(draft.path(index, near=need.path))
            if view.final and view.reason in UPSTREAM:
                todo.append(_pend(draft, view))


def _fallbacks_of(draft: Draft, view: StepView) -> list[str]:
    return [draft.path(handler.node, near=view.path) for handler in draft.node_of(view).handlers]


def _retire_fallbacks(draft: Draft, caught: StepView) -> None:
    """Have what failed on the fallback paths of a step count no more: the step is done again."""
    tops = _fallbacks_of(draft, caught)
    for view in list(draft.slice.steps.values()):
        inside = any(is_inside(view.path, top) for top in tops)
        if inside and view.state is StepState.FAILED and view.failed:
            draft.move(view, StepState.SKIPPED, reason=Reason.REPLAYED)


def _go_on_inside(draft: Draft, view: StepView, reasons: frozenset[Reason] = REVIVED) -> None:
    """Have a scope that had begun wait again, with its time anew; what is completed stays so."""
    starting.wait_for_children(draft, view, Reason.CHILDREN)
    _revive_inside(draft, view.path, reasons)
    if draft.node_of(view).kind in {StepKind.REPEAT, StepKind.STATES}:
        _look_on(draft, view.path)
    draft.later(Drained(view.path))


def _look_on(draft: Draft, loop: str) -> None:
    """Have the last round of a loop say once more what follows it, if it has ended."""
    visits = [view for view in _body(draft, loop) if view.final and not view.failed]
    if visits:
        draft.later(Ended(max(visits, key=lambda view: number_of(view.path)).path))


def _revive_inside(draft: Draft, scope: str, reasons: frozenset[Reason]) -> None:
    for view in list(_body(draft, scope)):
        if view.reason in reasons:
            _revive(draft, view)


def _revive(draft: Draft, view: StepView) -> None:
    """Have a step go on that was cancelled or skipped, or that is asked to end."""
    if view.alive and view.cancel_requested:
        _let_be(draft, view)
    elif view.state not in {StepState.CANCELLED, StepState.SKIPPED}:
        return
    elif _has_begun(draft, view):
        _go_on_inside(draft, _pend(draft, view))
    else:
        _pend(draft, view)


def _let_be(draft: Draft, view: StepView) -> None:
    """Take back the request that a step end, and have what is inside it go on."""
    paths = _fallbacks_of(draft, view)
    known = [draft.slice.steps[path] for path in paths if path in draft.slice.steps]
    fallback = next((inner for inner in known if inner.alive), None)
    if view.state is not StepState.WAITING:
        draft.touch(view, cancel_requested=False, reason=None)
    elif fallback is not None:
        draft.touch(view, cancel_requested=False, reason=Reason.CATCH)
        _revive(draft, fallback)
    else:
        draft.touch(view, cancel_requested=False, reason=Reason.CHILDREN)
        _revive_inside(draft, view.path, REVIVED)


def _pend(draft: Draft, view: StepView) -> StepView:
    return draft.move(
        view,
        StepState.PENDING,
        reason=Reason.REOPENED,
        cancel_requested=False,
        error=None,
        retry_until=None,
    )


def _body(draft: Draft, scope: str) -> Iterator[StepView]:
    """Yield the steps of a scope, without those of its fallback paths."""
    for view in draft.inside(scope):
        if draft.node_of(view).handles == NO_NODE:
            yield view


def _has_begun(draft: Draft, view: StepView) -> bool:
    return bool(view.born) or next(_body(draft, view.path), None) is not None


def _recount(draft: Draft) -> None:
    """Count anew how the needs of pending steps have ended, but for ends still to be told."""
    told_later = {
        event.path
        for event in (*draft.queue, *draft.decision.follow_ups)
        if isinstance(event, Ended)
    }
    for view in list(draft.slice.steps.values()):
        if view.state is not StepState.PENDING:
            continue
        tally = draft.tally_of_needs(view, but=told_later)
        if tally != view.tally:
            draft.touch(view, tally=tally)
        if tally != view.tally or view.reason is Reason.REOPENED:
            draft.later(Reached(view.path))
