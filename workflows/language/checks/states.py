"""Do the transitions of states lead to states that there are, and to every one of them?

A transition behind one without a condition leads nowhere: it is never looked at.
"""

from itertools import pairwise

from workflows.language.document import Node
from workflows.language.nearest import did_you_mean
from workflows.language.outline import Outline, Role, Scope, Step

OUT_OF_PLACE = ("needs", "join", "losers")
"""Keys that order the steps of other blocks: states are ordered by their transitions."""


def check(outline: Outline) -> None:
    """Report transitions that lead nowhere, states that nothing leads to, and stray `next`s."""
    for scope in outline.scopes:
        if scope.role is Role.STATES:
            _check_states(outline, scope)
            continue
        for step in scope.steps:
            if step.node.get("next") is not None:
                outline.report.add(
                    "next-out-of-place",
                    step.node.key_place("next"),
                    f"{step.path}.next",
                    f"{step.id or 'the step'} is no state, so nothing reads its next",
                    "remove it, or put the step into the states of a block",
                )


def _check_states(outline: Outline, scope: Scope) -> None:
    known = {step.id: step for step in reversed(scope.steps) if step.id}
    owner = scope.owner
    start = owner.node.get("start") if owner is not None else None
    first = scope.steps[0] if scope.steps else None
    if start is not None and isinstance(start.value, str):
        path = f"{owner.path}.start" if owner is not None else "start"
        _check_target(outline, start, path, known)
        first = known.get(start.value, first)
    for step in scope.steps:
        for key in OUT_OF_PLACE:
            if step.node.get(key) is not None:
                outline.report.add(
                    "state-order",
                    step.node.key_place(key),
                    f"{step.path}.{key}",
                    f"{key} means nothing on a state: its place is said by next",
                    "remove it, and name the state in the next of another",
                )
        for node, path in _targets(step):
            _check_target(outline, node, path, known)
        _check_taken(outline, step)
    _check_reached(outline, scope, known, first)


def _targets(step: Step) -> list[tuple[Node, str]]:
    written = step.node.get("next")
    if written is None:
        return []
    path = f"{step.path}.next"
    if written.items is None:
        return [(written, path)]
    found = [(part.get("to"), f"{path}[{place}].to") for place, part in enumerate(written.items)]
    return [(node, where) for node, where in found if node is not None]


def _check_taken(outline: Outline, step: Step) -> None:
    """Report the transition that comes behind one which always holds."""
    written = step.node.get("next")
    parts = list(written.items or ()) if written is not None else []
    for place, (before, part) in enumerate(pairwise(parts), start=1):
        if before.fields is not None and before.get("when") is None:
            outline.report.add(
                "transition-never-taken",
                part,
                f"{step.path}.next[{place}]",
                "the transition before it has no when, so this one is never taken",
                "give the one before it a when, or move it to the end",
            )
            return


def _check_target(outline: Outline, node: Node, path: str, known: dict[str, Step]) -> None:
    if isinstance(node.value, str) and node.value not in known:
        outline.report.add(
            "unknown-state",
            node,
            path,
            f"there is no state {node.value[:60]} in this block",
            did_you_mean(node.value, known, "states"),
        )


def _check_reached(
    outline: Outline, scope: Scope, known: dict[str, Step], first: Step | None
) -> None:
    """Report the states that no way leads to from the first."""
    reached: set[Step] = set()
    todo = [first] if first is not None else []
    while todo:
        step = todo.pop()
        if step not in reached:
            reached.add(step)
            names = (node.value for node, _ in _targets(step))
            todo += [known[name] for name in names if name in known]
    for step in scope.steps:
        if step not in reached and step.id:
            outline.report.add(
                "unreachable-state",
                step.node,
                step.path,
                f"no way leads to the state {step.id}",
                "name it in the next of a state that is reached, or remove it",
            )
