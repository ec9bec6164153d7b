"""A run is undone: one completed step after the other, the one that was completed last first.

What undoes a step is a row of its own below it, `reserve.compensate`, which goes through the
states of every task: so its attempts, leases, retries, probes and incidents are those of any
other. It belongs to the run itself, whatever scope its step was in. The step says where its
undoing stands. Which one is next is read under the run's lock, so two are never under way.
"""

from workflows.engine import ending, starting
from workflows.engine.draft import Draft
from workflows.engine.events import CompensationDue, Drained, Replayed, StepError
from workflows.engine.plan import NO_NODE, ROOT, Node, Plan
from workflows.engine.slice import RunView, StepView
from workflows.engine.states import Reason, RunState, StepState
from workflows.language.words import ErrorClass

BELOW = ".compensate"
"""What the path of a compensation has behind the path of its step."""

INCOMPLETE = "run.undo_incomplete"
"""The code of the error of a run of which not everything could be undone."""

OPERABLE = frozenset({RunState.COMPENSATING, RunState.FAILED})
"""The states of a run in which a failed compensation may be begun again."""


def step_of(path: str) -> str:
    """Return the path of the step that the compensation at `path` undoes."""
    return path.removesuffix(BELOW)


def is_undo(plan: Plan, path: str) -> bool:
    """Say whether the step at `path` is a compensation."""
    return path.endswith(BELOW) and plan.node(path).undoes != NO_NODE


def can_begin(run: RunView, node: Node) -> bool:
    """Say whether the run is in the state in which a worker may begin the step."""
    awaited = RunState.RUNNING if node.undoes == NO_NODE else RunState.COMPENSATING
    return run.state is awaited


def request(draft: Draft, error: StepError) -> None:
    """Begin to undo a failed run, if anything is left to be undone and nobody has begun."""
    run, undoing = draft.slice.run, draft.slice.undoing
    is_left = undoing is not None and undoing.next
    if run.state is RunState.FAILED and not run.is_undone and is_left:
        ending.undo(draft, error)


def go_on(draft: Draft) -> None:
    """Undo the next step, unless one is being undone; end the run when none is left."""
    run, undoing = draft.slice.run, draft.slice.undoing
    if run.state is RunState.CANCELLING:
        draft.later(Drained(ROOT))
    if run.state is not RunState.COMPENSATING or undoing is None or undoing.under_way:
        return
    draft.slice.undoing = None
    error = None if run.ending is None else run.ending.error
    if undoing.next:
        _begin(draft, draft.view(undoing.next))
    elif undoing.failed:
        draft.move_run(
            RunState.FAILED, error=_incomplete(error, undoing.failed, undoing.first_failed)
        )
    else:
        draft.move_run(RunState.COMPENSATED, error=error)


def _begin(draft: Draft, step: StepView) -> None:
    if step.state is StepState.COMPLETED:
        draft.move(step, StepState.COMPENSATING)
    known = draft.slice.steps.get(step.path + BELOW)
    if known is None:
        starting.queue(draft, _bear(draft, step))
    else:
        starting.queue(draft, known, known.reason)


def _bear(draft: Draft, step: StepView) -> StepView:
    node = draft.plan.nodes[draft.node_of(step).undo]
    return draft.bear(node, scope=ROOT, near=step.path)


def tell(draft: Draft, view: StepView) -> None:
    """Move the step on whose compensation has ended, and have the next one undone."""
    step = draft.view(step_of(view.path))
    if step.state is StepState.COMPENSATING:
        if view.state is StepState.COMPLETED:
            draft.move(step, StepState.COMPENSATED)
        else:
            draft.move(step, StepState.COMPENSATION_FAILED, reason=view.reason, error=view.error)
    _call(draft)


def replay(draft: Draft, event: Replayed) -> None:
    """Have a failed compensation tried again: at once, or behind the one that is under way."""
    view, undoing = draft.view(event.path), draft.slice.undoing
    if draft.slice.run.state not in OPERABLE or undoing is None:
        return
    fresh = draft.touch(view, failures=0, losses=0, error=None)
    if event.arguments is not None:
        draft.correct(fresh, event.arguments)
    step = draft.view(step_of(view.path))
    draft.move(step, StepState.COMPENSATING, reason=Reason.REPLAYED, error=None)
    skipped = draft.move(fresh, StepState.SKIPPED, reason=Reason.REPLAYED)
    draft.move(skipped, StepState.PENDING, reason=Reason.REPLAYED)
    _go_on_with_run(draft)


def skip(draft: Draft, view: StepView, output: object) -> None:
    """Have a failed compensation count as done."""
    if draft.slice.run.state not in OPERABLE:
        return
    reason = Reason.SKIPPED_BY_OPERATOR
    draft.move(view, StepState.SKIPPED, reason=reason, output=output)
    step = draft.view(step_of(view.path))
    undone = draft.move(step, StepState.COMPENSATING, reason=reason, error=None)
    draft.move(undone, StepState.COMPENSATED, reason=reason)
    _go_on_with_run(draft)


def discard(draft: Draft, view: StepView) -> None:
    """Give a failed compensation up for good: its step stays as it is, and the run goes on."""
    draft.move(view, StepState.SKIPPED, reason=Reason.DISCARDED)
    draft.touch(draft.view(step_of(view.path)), reason=Reason.DISCARDED)
    if draft.slice.run.state in OPERABLE:
        _go_on_with_run(draft)


def _go_on_with_run(draft: Draft) -> None:
    run = draft.slice.run
    if run.state is RunState.FAILED:
        draft.move_run(RunState.COMPENSATING, error=run.ending.error if run.ending else None)
    _call(draft)


def _call(draft: Draft) -> None:
    """Have it be asked anew what is to be undone next."""
    draft.slice.undoing = None
    draft.later(CompensationDue())


def _incomplete(error: StepError | None, failed: int, first: str) -> StepError:
    """Return why a run has failed for good: what failed in it, and what is not undone."""
    steps = f"{failed} steps are not undone, the first of them" if failed > 1 else "not undone is"
    why = "" if error is None else f"{error.message.rstrip('.')}; "
    message = f"{why}the undo is incomplete: {steps} {first}"
    cause = {} if error is None else {"cause": error.as_dict()}
    return StepError(ErrorClass.PERMANENT, INCOMPLETE, message, details=cause)
