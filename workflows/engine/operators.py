"""What people ask of a run: hold it, let it go on, end it, and deal with a failed step.

A replay reopens what ended only because of the failure: the scopes around the
step, and the steps that were skipped or cancelled for it. Completed steps are
never done again.
"""

from workflows.engine import scopes, starting
from workflows.engine.draft import Draft
from workflows.engine.events import (
    Discarded,
    Drained,
    Halted,
    Reached,
    Replayed,
    SkipDecided,
)
from workflows.engine.joins import Tally
from workflows.engine.plan import ROOT, Node
from workflows.engine.slice import StepView
from workflows.engine.states import LIVE_RUNS, Reason, RunState, StepState
from workflows.language.words import StepKind

REOPENED = frozenset({Reason.UPSTREAM_FAILED, Reason.UPSTREAM_SKIPPED, Reason.FAIL_FAST})
"""Why a step may have ended because another had failed."""

OPERABLE = frozenset({RunState.RUNNING, RunState.PAUSED, RunState.FAILED})
"""The states of a run in which a failed step of it may be begun again."""


def pause(draft: Draft) -> None:
    """Hold a running run."""
    if draft.slice.run.state is RunState.RUNNING:
        draft.move_run(RunState.PAUSED)


def resume(draft: Draft) -> None:
    """Let a paused run go on."""
    if draft.slice.run.state is RunState.PAUSED:
        draft.move_run(RunState.RUNNING)
        draft.later(Drained(ROOT))


def cancel(draft: Draft) -> None:
    """End a live run: what no worker holds at once, the rest when its worker lets go."""
    if draft.slice.run.state in LIVE_RUNS - {RunState.CANCELLING}:
        draft.move_run(RunState.CANCELLING)
        draft.later(Halted(ROOT, Reason.RUN_CANCELLED))
        draft.later(Drained(ROOT))


def replay(draft: Draft, event: Replayed) -> None:
    """Have a failed step tried again, with a fresh budget of attempts."""
    if draft.slice.run.state not in OPERABLE:
        return
    view = draft.view(event.path)
    node = draft.node_of(view)
    _reopen(draft, node)
    fresh = draft.touch(view, failures=0, losses=0, error=None)
    corrected = {} if event.arguments is None else {"arguments": dict(event.arguments)}
    if node.kind is StepKind.TASK and (view.attempt or node.when is None):
        starting.queue(draft, fresh, Reason.REPLAYED, **corrected)
    elif node.kind in scopes.KINDS and any(v.scope == node.path for v in draft.slice.steps.values()):
        _go_on_inside(draft, fresh)
    else:
        starting.start(draft, fresh)


def _go_on_inside(draft: Draft, view: StepView) -> None:
    """Give a scope that ran out of time its time anew; what was completed in it stays so."""
    starting.wait_for_children(draft, view, Reason.CHILDREN)
    unfinished = [
        draft.move(other, StepState.PENDING, reason=Reason.REOPENED, cancel_requested=False)
        for other in list(draft.slice.steps.values())
        if other.scope == view.path and other.reason is Reason.TIMEOUT
    ]
    _recount(draft, unfinished)
    draft.later(Drained(view.path))


def skip(draft: Draft, event: SkipDecided) -> None:
    """Have a failed step count as done; what depends on it goes on."""
    if draft.slice.run.state not in OPERABLE:
        return
    view = draft.view(event.path)
    draft.move(view, StepState.SKIPPED, reason=Reason.SKIPPED_BY_OPERATOR, output=event.output)
    _reopen(draft, draft.node_of(view))
    draft.later(Drained(view.scope))


def discard(draft: Draft, event: Discarded) -> None:
    """Give a failed step up for good; it still counts as a failure of its scope."""
    view = draft.view(event.path)
    draft.move(view, StepState.SKIPPED, reason=Reason.DISCARDED)


def _reopen(draft: Draft, node: Node) -> None:
    """Reopen the scopes around the step, and what ended because of them or of the step."""
    opened = [node]
    inner = node
    for outer in draft.plan.ancestors(node)[:-1]:
        view = draft.view(outer.path)
        if view.state is StepState.FAILED:
            caught = inner.handles == outer.index
            starting.wait_for_children(
                draft,
                draft.touch(view, error=view.error if caught else None),
                Reason.CATCH if caught else Reason.CHILDREN,
            )
            opened.append(outer)
        inner = outer
    if draft.slice.run.state is RunState.FAILED:
        draft.move_run(RunState.RUNNING, ending=None)
    _recount(draft, _reopened(draft, opened))


def _reopened(draft: Draft, opened: list[Node]) -> list[StepView]:
    """Move the steps that ended because of the reopened ones back to pending."""
    halted = {draft.owner_of(node).path for node in opened if draft.owner_of(node).fail_fast}
    todo = [
        draft.node_of(view)
        for view in draft.slice.steps.values()
        if view.reason is Reason.FAIL_FAST and view.final and view.scope in halted
    ]
    for node in opened:
        todo += [draft.plan.nodes[index] for index in node.needed_by]
    waiting: dict[str, StepView] = {}
    while todo:
        node = todo.pop()
        view = draft.view(node.path)
        if node.path in waiting:
            continue
        if view.final and view.reason in REOPENED:
            waiting[node.path] = draft.move(
                view, StepState.PENDING, reason=Reason.REOPENED, cancel_requested=False
            )
            todo += [draft.plan.nodes[index] for index in node.needed_by]
        elif view.state is StepState.PENDING:
            waiting[node.path] = view
    return list(waiting.values())


def _recount(draft: Draft, waiting: list[StepView]) -> None:
    """Count anew how the needs of pending steps have ended, and reach those steps."""
    for view in waiting:
        tally = Tally()
        for index in draft.plan.nodes[view.node].needs:
            tally = draft.view(draft.plan.nodes[index].path).counted(tally)
        draft.touch(draft.view(view.path), tally=tally)
        draft.later(Reached(view.path))
