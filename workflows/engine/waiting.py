"""Waiting for what no step of the run brings: an approval, a callback, an event, a time, a child.

Such a step is carried at once to WAITING, for a reason of its own, and `wake_at` is the end of
its patience. Each wait is an attempt, so what was meant for an earlier one is told by its number.
Whatever ends the wait, an answer, the time, a cancel or a halt, closes it: `Draft` sees to that.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from workflows.engine import ending
from workflows.engine.decision import Awaited
from workflows.engine.draft import Draft
from workflows.engine.events import Answered, StepError
from workflows.engine.plan import Node, required
from workflows.engine.slice import StepView
from workflows.engine.states import OUTSIDE, Reason
from workflows.engine.values import NO_VALUE, refusal, rendered
from workflows.language import durations, expressions, moments, syntax
from workflows.language.durations import DurationError
from workflows.language.expressions import ExpressionError
from workflows.language.moments import MomentError
from workflows.language.words import ErrorClass

AWAITED: Mapping[Reason, str] = {
    Reason.APPROVAL: "an approval",
    Reason.CALLBACK: "its callback",
    Reason.EVENT: "its event",
    Reason.TIME: "its time to come",
    Reason.CHILD: "its child run to end",
}
"""What a step waits for, in words."""


def begin(
    draft: Draft,
    view: StepView,
    kind: Reason,
    *,
    name: str = "",
    request: Mapping[str, Any] | None = None,
) -> StepView:
    """Have a step wait for something from outside, as long as its definition allows."""
    awaited = Awaited(view.path, kind, request or {}, name)
    return draft.wait(view, awaited, until=end_of_patience(draft, draft.node_of(view)))


def pause(draft: Draft, view: StepView) -> None:
    """Have a step wait for time; one whose time has passed is done at once.

    Raises ExpressionError and ValueTooLargeError.
    """
    node = draft.node_of(view)
    due = _due(draft, view.path, node)
    if due <= draft.now:
        output = ending.own_output(draft, view, None)
        ending.complete(draft, draft.carry(view), output)
        return
    limit = end_of_patience(draft, node)
    awaited = Awaited(view.path, Reason.TIME, {"until": due.isoformat()})
    draft.wait(view, awaited, until=due if limit is None else min(due, limit))


def call(draft: Draft, view: StepView) -> None:
    """Have a step wait for a child run, whose input is settled now.

    A person who corrects that input wants a run of its own for it, not the one that there was.
    Raises ExpressionError and ValueTooLargeError.
    """
    node = draft.node_of(view)
    child = required(node.child, node)
    corrected = draft.corrected(view)
    template = node.arguments if corrected is None else corrected
    names = draft.names(view.path, node.inline)
    request: dict[str, Any] = {
        "input": rendered(f"the input of {view.path}", dict(template), names)
    }
    if child.version is not None:
        request["version"] = child.version
    if node.environment:
        request["environment"] = node.environment
    if corrected is not None:
        request["anew"] = True
    begin(draft, view, Reason.CHILD, name=child.workflow, request=request)


def is_meant(view: StepView, event: Answered) -> bool:
    """Say whether the step waits for just this answer."""
    return view.reason is event.reason and event.attempt in {None, view.attempt}


def answer(draft: Draft, event: Answered) -> None:
    """End a wait with what has come."""
    view = draft.view(event.path)
    draft.answer(view, event.answer)
    if event.error is not None:
        ending.give_up(draft, view, event.error)
    else:
        complete(draft, view, event.output)


def time_out(draft: Draft, view: StepView) -> None:
    """End a wait whose time is up: well, if it was for time, else badly. Or a scope, as such."""
    if view.reason not in OUTSIDE:
        ending.time_out(draft, view.path)
    elif view.wake_at is None or view.wake_at > draft.now:
        return
    elif view.reason is Reason.TIME and not is_cut_short(draft, view):
        complete(draft, view, None)
    else:
        ending.give_up(draft, view, in_vain(draft, view))


def complete(draft: Draft, view: StepView, output: Any) -> None:
    """End a wait well, with what the step yields."""
    try:
        output = ending.own_output(draft, view, output)
    except NO_VALUE as error:
        ending.give_up(draft, view, refusal(error))
    else:
        ending.complete(draft, view, output)


def _due(draft: Draft, path: str, node: Node) -> datetime:
    names = draft.names(path, node.inline)
    wanted = required(node.pause, node)
    text = wanted.until if wanted.duration is None else wanted.duration
    value = expressions.render(text, names)
    try:
        if wanted.duration is None:
            return moments.parse(value)
        return draft.now + ending.seconds(durations.parse(value))
    except (DurationError, MomentError) as error:
        raise ExpressionError(syntax.bare(f"{text}"), f"{error}") from error


def end_of_patience(draft: Draft, node: Node) -> datetime | None:
    """Return until when a wait that begins now goes on; None: for ever."""
    limits = [limit for limit in (node.timeout, node.patience) if limit is not None]
    return draft.now + ending.seconds(min(limits)) if limits else None


def is_cut_short(draft: Draft, view: StepView) -> bool:
    """Say whether a wait ends because the step may take no longer."""
    limit = draft.node_of(view).timeout
    if limit is None or view.started_at is None or view.wake_at is None:
        return False
    return view.wake_at >= view.started_at + ending.seconds(limit)


def in_vain(draft: Draft, view: StepView) -> StepError:
    """Return the error of a step whose wait was in vain."""
    message = f"{view.path} waited for {AWAITED[view.reason or Reason.TIME]}"
    if view.started_at is not None and view.wake_at is not None:
        waited = (view.wake_at - view.started_at).total_seconds()
        message += f" for {waited:g} seconds, as long as it may"
    code = f"{draft.node_of(view).kind.value}.timeout"
    return StepError(ErrorClass.TIMEOUT, code, message)
