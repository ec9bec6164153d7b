"""Have a run go over to another version: as `preflight.examine` has found that it can.

Two events, with the change of the rows' names and numbers between them: `GivenUp` ends, by the
old plan, what the run does without; `Migrated` brings forth, by the new one, what is new, has
each pending step count its needs anew, and reaches those that can start.
"""

from collections.abc import Sequence

from workflows.engine.draft import Draft
from workflows.engine.events import Birth, Drained, GivenUp, Migrated, Reached
from workflows.engine.joins import Ruling, ruling
from workflows.engine.plan import LOOPS, ROOT
from workflows.engine.slice import StepView
from workflows.engine.states import LIVE_RUNS, Reason, RunReason, RunState, StepState


def give_up(draft: Draft, event: GivenUp) -> None:
    """End what the run does without. Nobody is told: the new version has nobody who waits for it.

    An attempt that nobody took was none.
    """
    for path in event.paths:
        view = draft.view(path)
        if view.state in {StepState.PENDING, StepState.FAILED}:
            draft.move(view, StepState.SKIPPED, reason=Reason.GIVEN_UP)
        else:
            taken = view.attempt - (view.state is StepState.QUEUED)
            draft.move(view, StepState.CANCELLED, reason=Reason.GIVEN_UP, error=None, attempt=taken)


def go_on(draft: Draft, event: Migrated) -> None:
    """Have a run go on in another version, from rows that are named and numbered by its plan."""
    _bear(draft, event.births)
    is_live = draft.slice.run.state in LIVE_RUNS
    pending = [view for view in draft.slice.steps.values() if view.state is StepState.PENDING]
    for view in pending:
        _count_needs(draft, view)
    if pending and draft.slice.run.reason is RunReason.PARKED:
        draft.move_run(draft.slice.run.state)
    for view in list(draft.slice.steps.values()):
        is_open = view.state is StepState.WAITING and view.reason is Reason.CHILDREN
        if is_open and draft.node_of(view).kind not in LOOPS:
            draft.later(Drained(view.path))
    if is_live and draft.slice.run.state is not RunState.PENDING:
        draft.later(Drained(ROOT))


def _bear(draft: Draft, births: Sequence[Birth]) -> None:
    for birth in births:
        node = draft.plan.node(birth.path)
        view = draft.bear(node, scope=birth.scope, near=birth.path)
        if birth.reason is not None:
            draft.move(view, StepState.SKIPPED, reason=birth.reason)


def _count_needs(draft: Draft, view: StepView) -> None:
    node = draft.node_of(view)
    tally = draft.tally_of_needs(view)
    if tally != view.tally:
        view = draft.touch(view, tally=tally)
    answer = ruling(node.join, tally, needs=len(node.needs), at_least=node.at_least)
    if answer is not Ruling.WAIT:
        draft.later(Reached(view.path))
