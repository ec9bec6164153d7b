"""Values that the engine itself makes of expressions, refused when they are too large."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.events import StepError
from workflows.engine.plan import NO_NODE, Node, Plan, Reads
from workflows.language import expressions
from workflows.language.expressions import ExpressionError
from workflows.language.limits import too_large
from workflows.language.words import ErrorClass


class ValueTooLargeError(ValueError):
    """A value has more bytes than are kept."""


class ItemsError(ValueError):
    """What a loop is to go through is nothing that it can go through."""


NO_VALUE = (ExpressionError, ValueTooLargeError, ItemsError)
"""Why there may be no value."""


def rendered(name: str, template: Any, names: Mapping[str, Any]) -> Any:
    """Return the value of a template; `name` is what a refusal calls it.

    Raises ExpressionError and ValueTooLargeError.
    """
    value = expressions.render(template, names)
    if reason := too_large(name, value):
        raise ValueTooLargeError(reason)
    return value


CODES: Mapping[type[Exception], str] = {
    ExpressionError: "expression.error",
    ValueTooLargeError: "value.too_large",
    ItemsError: "foreach.items",
}


def refusal(error: ExpressionError | ValueTooLargeError | ItemsError) -> StepError:
    """Return why there is no value, as the error of a step or a run."""
    return StepError(ErrorClass.PERMANENT, CODES[type(error)], str(error))


def reads_of(plan: Plan, node: Node, arguments: Mapping[str, Any]) -> Reads:
    """Return what corrected arguments name; of steps, those that the definition has."""
    found = expressions.references(arguments)
    steps = found.steps & plan.by_id.keys()
    if "error" in found.roots and node.caught != NO_NODE:
        steps |= {plan.nodes[node.caught].id}
    return Reads(found.roots, steps)
