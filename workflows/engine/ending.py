"""How steps, scopes and the run end, and who is told."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from workflows.engine import looping, scopes
from workflows.engine.decision import UNSET, AttemptEnd, AttemptRecord
from workflows.engine.draft import Draft
from workflows.engine.events import (
    CompensationDue,
    Drained,
    Ended,
    Halted,
    Reached,
    Reentered,
    Repeat,
    StepError,
    Stopped,
)
from workflows.engine.plan import LOOPS, NO_NODE, ROOT, Node, is_inside
from workflows.engine.slice import Ending, ScopeTally, StepView
from workflows.engine.states import ASKING, OUTSIDE, Reason, RunReason, RunState, StepState
from workflows.engine.values import NO_VALUE, refusal, rendered
from workflows.language.limits import too_large
from workflows.language.words import ErrorClass, ExitStatus, OnFailure, OnItemFailure, StepKind

UNANSWERED = frozenset({ErrorClass.TIMEOUT, ErrorClass.WORKER_LOST})
"""The classes of the failures of which nobody knows whether they took effect all the same."""


def seconds(value: float) -> timedelta:
    """Return a duration of the language as a time difference."""
    return timedelta(seconds=value)


def complete(draft: Draft, view: StepView, output: Any) -> None:
    """End a step well."""
    draft.move(view, StepState.COMPLETED, output=output, error=None)
    draft.later(Ended(view.path))


def own_output(draft: Draft, view: StepView, output: Any) -> Any:
    """Return what the step hands on: what came of it, unless its definition says otherwise.

    Raises ExpressionError and ValueTooLargeError.
    """
    node = draft.node_of(view)
    if node.output is None:
        return output
    draft.note(view._replace(state=StepState.COMPLETED, error=None), output)
    names = draft.names(view.path, node.yields)
    return rendered(f"the output of {view.path}", node.output, names)


def give_up(
    draft: Draft,
    view: StepView,
    error: StepError,
    *,
    incident: StepError | None = None,
    is_inherited: bool = False,
) -> None:
    """End a step badly, unless one of its fallback paths is for this error.

    `incident` is what a person is told when that is more than the error of the step. Of a
    failure that is inherited a person is told where it came from: at a step inside.
    """
    node = draft.node_of(view)
    told = incident or error
    for handler in node.handlers:
        is_meant = not handler.on or error.matches(handler.on) or told.matches(handler.on)
        if view.reason is not Reason.CATCH and is_meant:
            _catch(draft, view, error, draft.plan.nodes[handler.node])
            return
    fail(draft, view, error)
    if not is_inherited and not _is_answered(draft, node, error):
        draft.incident(draft.view(view.path), _in_doubt(draft, node, told))


def _in_doubt(draft: Draft, node: Node, error: StepError) -> StepError:
    """Return what a person is told of a step that has failed.

    What has failed is not undone, and the undo closes its incident, but for one of an effect
    that nobody knows. That is what a step of a saga has which never answered and which, had it
    been completed, would have been undone, or could not be.
    """
    is_saga = draft.plan.on_failure is OnFailure.COMPENSATE
    matters = node.kind is StepKind.TASK and (node.undo != NO_NODE or node.irreversible)
    if not (is_saga and matters and error.error_class in UNANSWERED):
        return error
    message = (
        f"{error.message.rstrip('.')}; it never answered, so nobody knows whether it took effect,"
        " and what has failed is not undone"
    )
    return StepError(ErrorClass.UNCERTAIN, error.code, message, details=error.details)


def uncertain(draft: Draft, view: StepView, error: StepError, unasked: str) -> StepError:
    """Return what a person is told of an attempt that may have taken effect.

    `unasked` says why its probe has not, if it has one.
    """
    uses = draft.node_of(view).uses
    message = (
        f"{error.message.rstrip('.')}; nobody knows whether it took effect,"
        f" and {uses} must not be repeated blindly.{unasked}"
    )
    return StepError(ErrorClass.UNCERTAIN, error.code, message, details=error.details)


def leave_in_doubt(draft: Draft, view: StepView, error: StepError, repeat: Repeat) -> None:
    """End a step that is to end and may have taken effect: as failed, for a person to look at.

    Its run or its scope is at an end, so no fallback path is taken and no time is lost.
    """
    is_optional = draft.node_of(view).optional
    unasked = " Its probe was not asked about this attempt." if repeat is Repeat.AFTER_PROBE else ""
    doubt = uncertain(draft, view, error, unasked)
    reason = Reason.OPTIONAL if is_optional else None
    draft.move(view, StepState.FAILED, reason=reason, error=doubt, cancel_requested=False)
    if not is_optional:
        draft.incident(draft.view(view.path), doubt)


def _catch(draft: Draft, view: StepView, error: StepError, handler: Node) -> None:
    if view.state is StepState.WAITING:
        draft.note(draft.touch(view, reason=Reason.CATCH, error=error, wake_at=None))
    else:
        draft.move(view, StepState.WAITING, reason=Reason.CATCH, error=error)
    path = draft.path(handler, near=view.path)
    if path in draft.slice.steps:
        draft.later(Reentered(path))
    else:
        draft.bear(handler, scope=view.path)
        draft.later(Reached(path))


def fail(draft: Draft, view: StepView, error: StepError) -> None:
    """Move a step to FAILED and tell whom it concerns."""
    node = draft.node_of(view)
    reason = Reason.OPTIONAL if node.optional else None
    draft.move(view, StepState.FAILED, reason=reason, error=error)
    is_undo = node.undoes != NO_NODE
    if draft.owner_of(node).fail_fast and not node.optional and not is_undo:
        draft.later(Halted(view.scope, Reason.FAIL_FAST))
    draft.later(Ended(view.path))


def _is_answered(draft: Draft, node: Node, error: StepError) -> bool:
    """Say whether the failure is recorded and counts as done, or a scope around it catches it.

    Around a loop that goes on after a failure, it is heard that the loop has ended in part. The
    failure of a compensation is nobody's: its scopes have ended.
    """
    if node.undoes != NO_NODE:
        return False
    if node.optional:
        return True
    inner = node
    for outer in draft.plan.ancestors(node):
        if outer.optional or outer.kind is StepKind.FIRST:
            return True
        if inner.is_item and outer.on_item_failure is OnItemFailure.CONTINUE:
            error = _partial(outer.path)
        elif inner.handles != outer.index and _catches(outer, error):
            return True
        inner = outer
    return False


def _catches(node: Node, error: StepError) -> bool:
    return any(not handler.on or error.matches(handler.on) for handler in node.handlers)


def tell(draft: Draft, view: StepView) -> None:
    """Tell the end of a step to those that need it, then to the scope around it."""
    node = draft.node_of(view)
    if node.handles != NO_NODE:
        _resolve(draft, view, draft.view(draft.path(node.handles, near=view.path)))
        return
    for index in node.needed_by:
        dependent = draft.view(draft.path(index, near=view.path))
        if dependent.state is StepState.PENDING:
            draft.touch(dependent, tally=view.counted(dependent.tally))
            draft.later(Reached(dependent.path))
    if node.is_item:
        looping.hear(draft, view)
    elif draft.owner_of(node).kind is StepKind.FIRST and view.state is StepState.COMPLETED:
        draft.later(Halted(view.scope, Reason.LOST_RACE))
    else:
        draft.later(Drained(view.scope))


def _resolve(draft: Draft, handler: StepView, view: StepView) -> None:
    """End a step whose failure was caught as its fallback path has ended."""
    if view.state is not StepState.WAITING or view.reason in OUTSIDE:
        draft.later(Drained(view.scope))
        return
    match handler.state:
        case StepState.COMPLETED | StepState.SKIPPED:
            record = draft.slice.records.get(handler.path) or {}
            complete(draft, view, record.get("output"))
        case StepState.FAILED if handler.error is not None:
            fail(draft, view, handler.error)
        case _:
            _let_go(draft, view, handler.reason, view.error)
            draft.later(Ended(view.path))


def drain(draft: Draft, path: str) -> None:
    """End a scope, or the run, in which nothing lives any more."""
    if draft.plan.node(path).kind not in LOOPS:
        _end(draft, path, draft.slice.tally(path))
    elif looping.is_on(draft.view(path)):
        looping.go_on(draft, draft.view(path))
    else:
        draft.later(Stopped(path))


def stop(draft: Draft, path: str) -> None:
    """End a loop in which nothing lives any more, unless it has been begun anew."""
    loop = draft.view(path)
    if not looping.is_on(loop):
        _end(draft, path, looping.tally(loop))


def _end(draft: Draft, path: str, tally: ScopeTally) -> None:
    if tally.alive:
        return
    if path == ROOT:
        _finish_run(draft, tally)
        return
    view = draft.view(path)
    if view.state is not StepState.WAITING:
        draft.later(Drained(view.scope))
    elif view.reason is Reason.CATCH or view.reason in OUTSIDE:
        return
    elif view.cancel_requested:
        inherited = _inherited(tally) if tally.failed else None
        _let_go(draft, view, view.reason, view.error or inherited)
        draft.later(Ended(path))
    elif (error := _failure_of(draft, view, tally)) is not None:
        give_up(draft, view, error, is_inherited=_is_inherited(draft, view, tally))
    else:
        _close(draft, view)


def _failure_of(draft: Draft, view: StepView, tally: ScopeTally) -> StepError | None:
    """Return why a scope that has ended did so badly, if it did."""
    if view.error is not None:
        return view.error
    if draft.node_of(view).kind is not StepKind.FIRST:
        return _inherited(tally) if tally.failed else None
    if scopes.is_won(draft.plan, view, draft.slice.records):
        return None
    message = f"no branch of {view.path} ended well"
    if not tally.failed:
        return StepError(
            ErrorClass.BUSINESS, "first.none", f"{message}; all were skipped, or are optional"
        )
    inherited = _inherited(tally)
    return replace(inherited, code="first.none", message=f"{message}; {inherited.message}")


def _is_inherited(draft: Draft, view: StepView, tally: ScopeTally) -> bool:
    """Say whether a scope that has ended badly did so because of a step inside it."""
    kind = draft.node_of(view).kind
    if kind in LOOPS:
        return looping.is_stopped_by_an_item(draft.node_of(view), view)
    return bool(tally.failed) and view.error is None and kind is not StepKind.FIRST


def _close(draft: Draft, view: StepView) -> None:
    collected = scopes.output(draft.plan, view, draft.slice.records)
    try:
        output = own_output(draft, view, collected)
    except NO_VALUE as error:
        give_up(draft, view, refusal(error))
    else:
        is_too_much = output is collected and too_large(view.path, collected)
        complete(draft, view, None if is_too_much else output)


def close_loop(draft: Draft, loop: StepView) -> None:
    """End a loop of which all items have ended: well, or in part.

    What follows a loop that ended in part goes on, with the outputs that there are; but the
    scope around it has failed until somebody has dealt with the items that did.
    """
    if loop.state is not StepState.WAITING or loop.reason is not Reason.CHILDREN:
        return
    try:
        output = own_output(draft, loop, looping.output(draft, loop))
    except NO_VALUE as error:
        give_up(draft, loop, refusal(error))
        return
    if not loop.tally.failed:
        complete(draft, loop, output)
        return
    why = _partial(f"{loop.tally.failed:,} of the {loop.born:,} items of {loop.path} failed")
    reason = Reason.OPTIONAL if draft.node_of(loop).optional else Reason.PARTIAL
    draft.move(loop, StepState.FAILED, reason=reason, output=output, error=why)
    draft.later(Ended(loop.path))


def _partial(message: str) -> StepError:
    return StepError(ErrorClass.BUSINESS, "foreach.partial", message)


def _inherited(tally: ScopeTally) -> StepError:
    """Return the first failure inside a scope as the failure of the scope."""
    first = tally.first_error
    if first is None:
        message = f"{tally.failed} of its steps failed or were given up"
        return StepError(ErrorClass.PERMANENT, "scope.failed", message)
    return first.inside(tally.first_failed)


def _finish_run(draft: Draft, tally: ScopeTally) -> None:
    run = draft.slice.run
    if run.state is RunState.CANCELLING:
        was_told = run.ending is not None and run.ending.status is ExitStatus.CANCELLED
        error = run.ending.error if run.ending and was_told else None
        draft.move_run(RunState.CANCELLED, reason=run.reason, error=error)
    elif run.state is RunState.COMPENSATING:
        draft.later(CompensationDue())
    elif run.state is not RunState.RUNNING:
        return
    elif run.ending is not None and run.ending.status is ExitStatus.CANCELLED:
        draft.move_run(RunState.CANCELLING)
        draft.move_run(RunState.CANCELLED, output=run.ending.output)
    elif run.ending is not None and run.ending.error is not None:
        _end_badly(draft, run.ending.error, run.ending.output)
    elif tally.needs_person:
        _park(draft)
    elif tally.failed:
        _end_badly(draft, _inherited(tally))
    elif run.ending is not None:
        draft.move_run(RunState.COMPLETED, output=run.ending.output)
    else:
        _complete_run(draft)


def _park(draft: Draft) -> None:
    """Have the run wait for a person, who resolves what is open, or cancels it."""
    if draft.slice.run.reason is not RunReason.PARKED:
        draft.move_run(RunState.RUNNING, reason=RunReason.PARKED)


def _complete_run(draft: Draft) -> None:
    root = draft.plan.root
    try:
        names = draft.names(ROOT, root.yields)
        output = rendered("the output of the run", root.output, names)
    except NO_VALUE as error:
        _end_badly(draft, refusal(error))
    else:
        draft.move_run(RunState.COMPLETED, output=output)


def _end_badly(draft: Draft, error: StepError, output: Any = UNSET) -> None:
    """End the run as failed, or begin to undo what it has done."""
    if draft.plan.on_failure is OnFailure.COMPENSATE or draft.slice.run.is_undone:
        undo(draft, error, output)
    else:
        draft.move_run(RunState.FAILED, output=output, error=error)


def undo(draft: Draft, error: StepError, output: Any = UNSET) -> None:
    """Begin to undo what the run has done; `error` is why."""
    end = Ending(ExitStatus.FAILED, error=error, undo=True)
    draft.move_run(RunState.COMPENSATING, output=output, error=error, ending=end)
    draft.decision.settled = True
    draft.later(CompensationDue())


def time_out(draft: Draft, path: str) -> None:
    """End a scope, or the run, that has used up its time."""
    if path == ROOT:
        run = draft.slice.run
        if run.state is RunState.RUNNING and draft.plan.timeout is not None and not run.is_undone:
            error = _time_is_up("run.timeout", "the run", draft.plan.timeout)
            draft.move_run(RunState.RUNNING, ending=Ending(ExitStatus.FAILED, error=error))
            draft.later(Halted(ROOT, Reason.TIMEOUT))
        return
    view, limit = draft.view(path), draft.plan.node(path).timeout
    is_due = view.wake_at is not None and view.wake_at <= draft.now
    if is_due and draft.node_of(view).kind in LOOPS and looping.wake(draft, view):
        return
    if is_due and limit is not None and not view.cancel_requested:
        draft.touch(view, error=_time_is_up("scope.timeout", path, limit), wake_at=None)
        draft.later(Halted(path, Reason.TIMEOUT))


def _time_is_up(code: str, name: str, limit: float) -> StepError:
    return StepError(ErrorClass.TIMEOUT, code, f"{name} took longer than its {limit:g} seconds")


def halt(draft: Draft, event: Halted) -> None:
    """End what lives in a scope: at once what no worker holds, by request what one does.

    The deepest steps come first, so that a scope with a running step inside is
    known by the time it is its turn: it ends when that step has. A fallback path of
    the scope itself is spared: it makes good what halts the rest.
    """
    handlers = draft.plan.node(event.path).handlers
    spared = [draft.path(handler.node, near=event.path) for handler in handlers]
    inside = [
        view
        for view in draft.slice.steps.values()
        if view.alive
        and view.path != event.path
        and any(is_inside(view.path, top) for top in event.only or (event.path,))
        and not any(is_inside(view.path, top) for top in spared)
    ]
    busy: set[str] = set()
    for known in sorted(inside, key=lambda view: view.node, reverse=True):
        view = draft.view(known.path)
        if view.state is StepState.RUNNING or view.path in busy:
            draft.touch(view, cancel_requested=True, reason=event.reason)
            busy.add(view.scope)
        elif view.state is StepState.PENDING and event.reason is Reason.EXIT:
            draft.move(view, StepState.SKIPPED, reason=event.reason)
        elif view.state is StepState.WAITING:
            is_answered = _is_answered_by(draft, view, event.by)
            error = None if is_answered else view.error or _first_error(draft, view.path)
            _let_go(draft, view, event.reason, error)
        else:
            _withdraw(draft, view, event.reason)
            if draft.node_of(view).undoes != NO_NODE:
                draft.later(Ended(view.path))
    draft.later(Drained(event.path))


def _is_answered_by(draft: Draft, view: StepView, leaving: str) -> bool:
    """Say whether the fallback path of a failure has ended the run, and nothing failed in it.

    `leaving` is the step that has ended the run, if one has.
    """
    if view.reason is not Reason.CATCH or not leaving:
        return False
    tops = [draft.path(one.node, near=view.path) for one in draft.node_of(view).handlers]
    top = next((top for top in tops if is_inside(leaving, top)), None)
    inside = [one for one in draft.slice.steps.values() if top and is_inside(one.path, top)]
    return bool(inside) and not any(one.failed for one in inside)


def _withdraw(draft: Draft, view: StepView, reason: Reason) -> None:
    """End a step that no worker holds. An attempt that nobody took was none.

    But one that was to ask a probe is an attempt that ends here, without having asked.
    """
    is_queued = view.state is StepState.QUEUED
    if view.reason not in ASKING or view.error is None:
        taken = view.attempt - is_queued
        draft.move(view, StepState.CANCELLED, reason=reason, error=None, attempt=taken)
        return
    asking = draft.carry(draft.touch(view, attempt=view.attempt + (not is_queued)))
    draft.decision.attempts.append(AttemptRecord(asking, AttemptEnd.CANCELLED, view.error))
    leave_in_doubt(draft, asking, view.error, Repeat.AFTER_PROBE)


def _first_error(draft: Draft, scope: str) -> StepError | None:
    in_order = sorted(draft.inside(scope), key=lambda view: view.node)
    return next((view.error for view in in_order if view.failed and view.error), None)


def _let_go(draft: Draft, view: StepView, reason: Reason | None, error: StepError | None) -> None:
    """End a scope that is to end: as failed, if a failure in it would else be forgotten."""
    node = draft.node_of(view)
    if error is None or node.optional or reason not in {Reason.EXIT, Reason.LOST_RACE}:
        draft.move(view, StepState.CANCELLED, reason=reason, error=None)
        return
    draft.move(view, StepState.FAILED, error=error, cancel_requested=False)
    if _catches(node, error) and not _is_answered(draft, node, error):
        draft.incident(draft.view(view.path), error)
