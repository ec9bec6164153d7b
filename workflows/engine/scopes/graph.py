"""A graph: steps in order, or as their `needs` say. Its output is its last step's."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.plan import Node, Plan
from workflows.engine.scopes.opening import Opening, handed_on
from workflows.engine.slice import StepView


def opening(node: Node, names: Mapping[str, Any]) -> Opening:  # noqa: ARG001 - the shape of every scope
    """Bring all steps into being; those that need none begin."""
    return Opening(born=node.children)


def output(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> Any:
    """Return the output of the last step in document order, None if it was not done."""
    node = plan.nodes[view.node]
    return handed_on(plan, node.children[-1], view, records) if node.children else None
