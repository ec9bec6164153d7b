"""JSON Schema 2020-12 as the language uses it: references stay inside, and all of it ends.

Nothing is ever fetched. A schema that applies itself to the same value again is
found by looking at it, for the validator would only notice by exhausting the
stack, and its compiled part does not survive that.
"""

import copy
import re
import warnings
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from workflows.language.expressions import kind_of

Way: TypeAlias = tuple[str | int, ...]

_SHOWN = 300
_DEEPEST_DEFAULT = 50
_ONE = (
    "items",
    "additionalProperties",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
)
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "dependentSchemas")
_SAME_VALUE = frozenset(
    {"not", "if", "then", "else", "allOf", "anyOf", "oneOf", "dependentSchemas"}
)
_REFERENCES = ("$ref", "$dynamicRef")
_META = Draft202012Validator(Draft202012Validator.META_SCHEMA)


class EndlessError(ValueError):
    """The defaults of a schema make more defaults without end."""


class SchemaProblem(NamedTuple):
    """What is wrong with a schema at `way`."""

    way: Way
    rule: str
    message: str
    hint: str


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return a validator that fetches nothing and enforces no `format`."""
    return Draft202012Validator(schema, registry=Registry())


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


def form_problems(schema: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    """Yield what makes this no JSON Schema."""
    broken = False
    for error in _META.iter_errors(schema):
        broken = True
        yield _malformed(tuple(error.absolute_path), plain_message(error))
    for way, part in () if broken else subschemas(schema):
        patterns = [((*way, "pattern"), part["pattern"])] if "pattern" in part else []
        named = part.get("patternProperties", {})
        for where, pattern in [*patterns, *(((*way, "patternProperties", n), n) for n in named)]:
            if (reason := _pattern_problem(pattern)) is not None:
                yield _malformed(where, f"the pattern does not compile: {reason}")


def reference_problems(schema: Mapping[str, Any]) -> Iterator[SchemaProblem]:
    """Yield the references of a well-formed schema that lead nowhere, or in a circle."""
    parts = list(subschemas(schema))
    found = {way: id(part) for way, part in parts}
    follows: dict[int, list[int]] = {here: [] for here in found.values()}
    root, is_sound = resolver(schema), True
    for way, part in parts:
        if way and "$id" in part:
            is_sound = False
            yield _nowhere((*way, "$id"), "an $id inside a schema")
        for key in (key for key in _REFERENCES if isinstance(part.get(key), str)):
            target = _target(root, part[key])
            if id(target) in follows:
                follows[id(part)].append(id(target))
            elif not isinstance(target, bool):
                is_sound = False
                yield _nowhere((*way, key), part[key][:100])
        for cut in (1, 2):
            if way[:-cut] in found and _applies_in_place(way, cut):
                follows[found[way[:-cut]]].append(id(part))
    try:
        TopologicalSorter(follows).prepare()
    except CycleError as error:
        if is_sound:
            circle = [way for way, here in found.items() if here in error.args[1]]
            yield SchemaProblem(
                min(circle, key=len),
                "input-schema-endless",
                "the schema applies itself to the same value without end",
                "take the reference out of the circle",
            )


def resolver(schema: Mapping[str, Any]) -> Any:
    """Return what looks references up in the schema, and nowhere else."""
    return Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()


def fill(schema: Any, value: Any, root: Any, depth: int = 0) -> Any:
    """Put the defaults into `value`, in place; `EndlessError` if they have no end."""
    if depth > _DEEPEST_DEFAULT:
        raise EndlessError
    if not isinstance(schema, Mapping):
        return value
    if isinstance(schema.get("$ref"), str):
        value = fill(root.lookup(schema["$ref"]).contents, value, root, depth + 1)
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and isinstance(part, Mapping) and "default" in part:
                value[name] = copy.deepcopy(part["default"])
            if name in value:
                value[name] = fill(part, value[name], root, depth + 1)
    elif isinstance(value, list):
        items = schema.get("items")
        for index, item in enumerate(value):
            value[index] = fill(items, item, root, depth + 1)
    return value


def _malformed(way: Way, reason: str) -> SchemaProblem:
    return SchemaProblem(
        way,
        "input-schema",
        f"this is no JSON Schema: {reason}",
        "see JSON Schema 2020-12 for what may stand here",
    )


def _pattern_problem(pattern: str) -> str | None:
    """Return why the pattern does not compile; one whose meaning is to change counts as well."""
    try:
        with warnings.catch_warnings(action="error"):
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"{error!s:.100}" or type(error).__name__
    return None


def _nowhere(way: Way, what: str) -> SchemaProblem:
    return SchemaProblem(
        way,
        "input-schema-reference",
        f"{what} leads nowhere in this schema",
        "refer to a part of this schema: #/$defs/name",
    )


def _target(root: Any, reference: str) -> Any:
    """Return the schema that is referred to, None if there is none."""
    if not reference.startswith("#"):
        return None
    try:
        return root.lookup(reference).contents
    except Unresolvable:
        return None


def _applies_in_place(way: Way, cut: int) -> bool:
    """Tell whether the last `cut` parts lead from a schema to one for the same value."""
    keyword = way[-cut] if len(way) >= cut else None
    return keyword in _SAME_VALUE and cut == (1 if keyword in _ONE else 2)
