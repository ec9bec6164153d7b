"""How steps start: the join rule, the condition, and what each kind does first."""

from typing import assert_never

from workflows.engine import approving, ending, listening, looping, precedence, scopes, waiting
from workflows.engine.draft import Draft
from workflows.engine.events import Contested, Drained, Ended, Halted, Reached, StepError
from workflows.engine.joins import Ruling, Tally, ruling
from workflows.engine.plan import ROOT, Node, required
from workflows.engine.slice import Ending, StepView
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.values import NO_VALUE, refusal, rendered
from workflows.language import expressions
from workflows.language.words import ErrorClass, ExitStatus, Join, StepKind

PARTIAL_JOINS = frozenset({Join.ONE_SUCCESS, Join.ONE_FAILED, Join.ONE_DONE, Join.AT_LEAST})


def start_run(draft: Draft) -> None:
    """Begin the run: its root steps come into being, and those that can do start."""
    if draft.slice.run.state is not RunState.PENDING:
        return
    draft.move_run(RunState.RUNNING)
    begin(draft, ROOT, draft.plan.root.children)


def begin(
    draft: Draft, scope: str, children: tuple[int, ...], not_taken: tuple[int, ...] = ()
) -> None:
    """Bring the steps of a scope into being and reach those that wait for no other."""
    for index in children:
        node = draft.plan.nodes[index]
        view = draft.bear(node, scope=scope)
        if index in not_taken:
            draft.move(view, StepState.SKIPPED, reason=Reason.NOT_TAKEN)
        elif not node.needs or node.join is Join.ALWAYS:
            draft.later(Reached(view.path))


def reach(draft: Draft, view: StepView) -> None:
    """Start a pending step if its join rule and its condition say so."""
    node = draft.node_of(view)
    answer = ruling(node.join, view.tally, needs=len(node.needs), at_least=node.at_least)
    match answer:
        case Ruling.WAIT:
            return
        case Ruling.CONTESTED:
            draft.later(Contested(view.path))
        case Ruling.UPSTREAM_FAILED:
            pass_over(draft, view, Reason.UPSTREAM_FAILED)
        case Ruling.UPSTREAM_SKIPPED:
            pass_over(draft, view, Reason.UPSTREAM_SKIPPED)
        case Ruling.START:
            if node.losers and node.join in PARTIAL_JOINS:
                paths = tuple(draft.path(index, near=view.path) for index in node.losers)
                draft.later(Halted(view.scope, Reason.LOST_RACE, only=paths))
            start(draft, view)


def settle_contest(draft: Draft, view: StepView) -> None:
    """Skip a step for what came first: the failure or the skip of a step it needs."""
    failed = precedence.failure_came_first(draft.plan, view, draft.slice.steps)
    pass_over(draft, view, Reason.UPSTREAM_FAILED if failed else Reason.UPSTREAM_SKIPPED)


def pass_over(draft: Draft, view: StepView, reason: Reason) -> None:
    """Skip a step."""
    draft.move(view, StepState.SKIPPED, reason=reason)
    draft.later(Ended(view.path))


def start(draft: Draft, view: StepView) -> None:
    """Start a step whose turn it is, or skip it when its condition is false."""
    node = draft.node_of(view)
    names = draft.names(view.path, node.inline)
    try:
        if node.when is not None and not expressions.truth(node.when, names):
            pass_over(draft, view, Reason.WHEN)
            return
        _start_kind(draft, view, node)
    except NO_VALUE as error:
        ending.give_up(draft, draft.carry(draft.view(view.path)), refusal(error))


def _start_kind(draft: Draft, view: StepView, node: Node) -> None:  # noqa: C901 - the table of kinds
    match node.kind:
        case StepKind.TASK:
            queue(draft, view)
        case StepKind.STEPS | StepKind.PARALLEL | StepKind.FIRST | StepKind.SWITCH:
            _open(draft, view, node)
        case StepKind.SET:
            names = draft.names(view.path, node.inline)
            values = rendered(f"what {view.path} sets", dict(node.assigns or {}), names)
            draft.decision.assigned.update(values)
            if "vars" in draft.slice.roots:
                draft.slice.roots["vars"] = {**draft.slice.roots["vars"], **values}
            ending.complete(draft, draft.carry(view), values)
        case StepKind.EXIT:
            _leave(draft, view, node)
        case StepKind.FOREACH | StepKind.REPEAT | StepKind.STATES:
            _open_loop(draft, view, node)
        case StepKind.WAIT:
            waiting.pause(draft, view)
        case StepKind.APPROVAL:
            approving.ask(draft, view)
        case StepKind.CALLBACK:
            waiting.begin(draft, view, Reason.CALLBACK)
        case StepKind.EVENT:
            _listen(draft, view, node)
        case StepKind.WORKFLOW:
            waiting.call(draft, view)
        case _:
            assert_never(node.kind)


def _listen(draft: Draft, view: StepView, node: Node) -> None:
    wanted = required(node.listening, node)
    asked = listening.request(wanted, draft.names(view.path, node.inline))
    waiting.begin(draft, view, Reason.EVENT, name=wanted.type, request=asked)


def queue(draft: Draft, view: StepView, reason: Reason | None = None) -> None:
    """Put the next attempt in the queue. The queued row is the outbox; the message is a hint."""
    draft.move(
        view,
        StepState.QUEUED,
        reason=reason,
        attempt=view.attempt + 1,
        wake_at=draft.now + draft.patience,
    )


def _open(draft: Draft, view: StepView, node: Node) -> None:
    beginning = scopes.opening(node, draft.names(view.path, node.inline))
    if beginning is None:
        pass_over(draft, view, Reason.NO_CASE)
        return
    wait_for_children(draft, view, Reason.CHILDREN)
    begin(draft, view.path, beginning.born, beginning.not_taken)
    if not beginning.born:
        draft.later(Drained(view.path))


def _open_loop(draft: Draft, view: StepView, node: Node) -> None:
    """Begin a loop; one without items ends at once."""
    items = looping.items_of(draft, view, node)
    begun = draft.touch(view, total=items.total, born=0, tally=Tally())
    if items.kept is not None:
        draft.keep_items(begun, items.kept)
    if items.values is not None:
        draft.slice.batches[view.path] = tuple(items.values[: node.max_parallel])
    wait_for_children(draft, begun, Reason.CHILDREN)
    draft.later(Drained(view.path))


def wait_for_children(draft: Draft, view: StepView, reason: Reason) -> None:
    """Have a scope wait for the steps it owns, no longer than its time allows."""
    limit = draft.node_of(view).timeout if reason is Reason.CHILDREN else None
    draft.move(
        draft.carry(view),
        StepState.WAITING,
        reason=reason,
        wake_at=None if limit is None else draft.now + ending.seconds(limit),
    )


def _leave(draft: Draft, view: StepView, node: Node) -> None:
    leaving = required(node.exit, node)
    names = draft.names(view.path, node.inline)
    if leaving.when is not None and not expressions.truth(leaving.when, names):
        pass_over(draft, view, Reason.WHEN)
        return
    output = rendered(f"the output of {view.path}", leaving.output, names)
    error = None
    if leaving.status is ExitStatus.FAILED:
        message = f"the step {view.path} ended the run as failed"
        error = StepError(ErrorClass.BUSINESS, "run.exit", message)
    draft.move(draft.carry(view), StepState.COMPLETED, output=output)
    if draft.slice.run.ending is None:
        draft.move_run(draft.slice.run.state, ending=Ending(leaving.status, output, error))
    draft.later(Halted(ROOT, Reason.EXIT, by=view.path))
