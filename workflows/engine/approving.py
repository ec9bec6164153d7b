"""A step that waits for a decision of people: what is asked, and what its end yields.

Votes are counted where they are kept; here the step hears of the decision, or that its time is
up. What it then does the definition says; when it asks another group instead, that is a request
of its own, the next attempt, and `failures` tells that it was done.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

from workflows.engine import ending, waiting
from workflows.engine.decision import Awaited
from workflows.engine.draft import Draft
from workflows.engine.events import StepError
from workflows.engine.plan import Approval, required
from workflows.engine.slice import StepView
from workflows.engine.states import Reason
from workflows.engine.values import NO_VALUE, refusal, rendered
from workflows.language import expressions, syntax
from workflows.language.expressions import ExpressionError
from workflows.language.json_schemas import fill, resolver
from workflows.language.limits import LONGEST_GROUP
from workflows.language.words import ErrorClass, OnTimeout

REJECTED = "approval.rejected"

OUTCOMES: Mapping[OnTimeout, str] = {OnTimeout.APPROVE: "approved", OnTimeout.REJECT: "rejected"}
"""What becomes of a request that nobody has decided in time; else it has timed out."""


def ask(draft: Draft, view: StepView) -> None:
    """Have the group asked.

    Raises ExpressionError and ValueTooLargeError.
    """
    node = draft.node_of(view)
    asked = required(node.approval, node)
    request = _request(draft, view, asked.group)
    begun = draft.touch(view, failures=0) if view.failures else view
    waiting.begin(draft, begun, Reason.APPROVAL, name=request["group"], request=request)


def time_out(draft: Draft, view: StepView) -> None:
    """Do what the definition says of a request that nobody has decided in time."""
    if view.wake_at is None or view.wake_at > draft.now:
        return
    node = draft.node_of(view)
    asked, late = required(node.approval, node), waiting.in_vain(draft, view)
    draft.answer(view, {"outcome": OUTCOMES.get(asked.on_timeout, "timed_out"), "in_time": False})
    if waiting.is_cut_short(draft, view):
        ending.give_up(draft, view, late)
        return
    match asked.on_timeout:
        case OnTimeout.APPROVE:
            output = approved(by=[], form=None, at=draft.now, votes=[])
            waiting.complete(draft, view, output)
        case OnTimeout.REJECT:
            ending.give_up(draft, view, rejection(view.path, by="", note=late.message))
        case OnTimeout.ESCALATE if not view.failures:
            _escalate(draft, view, asked, late)
        case OnTimeout.FAIL | OnTimeout.ESCALATE:
            ending.give_up(draft, view, late)
        case _:
            assert_never(asked.on_timeout)


def approved(
    *, by: Sequence[str], form: Any, at: datetime, votes: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what an approved step yields; nobody has approved what time has."""
    return {
        "approved": True,
        "by": list(by),
        "form": form,
        "decided_at": at.isoformat().replace("+00:00", "Z"),
        "votes": [dict(vote) for vote in votes],
    }


def assumed(request: Mapping[str, Any], *, at: datetime) -> dict[str, Any]:
    """Return what an approved step yields where nobody is asked: its form has its defaults."""
    form = request["form"]
    filled = None if form is None else fill(form, {}, resolver(form))
    return approved(by=["nobody"], form=filled, at=at, votes=[])


def rejection(path: str, *, by: str, note: str) -> StepError:
    """Return the error of a step that a person, or the time, has rejected."""
    message = f"{by} has rejected {path}: {note}" if by else f"{path} is rejected: {note}"
    return StepError(ErrorClass.BUSINESS, REJECTED, message, details={"by": by, "note": note})


def _escalate(draft: Draft, view: StepView, asked: Approval, late: StepError) -> None:
    """Have the other group asked, once, with the time anew."""
    try:
        request = _request(draft, view, asked.escalate_to or "")
    except NO_VALUE as error:
        ending.give_up(draft, view, refusal(error))
        return
    group = request["group"]
    until = _fresh_patience(draft, view)
    draft.answer(view, {"outcome": "escalated", "to": group})
    awaited = Awaited(view.path, Reason.APPROVAL, {**request, "escalated": True}, group)
    draft.wait_instead(view, awaited, until=until, error=late)


def _fresh_patience(draft: Draft, view: StepView) -> datetime | None:
    """Return until when the other group may decide: as long again, but within the step's time."""
    node = draft.node_of(view)
    until = waiting.end_of_patience(draft, node)
    if until is None or node.timeout is None or view.started_at is None:
        return until
    return min(until, view.started_at + ending.seconds(node.timeout))


def _request(draft: Draft, view: StepView, group: str) -> dict[str, Any]:
    node = draft.node_of(view)
    asked, names = required(node.approval, node), draft.names(view.path, node.inline)
    return {
        "group": _group(group, names),
        "approvals": asked.approvals,
        "allow_self": asked.allow_self,
        "title": asked.title,
        "description": asked.description,
        "message": rendered(f"the message of {view.path}", asked.message, names),
        "form": asked.form,
    }


def _group(template: str, names: Mapping[str, Any]) -> str:
    group = expressions.render(template, names)
    if not isinstance(group, str) or not group.strip() or len(group) > LONGEST_GROUP:
        given = repr(group)[:60]
        raise ExpressionError(syntax.bare(template), f"gives {given}, and must name a group")
    return group
