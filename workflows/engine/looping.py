"""Loops: scopes whose body is done many times, by `foreach`, by `repeat` or by `states`.

Each time is an instance of the loop's child with a number in its path; of states, each visit is
an instance of one of the children. The loop's own row says how many there are to be (`total`),
how many have begun (`born`), and in its `tally` how they have ended. So it never matters how many
there were: neither the window, which lets `max_parallel` be under way, nor the end of the loop
looks at the rows of its items.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from workflows.engine.draft import Draft
from workflows.engine.events import Drained, Ended, Gathered, Halted, Reached, Refilled, StepError
from workflows.engine.plan import NO_NODE, Node, Plan, Transition, number_of
from workflows.engine.slice import Requirement, ScopeTally, StepView
from workflows.engine.states import Reason, StepState
from workflows.engine.values import NO_VALUE, ItemsError, ValueTooLargeError, refusal
from workflows.language import expressions
from workflows.language.limits import MOST_ITEMS, too_large
from workflows.language.words import ErrorClass, Losers, OnItemFailure, StepKind

REFILL = 4
"""The window is filled up when this part of it is free: the items are read a batch at a time."""

MOST_BORN = 2_000
"""From so many newborn steps on a decision fills up no further window: loops in loops multiply."""


@dataclass(frozen=True, slots=True)
class Items:
    """What a loop goes through: how many, and what the store keeps to find them by number."""

    total: int | None
    kept: Any = None
    values: Sequence[Any] | None = None


def items_of(draft: Draft, view: StepView, node: Node) -> Items:
    """Return what a loop goes through. Raises one of NO_VALUE."""
    if node.kind is not StepKind.FOREACH:
        return Items(None)
    source = draft.slice.steps.get(draft.path(node.source, near=view.path)) if node.source else None
    if source is not None and source.state is StepState.COMPLETED:
        return Items(source.born, {"of": source.path})
    value = expressions.render(node.over, draft.names(view.path, node.inline))
    if isinstance(value, int) and not isinstance(value, bool):
        total, kept, values = value, None, None
    elif isinstance(value, list):
        total, kept, values = len(value), value, value
    else:
        kind = expressions.kind_of(value)
        raise ItemsError(
            f"the items of {view.path} are {kind}; they must be a list, or how many there are"
        )
    if not 0 <= total <= MOST_ITEMS:
        raise ItemsError(f"{view.path} has {total:,} items; there may be 0 to {MOST_ITEMS:,}")
    if kept is not None and (reason := too_large(f"the list of items of {view.path}", kept)):
        raise ValueTooLargeError(reason)
    return Items(total, kept, values)


def under_way(view: StepView) -> int:
    """Return how many instances of a loop's body have begun and not ended."""
    return view.born - view.tally.done


def tally(loop: StepView) -> ScopeTally:
    """Return what the instances of a loop's body amount to."""
    return ScopeTally(under_way(loop), loop.tally.failed, loop.error, loop.path)


def hear(draft: Draft, item: StepView) -> None:
    """Take up that an instance has ended: what it says of those to come."""
    loop = draft.view(item.scope)
    node = draft.node_of(loop)
    if is_on(loop) and item.failed and node.on_item_failure is OnItemFailure.STOP:
        draft.touch(loop, error=_inherited(item))
    elif is_on(loop):
        try:
            _look_on(draft, loop, node, item)
        except NO_VALUE as error:
            draft.touch(loop, error=refusal(error))
    draft.later(Drained(loop.path))


def _is_used_up(node: Node, loop: StepView) -> bool:
    """Say whether the loop may be done no more, unless a person begins it anew.

    Its rounds are the tries that its row counts.
    """
    return node.max_times is not None and loop.failures >= node.max_times


def _look_on(draft: Draft, loop: StepView, node: Node, item: StepView) -> None:
    if node.kind is StepKind.FOREACH:
        names = {**draft.names(item.path, node.until_reads), "done": loop.tally.ok}
        if node.until is not None and expressions.truth(node.until, names):
            draft.touch(loop, total=loop.born)
            if node.stragglers is Losers.CANCEL:
                draft.later(Halted(loop.path, Reason.LOST_RACE))
        return
    depth = draft.node_of(item).path.count("[]") - 1
    if number_of(item.path, depth) != loop.born - 1:
        return
    if node.kind is StepKind.STATES:
        _go_to_next(draft, loop, node, item)
    else:
        _go_round(draft, loop, node, item)


def _go_round(draft: Draft, loop: StepView, node: Node, item: StepView) -> None:
    """Begin the next round of a repeat, now or after its pause, unless it was the last."""
    names = draft.names(item.path, node.until_reads)
    enough = node.until is not None and expressions.truth(node.until, names)
    is_last = _is_used_up(node, loop)
    if enough or (is_last and node.until is None):
        draft.touch(loop, total=loop.born)
    elif is_last:
        message = f"{loop.path} was done {loop.born} times, and its condition is still not true"
        draft.touch(loop, error=StepError(ErrorClass.BUSINESS, "repeat.exhausted", message))
    elif node.every:
        pause = draft.now + timedelta(seconds=node.every)
        limit = _deadline(node, loop)
        draft.touch(loop, wake_at=pause if limit is None else min(pause, limit))
    else:
        _visit(draft, loop, draft.plan.nodes[node.children[0]])


