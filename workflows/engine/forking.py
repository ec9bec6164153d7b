"""Fork a run: another begins at one of its steps, and takes over what that step follows.

`taken` says what is taken over, or why the run cannot be forked there; `begin` goes on from it.
Pure. What was completed and does not come behind the step is never done again.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from workflows.engine import starting
from workflows.engine.draft import Draft
from workflows.engine.events import Reached
from workflows.engine.plan import LOOPS, Node, Plan
from workflows.engine.slice import StepView
from workflows.engine.states import Reason, RunState, StepState
from workflows.language.words import StepKind

ENTERED = frozenset({StepKind.STEPS, StepKind.PARALLEL, StepKind.SWITCH})
"""The scopes that a fork can begin inside of."""


class ForkError(ValueError):
    """A run cannot be forked at a step: a sentence that says why, and where it can."""


def scopes_around(plan: Plan, path: str) -> tuple[str, ...]:
    """Return the paths of the scopes around a step, the root first.

    Raises ForkError when the step is not there, or is inside what is only done as a whole.
    """
    return tuple(outer.path for outer, _ in _chain(plan, path))


def taken(old: Plan, new: Plan, rows: Mapping[str, StepView], path: str) -> tuple[str, ...]:
    """Return the steps that a fork at `path` takes over, each with all that is inside it.

    `rows` are those of the scopes around the step, as the run that is forked has them.
    Raises ForkError.
    """
    chain = list(_chain(new, path))
    for _, inner in chain:
        row = rows.get(inner.path)
        if row is None or row.reason is Reason.NOT_TAKEN:
            raise ForkError(f"The run never came to {inner.path}. Fork it at an earlier step.")
    found: list[str] = []
    for outer, inner in chain:
        found += _taken_beside(old, new, rows, outer, inner)
    return tuple(found)


def begin(draft: Draft, path: str) -> None:
    """Have a run that holds what was taken over go on at a step, and behind it."""
    if draft.slice.run.state is not RunState.RUNNING or path in draft.slice.steps:
        return
    born: list[StepView] = []
    for outer, inner in _chain(draft.plan, path):
        others = _other_cases(outer, inner)
        for index in outer.children:
            node = draft.plan.nodes[index]
            if node.path in draft.slice.steps:
                continue
            view = draft.bear(node, scope=outer.path)
            if index in others:
                draft.move(view, StepState.SKIPPED, reason=Reason.NOT_TAKEN)
            elif node is inner and node.path != path:
                starting.wait_for_children(draft, view, Reason.CHILDREN)
            else:
                born.append(view)
    for view in born:
        _wait_for_needs(draft, view)


def _wait_for_needs(draft: Draft, view: StepView) -> None:
    tally = draft.tally_of_needs(view)
    if tally != view.tally:
        draft.touch(view, tally=tally)
    draft.later(Reached(view.path))


def _chain(plan: Plan, path: str) -> Iterator[tuple[Node, Node]]:
    """Yield the scopes around a step, the root first, each with what of it is on the way there."""
    chosen = plan.by_path.get(path)
    if chosen is None:
        loop = path.partition("[")[0]
        if loop in plan.by_path and plan.by_path[loop].kind in LOOPS:
            raise ForkError(f"{path} is one round of {loop}. Fork the run at {loop}.")
        raise ForkError(f"{plan.workflow} has no step {path}.")
    way = [*reversed(plan.ancestors(chosen)), chosen]
    for outer, inner in pairwise(way):
        if outer.kind not in ENTERED or inner.index not in outer.children:
            whole = f"{path} is part of {outer.path}, which is done as a whole."
            raise ForkError(f"{whole} Fork the run at {outer.path}.")
        yield outer, inner


def _taken_beside(
    old: Plan, new: Plan, rows: Mapping[str, StepView], outer: Node, inner: Node
) -> list[str]:
    before, anew = _reach(new, inner, upwards=True), _reach(new, inner, upwards=False)
    known = {index: rows.get(new.nodes[index].path) for index in outer.children}
    kept = {
        index
        for index, row in known.items()
        if row is not None
        and _can_be_kept(row)
        and old.nodes[row.node].kind is new.nodes[index].kind
    }
    for index in before - kept:
        row = known[index]
        if row is not None:
            raise ForkError(
                f"{inner.path} follows {row.path}, which is {row.state.value} and so cannot be"
                f" taken over. Fork the run at {row.path}."
            )
    for index in outer.children:
        if index not in kept and index not in before:
            anew |= {index} | _reach(new, new.nodes[index], upwards=False)
    again = (anew - before) | {inner.index}
    return [new.nodes[index].path for index in outer.children if index in kept - again]


def _can_be_kept(row: StepView) -> bool:
    if row.state is StepState.FAILED:
        return row.reason is Reason.OPTIONAL
    return row.state in {StepState.COMPLETED, StepState.SKIPPED} and not row.failed


def _reach(plan: Plan, node: Node, *, upwards: bool) -> set[int]:
    """Return the steps of its scope that a step follows, or that follow it."""
    found: set[int] = set()
    todo = [node]
    while todo:
        one = todo.pop()
        for index in one.needs if upwards else one.needed_by:
            if index not in found:
                found.add(index)
                todo.append(plan.nodes[index])
    return found


def _other_cases(outer: Node, inner: Node) -> frozenset[int]:
    """Return the steps of the cases of a switch that were not taken."""
    return frozenset(
        index for case in outer.cases if inner.index not in case.children for index in case.children
    )
