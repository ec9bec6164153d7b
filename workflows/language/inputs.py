"""The input of a run: its schema, its defaults, and whether a value fits.

JSON Schema 2020-12; `format` describes and is not enforced. References stay
inside the schema: nothing is ever fetched. Defaults are filled in under
`properties` and `items`, also where these are reached by `$ref`, before the value
is checked.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from workflows.language.expressions import kind_of
from workflows.language.findings import Finding, InputError
from workflows.language.nearest import did_you_mean

Way: TypeAlias = tuple[str | int, ...]

_SHOWN = 300
_DEEPEST = 50
_LARGEST_INTEGER = 2**63 - 1
_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "dependentSchemas")
_META = Draft202012Validator(
    Draft202012Validator.META_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER
)


class SchemaProblem(NamedTuple):
    """What is wrong with a schema at `way`."""

    way: Way
    rule: str
    message: str
    hint: str


def prepare(schema: Mapping[str, Any] | None, value: Any) -> Any:
    """Return `value` with the defaults of `schema`; `InputError` lists all that does not fit.

    No value at all is an empty object; no schema lets any object through. The
    value given is left as it was.
    """
    given = {} if value is None else value
    rules = dict(schema) if schema is not None else {"type": "object"}
    try:
        filled = _fill(rules, copy.deepcopy(given), _root(rules), 0)
        errors = [*_errors(rules, filled), *_large_numbers(filled)]
    except (RecursionError, Unresolvable):
        errors = [
            (
                "",
                "the schema refers to what it does not have, or to itself without end",
                "correct the input schema of the workflow",
            )
        ]
    if errors:
        raise InputError(
            Finding("input", 0, 0, "input", path, message, hint)
            for path, message, hint in sorted(errors)
        )
    return filled


def problems(schema: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    """Yield what is wrong with a schema: its form, its references, its defaults."""
    broken = False
    for error in _META.iter_errors(schema):
        broken = True
        yield SchemaProblem(
            tuple(error.absolute_path),
            "input-schema",
            f"this is no JSON Schema: {plain_message(error)}",
            "see JSON Schema 2020-12 for what may stand here",
        )
    if broken:
        return
    if schema.get("type", "object") != "object":
        yield SchemaProblem(
            ("type",),
            "input-not-an-object",
            "the input of a workflow is an object",
            "write type: object, and put the value into a property",
        )
    root = _root(schema)
    for way, part in subschemas(schema):
        reference = part.get("$ref")
        if isinstance(reference, str) and not _resolves(root, reference):
            broken = True
            yield SchemaProblem(
                (*way, "$ref"),
                "input-schema-reference",
                f"{reference[:100]} leads nowhere in this schema",
                "refer to a part of this schema: #/$defs/name",
            )
    if not broken:
        yield from _default_problems(schema, root)


def plain_message(error: ValidationError) -> str:
    """Say what is wrong with a value, without repeating a long one."""
    if error.validator == "type":
        wanted = error.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"it is {kind_of(error.instance)}, and must be of type {wanted}"
    if error.validator in {"anyOf", "oneOf"}:
        return f"{kind_of(error.instance)} like this is none of the allowed forms"
    return error.message if len(error.message) <= _SHOWN else f"{error.message[:_SHOWN]}..."


def path_of(way: Way) -> str:
    """Return the way as people write it: `lines[2].sku`."""
    written = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in way)
    return "".join(written).removeprefix(".")


def subschemas(schema: Any, way: Way = ()) -> Iterator[tuple[Way, Mapping[str, Any]]]:
    """Yield the schema and every schema in it, each with the way to it."""
    if not isinstance(schema, Mapping):
        return
    yield way, schema
    for key in _ONE:
        yield from subschemas(schema.get(key), (*way, key))
    for key in _MANY:
        for index, part in enumerate(schema.get(key, ())):
            yield from subschemas(part, (*way, key, index))
    for key in _NAMED:
        for name, part in schema.get(key, {}).items():
            yield from subschemas(part, (*way, key, name))


def _default_problems(schema: Mapping[str, Any], root: Any) -> Iterator[SchemaProblem]:
    validator = Draft202012Validator(schema, registry=Registry())
    try:
        _fill(schema, {}, root, 0)
        for way, part in subschemas(schema):
            if "default" not in part:
                continue
            filled = _fill(part, copy.deepcopy(part["default"]), root, 0)
            for error in validator.evolve(schema=part).iter_errors(filled):
                yield SchemaProblem(
                    (*way, "default"),
                    "input-default",
                    f"the default breaks its own schema: {plain_message(error)}",
                    "change the default or the schema",
                )
        list(validator.iter_errors({}))
    except (RecursionError, Unresolvable):
        yield SchemaProblem(
            (),
            "input-schema-endless",
            "the schema refers to itself without end",
            "take the reference or the default out of the circle",
        )


def _errors(schema: Mapping[str, Any], value: Any) -> Iterator[tuple[str, str, str]]:
    for error in Draft202012Validator(schema, registry=Registry()).iter_errors(value):
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


def _large_numbers(value: Any, way: Way = ()) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INTEGER:
        yield path_of(way), "the integer has more than 64 bits", "give it as text"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _large_numbers(item, (*way, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _large_numbers(item, (*way, index))


def _root(schema: Mapping[str, Any]) -> Any:
    resource = DRAFT202012.create_resource(dict(schema))
    return Registry().with_resource("", resource).resolver()


def _resolves(root: Any, reference: str) -> bool:
    try:
        root.lookup(reference)
    except Unresolvable:
        return False
    return True


def _fill(schema: Any, value: Any, root: Any, depth: int) -> Any:
    """Put the defaults into `value`, in place; `RecursionError` if they have no end."""
    if depth > _DEEPEST:
        raise RecursionError
    if not isinstance(schema, Mapping):
        return value
    if isinstance(schema.get("$ref"), str):
        value = _fill(root.lookup(schema["$ref"]).contents, value, root, depth + 1)
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and isinstance(part, Mapping) and "default" in part:
                value[name] = copy.deepcopy(part["default"])
            if name in value:
                value[name] = _fill(part, value[name], root, depth + 1)
    elif isinstance(value, list):
        items = schema.get("items")
        for index, item in enumerate(value):
            value[index] = _fill(items, item, root, depth + 1)
    return value