def _go_to_next(draft: Draft, loop: StepView, node: Node, item: StepView) -> None:
    """Visit the state that follows the one that has ended."""
    state = draft.node_of(item)
    names = draft.names(item.path, state.transition_reads)
    way = next((one for one in state.transitions if _holds(one, names)), None)
    if way is None and state.transitions:
        message = f"none of the transitions of {item.path} holds, so nothing follows it"
        draft.touch(loop, error=StepError(ErrorClass.BUSINESS, "states.stuck", message))
    elif way is None or way.to == NO_NODE:
        draft.touch(loop, total=loop.born)
    elif _is_used_up(node, loop):
        message = f"{loop.path} made {loop.born:,} visits, and may not make more"
        draft.touch(loop, error=StepError(ErrorClass.BUSINESS, "states.exhausted", message))
    else:
        _visit(draft, loop, draft.plan.nodes[way.to])


def _holds(way: Transition, names: Mapping[str, Any]) -> bool:
    return way.when is None or expressions.truth(way.when, names)


def _visit(draft: Draft, loop: StepView, state: Node) -> None:
    visit = draft.bear(state, scope=loop.path, near=f"{loop.path}[{loop.born}]")
    draft.touch(loop, born=loop.born + 1, failures=loop.failures + 1)
    draft.later(Reached(visit.path))


def _inherited(item: StepView) -> StepError:
    if item.error is None:
        return StepError(ErrorClass.PERMANENT, "scope.failed", f"{item.path} was given up")
    return item.error.inside(item.path)


def _given_up(loop: StepView) -> StepError:
    message = f"{loop.tally.failed} of the steps in {loop.path} failed or were given up"
    return StepError(ErrorClass.PERMANENT, "scope.failed", message)


def _deadline(node: Node, loop: StepView) -> datetime | None:
    if node.timeout is None or loop.started_at is None:
        return None
    return loop.started_at + timedelta(seconds=node.timeout)


def is_stopped_by_an_item(node: Node, loop: StepView) -> bool:
    """Say whether a loop ends badly because an item did, and not of itself."""
    return bool(loop.tally.failed) and node.on_item_failure is OnItemFailure.STOP


def is_stopped_by(loop: StepView, item: StepView) -> bool:
    """Say whether a loop waits for those under way alone, because the instance has failed."""
    waits = loop.state is StepState.WAITING and loop.reason is Reason.CHILDREN
    return waits and loop.error is not None and loop.error == _inherited(item)


def go_on(draft: Draft, loop: StepView) -> None:
    """Begin what there is room for; end the loop when nothing is under way or to come."""
    node = draft.node_of(loop)
    busy = under_way(loop)
    if loop.tally.failed and node.on_item_failure is OnItemFailure.STOP:
        if not busy and not _is_to_hear(draft, loop):
            draft.touch(loop, error=_given_up(loop))
            draft.later(Drained(loop.path))
        return
    if loop.total is not None and loop.born >= loop.total:
        if not busy:
            draft.later(Gathered(loop.path))
        return
    if node.kind is not StepKind.FOREACH:
        if not loop.born:
            _visit(draft, loop, draft.plan.nodes[node.children[0]])
    elif (node.max_parallel - busy) * REFILL >= node.max_parallel or not busy:
        draft.later(Refilled(loop.path))


def _is_to_hear(draft: Draft, loop: StepView) -> bool:
    """Say whether the loop has yet to hear of the end of an instance, and so of why it failed."""
    told_later = (*draft.queue, *draft.decision.follow_ups)
    ends = (event.path for event in told_later if isinstance(event, Ended))
    return any(draft.plan.path(draft.plan.node(path).scope, path) == loop.path for path in ends)


def is_on(loop: StepView) -> bool:
    """Say whether a loop may still begin something."""
    waits = loop.state is StepState.WAITING and loop.reason is Reason.CHILDREN
    return waits and loop.error is None and not loop.cancel_requested


def refill(draft: Draft, loop: StepView) -> None:
    """Bring as many items of a foreach into being as there is room for."""
    node = draft.node_of(loop)
    if not is_on(loop) or (loop.total is not None and loop.born >= loop.total):
        return
    values = draft.slice.batches.pop(loop.path)[: node.max_parallel - under_way(loop)]
    body = draft.plan.nodes[node.children[0]]
    for number, value in enumerate(values, loop.born):
        item = draft.bear(body, scope=loop.path, near=f"{loop.path}[{number}]", item=value)
        draft.later(Reached(item.path))
    draft.touch(loop, born=loop.born + len(values))


def refills(plan: Plan, paths: Sequence[str]) -> Requirement:
    """Return what is asked for so that loops are filled up where many items end at once."""
    ends = Counter(
        plan.path(plan.node(path).scope, path) for path in paths if plan.node(path).is_item
    )
    loops = ((loop, ended, plan.node(loop)) for loop, ended in ends.items())
    return Requirement(
        batches=frozenset(
            loop
            for loop, ended, node in loops
            if node.kind is StepKind.FOREACH and ended * REFILL >= node.max_parallel
        )
    )


def wake(draft: Draft, loop: StepView) -> bool:
    """Begin the next round when the pause before it is over; say whether that was all."""
    node = draft.node_of(loop)
    limit = _deadline(node, loop)
    is_late = limit is not None and limit <= draft.now
    if node.kind is not StepKind.REPEAT or is_late:
        return False
    if is_on(loop) and loop.born and not under_way(loop):
        _visit(draft, draft.touch(loop, wake_at=limit), draft.plan.nodes[node.children[0]])
    return True


def output(draft: Draft, loop: StepView) -> Any:
    """Return what the loop hands on, unless its definition says otherwise."""
    node = draft.node_of(loop)
    outputs = draft.slice.gathered[loop.path]
    if outputs is None:
        return None
    if node.kind is not StepKind.FOREACH:
        return outputs[-1] if outputs else None
    value = list(outputs)
    return None if too_large(loop.path, value) else value
