"""Switch: the first case whose condition is true is done, the others are not taken."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.plan import Node, Plan
from workflows.engine.scopes.opening import Opening, handed_on
from workflows.engine.slice import StepView
from workflows.language import expressions


def opening(node: Node, names: Mapping[str, Any]) -> Opening | None:
    """Choose the case; None when no condition is true and there is no `else`."""
    for case in node.cases:
        if case.when is None or expressions.truth(case.when, names):
            others = tuple(child for child in node.children if child not in case.children)
            return Opening(born=node.children, not_taken=others)
    return None


def output(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> Any:
    """Return the output of the last step of the case that was taken."""
    node = plan.nodes[view.node]
    lasts = (case.children[-1] for case in node.cases if case.children)
    outputs = (handed_on(plan, last, view, records) for last in lasts)
    return next((value for value in outputs if value is not None), None)
