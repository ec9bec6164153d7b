"""First: branches that race. Its output names the one that won, and holds what that handed on."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.plan import Node, Plan
from workflows.engine.scopes.opening import Opening
from workflows.engine.slice import StepView
from workflows.engine.states import StepState


def opening(node: Node, names: Mapping[str, Any]) -> Opening:  # noqa: ARG001 - the shape of every scope
    """Bring all branches into being."""
    return Opening(born=node.children)


def output(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> Any:
    """Return the winner and its output; None when no branch has ended well."""
    for child in plan.nodes[view.node].children:
        record = records.get(plan.path(child, view.path))
        if record is not None and record["state"] == StepState.COMPLETED:
            return {"winner": plan.nodes[child].id, "output": record["output"]}
    return None
