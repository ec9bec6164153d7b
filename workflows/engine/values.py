"""Values that the engine itself makes of expressions, refused when they are too large."""

from collections.abc import Mapping
from typing import Any

from workflows.engine.events import StepError
from workflows.language import expressions
from workflows.language.expressions import ExpressionError
from workflows.language.limits import too_large
from workflows.language.words import ErrorClass


class ValueTooLargeError(ValueError):
    """A value has more bytes than are kept."""


NO_VALUE = (ExpressionError, ValueTooLargeError)
"""Why there may be no value."""


def rendered(name: str, template: Any, names: Mapping[str, Any]) -> Any:
    """Return the value of a template; `name` is what a refusal calls it.

    Raises ExpressionError and ValueTooLargeError.
    """
    value = expressions.render(template, names)
    if reason := too_large(name, value):
        raise ValueTooLargeError(reason)
    return value


def refusal(error: ExpressionError | ValueTooLargeError) -> StepError:
    """Return why there is no value, as the error of a step or a run."""
    code = "expression.error" if isinstance(error, ExpressionError) else "value.too_large"
    return StepError(ErrorClass.PERMANENT, code, str(error))
