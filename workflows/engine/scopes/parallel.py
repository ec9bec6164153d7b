"""Parallel: branches that begin together. Its output maps each branch to that branch's."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.plan import Node, Plan
from workflows.engine.scopes.opening import Opening, handed_on
from workflows.engine.slice import StepView


def opening(node: Node, names: Mapping[str, Any]) -> Opening:  # noqa: ARG001 - the shape of every scope
    """Bring all branches into being."""
    return Opening(born=node.children)


def output(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> Any:
    """Return the branches' outputs by branch, None for a branch that was not done."""
    node = plan.nodes[view.node]
    return {plan.nodes[child].id: handed_on(plan, child, view, records) for child in node.children}
