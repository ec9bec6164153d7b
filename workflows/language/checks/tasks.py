"""Are the task types known, and are their parameters what they ask for?"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from workflows.language import syntax
from workflows.language.catalog import TaskCatalog
from workflows.language.document import Node
from workflows.language.fields import NAME
from workflows.language.json_schemas import path_of, plain_message
from workflows.language.nearest import did_you_mean
from workflows.language.outline import Outline
from workflows.language.words import StepKind

_NAME = re.compile(NAME)
_STRUCTURAL = frozenset(
    {
        "type",
        "required",
        "additionalProperties",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "propertyNames",
        "dependentRequired",
    }
)


def check(outline: Outline) -> None:
    """Report unknown task types, and parameters that the task would refuse."""
    if outline.catalog is None:
        return
    known = frozenset(outline.catalog.names())
    checkers: dict[str, _Parameters] = {}
    for holder, path in _calls(outline):
        uses = holder.get("uses")
        if uses is None or not isinstance(uses.value, str) or not _NAME.match(uses.value):
            continue
        if uses.value not in known:
            outline.report.add(
                "unknown-task",
                uses,
                f"{path}.uses",
                f"there is no task type {uses.value[:60]}",
                did_you_mean(uses.value, known, "task types"),
            )
            continue
        if uses.value not in checkers:
            checkers[uses.value] = _Parameters(outline.catalog, uses.value)
        checkers[uses.value].check(outline, holder, path)


def _calls(outline: Outline) -> Iterator[tuple[Node, str]]:
    for step in outline.steps:
        if step.kind is StepKind.TASK:
            yield step.node, step.path
        undo = step.node.get("compensate")
        if undo is not None:
            yield undo, f"{step.path}.compensate"


class _Parameters:
    """The parameters of one task type."""

    def __init__(self, catalog: TaskCatalog, name: str) -> None:
        schema = catalog.parameters(name)
        properties = schema.get("properties", {})
        self.name = name
        self.known: frozenset[str] = frozenset(properties)
        self.required: tuple[str, ...] = tuple(schema.get("required", ()))
        self.is_closed = schema.get("additionalProperties") is False
        inner = {key: value for key, value in schema.items() if key != "required"}
        if self.is_closed:
            inner.pop("additionalProperties")
        self.validator = Draft202012Validator(inner, registry=Registry())

    def check(self, outline: Outline, holder: Node, path: str) -> None:
        """Report what is wrong with the `with` of a step or a compensation."""
        node = holder.get("with")
        given: Mapping[str, Any] = node.value if node is not None and node.fields else {}
        place = holder.key_place("with") if node is not None else holder.key_place("uses")
        for name in self.required:
            if name not in given:
                outline.report.add(
                    "missing-parameter",
                    place,
                    f"{path}.with",
                    f"{self.name} needs the parameter {name}",
                    f"add {name} to with",
                )
        if node is None or node.fields is None:
            return
        if self.is_closed:
            for name in given.keys() - self.known:
                outline.report.add(
                    "unknown-parameter",
                    node.key_place(name),
                    f"{path}.with.{name}",
                    f"{self.name} has no parameter {name}",
                    did_you_mean(name, self.known, "parameters"),
                )
        for error in self._errors(dict(given)):
            way = tuple(error.absolute_path)
            outline.report.add(
                "parameter",
                node.inside(way),
                f"{path}.with.{path_of(way)}",
                f"{self.name} does not take this: {plain_message(error)}",
                "see the parameters of the task type",
            )

    def _errors(self, given: dict[str, Any]) -> Iterator[ValidationError]:
        try:
            for error in self.validator.iter_errors(given):
                if not _depends_on_expression(error):
                    yield error
        except (SchemaError, Unresolvable, RecursionError):
            return


def _depends_on_expression(error: ValidationError) -> bool:
    """Tell whether the value is known only when the step runs, so that it may yet be right."""
    value = error.instance
    if isinstance(value, str):
        if syntax.OPEN not in value:
            return False
        return syntax.template(value).single is not None or error.validator != "type"
    return error.validator not in _STRUCTURAL and _has_expression(value)


def _has_expression(value: Any) -> bool:
    if isinstance(value, str):
        return syntax.OPEN in value
    if isinstance(value, dict):
        return any(map(_has_expression, value.values()))
    return isinstance(value, list) and any(map(_has_expression, value))
