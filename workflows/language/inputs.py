"""The input of a run: its schema, its defaults, and whether a value fits.

JSON Schema 2020-12; `format` describes and is not enforced. Defaults are filled
in under `properties` and `items`, also where these are reached by `$ref`, before
the value is checked.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from workflows.language.findings import Finding, InputError
from workflows.language.json_schemas import (
    EndlessError,
    SchemaProblem,
    Way,
    fill,
    form_problems,
    path_of,
    plain_message,
    reference_problems,
    resolver,
    subschemas,
    validator,
)
from workflows.language.nearest import did_you_mean

DEEPEST = 50
_LARGEST_INTEGER = 2**63 - 1
_Refusal = tuple[str, str, str]


def prepare(schema: Mapping[str, Any] | None, value: Any) -> Any:
    """Return `value` with the defaults of `schema`; `InputError` lists all that does not fit.

    No value at all is an empty object; no schema lets any object through. The
    value given is left as it was.
    """
    given = {} if value is None else value
    rules = {"type": "object"} if schema is None else schema
    refusals = list(_unusable(given))
    if not refusals:
        refusals = [(path_of(one.way), one.message, one.hint) for one in reference_problems(rules)]
    if not refusals:
        filled = copy.deepcopy(given)
        try:
            filled = fill(rules, filled, resolver(rules))
        except EndlessError:
            refusals = [("", *_ENDLESS)]
        refusals = refusals or list(_errors(rules, filled))
    if refusals:
        raise InputError(
            Finding("input", 0, 0, "input", path, message, hint)
            for path, message, hint in sorted(set(refusals))
        )
    return filled


def problems(schema: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    """Yield what is wrong with a schema: its form, its references, its defaults."""
    found = list(form_problems(schema)) or list(reference_problems(schema))
    yield from found
    if any(one.rule == "input-schema" for one in found):
        return
    if schema.get("type", "object") != "object":
        yield SchemaProblem(
            ("type",),
            "input-not-an-object",
            "the input of a workflow is an object",
            "write type: object, and put the value into a property",
        )
    if not found:
        yield from _default_problems(schema)


_ENDLESS = (
    "the defaults make more defaults without end",
    "take the default out of the circle",
)


def _default_problems(schema: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    root, whole = resolver(schema), validator(schema)
    try:
        fill(schema, {}, root)
        for way, part in subschemas(schema):
            if "default" not in part:
                continue
            filled = fill(part, copy.deepcopy(part["default"]), root)
            for error in whole.evolve(schema=part).iter_errors(filled):
                yield SchemaProblem(
                    (*way, "default"),
                    "input-default",
                    f"the default breaks its own schema: {plain_message(error)}",
                    "change the default or the schema",
                )
    except EndlessError:
        yield SchemaProblem((), "input-default-endless", *_ENDLESS)


def _errors(schema: Mapping[str, Any], value: Any) -> Iterator[_Refusal]:
    for error in validator(schema).iter_errors(value):
        path = path_of(tuple(error.absolute_path))
        if error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            for name in missing:
                yield f"{path}.{name}".removeprefix("."), f"{name} is missing", f"give {name}"
        elif error.validator == "additionalProperties" and error.validator_value is False:
            known = error.schema.get("properties", {}).keys()
            for name in (name for name in error.instance if name not in known):
                yield (
                    f"{path}.{name}".removeprefix("."),
                    f"{name} is not known",
                    did_you_mean(name, known, "properties"),
                )
        else:
            hint = error.schema.get("description") if isinstance(error.schema, Mapping) else None
            yield path, plain_message(error), str(hint or "give a value that fits the schema")


def _unusable(value: Any, way: Way = ()) -> Iterator[_Refusal]:
    """Yield what no input may hold: endless depth, and integers that CEL cannot hold."""
    if len(way) > DEEPEST:
        yield path_of(way[:3]), f"values are nested more than {DEEPEST} deep", "flatten the input"
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INTEGER:
        yield path_of(way), "the integer has more than 64 bits", "give it as text"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unusable(item, (*way, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unusable(item, (*way, index))
