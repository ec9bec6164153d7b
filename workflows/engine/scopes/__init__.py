"""Scopes: the closed set of steps that own steps, one module each.

A scope says which of its steps come into being when it begins, which of them are
not to be done, and what its output is made of.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from workflows.engine.plan import Node, Plan
from workflows.engine.scopes import first, graph, parallel, switch
from workflows.engine.scopes.opening import Opening
from workflows.engine.slice import StepView
from workflows.language.words import StepKind


class Kind(Protocol):
    """What the module of a kind of scope offers."""

    def opening(self, node: Node, names: Mapping[str, Any]) -> Opening | None:
        """Return how the scope begins, or None when it has nothing to do."""

    def output(
        self, plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]
    ) -> Any:
        """Return what the scope hands on."""


KINDS: Mapping[StepKind, Kind] = {
    StepKind.STEPS: graph,
    StepKind.PARALLEL: parallel,
    StepKind.FIRST: first,
    StepKind.SWITCH: switch,
}


def opening(node: Node, names: Mapping[str, Any]) -> Opening | None:
    """Return how the scope begins, or None when it has nothing to do.

    Raises ExpressionError when a condition cannot be evaluated.
    """
    return KINDS[node.kind].opening(node, names)


def output(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> Any:
    """Return what the scope hands on when all its steps have ended."""
    return KINDS[plan.nodes[view.node].kind].output(plan, view, records)


def is_won(plan: Plan, view: StepView, records: Mapping[str, Mapping[str, Any] | None]) -> bool:
    """Say whether it is a race, and a branch has won it."""
    is_race = plan.nodes[view.node].kind is StepKind.FIRST
    return is_race and first.output(plan, view, records) is not None


__all__ = ["KINDS", "Opening", "is_won", "opening", "output"]
