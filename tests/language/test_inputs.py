"""The input of a run: defaults are filled in, and all that does not fit is said at once."""

from typing import Any

import pytest

from workflows.language.findings import InputError
from workflows.language.inputs import prepare, problems

ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["id", "lines"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string"},
        "country": {"type": "string", "default": "DE"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "address": {"properties": {"zip": {"default": "-"}}, "default": {}},
        "when": {"type": "string", "format": "date"},
    },
    "$defs": {
        "line": {"type": "object", "properties": {"count": {"type": "integer", "default": 1}}}
    },
}


def refusals(schema: dict[str, Any], value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as refused:
        prepare(schema, value)
    return [(one.path, one.message) for one in refused.value.findings]


def test_defaults_are_filled_in_at_every_depth() -> None:
    given = {"id": "1", "lines": [{}, {"count": 5}]}

    prepared = prepare(ORDER, given)

    assert prepared == {
        "id": "1", "country": "DE", "lines": [{"count": 1}, {"count": 5}], "address": {"zip": "-"},
    }  # fmt: skip
    assert given == {"id": "1", "lines": [{}, {"count": 5}]}


def test_everything_that_does_not_fit_is_said_at_once() -> None:
    assert refusals(ORDER, {"lines": [{"count": "x"}], "contry": "FR"}) == [
        ("contry", "contry is not known"),
        ("id", "id is missing"),
        ("lines[0].count", "it is a string, and must be of type integer"),
    ]


def test_each_missing_value_is_said_once() -> None:
    assert refusals(ORDER, {}) == [("id", "id is missing"), ("lines", "lines is missing")]


def test_a_refusal_names_what_was_probably_meant() -> None:
    with pytest.raises(InputError, match="did you mean country"):
        prepare(ORDER, {"id": "1", "lines": [], "contry": "FR"})


def test_a_format_describes_and_is_not_enforced() -> None:
    assert prepare(ORDER, {"id": "1", "lines": [], "when": "soon"})["when"] == "soon"


def test_a_default_is_not_shared_between_runs() -> None:
    schema = {"type": "object", "properties": {"tags": {"default": []}}}

    prepare(schema, {})["tags"].append("mine")

    assert prepare(schema, {}) == {"tags": []}


def test_no_input_is_an_empty_object() -> None:
    assert prepare(None, None) == {}
    assert prepare({"type": "object"}, None) == {}
    assert prepare(None, {"x": 1}) == {"x": 1}


def test_an_integer_beyond_64_bits_is_refused() -> None:
    assert refusals({"type": "object"}, {"n": [2**63]}) == [
        ("n[0]", "the integer has more than 64 bits")
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"not": {"$ref": "#"}},
        {"allOf": [{"$ref": "#/allOf/0"}]},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "#/$defs/nothing"},
        {"$ref": "#/default", "default": {"$ref": "#/default"}},
        {"properties": {"a": {"$ref": "#", "default": {}}}},
    ],
)
def test_a_schema_without_an_end_or_a_target_refuses_and_fetches_nothing(schema: Any) -> None:
    assert len(refusals(schema, {})) == 1
    assert len(list(problems(schema))) == 1


def test_a_property_may_be_called_like_a_keyword() -> None:
    names = {name: {"$ref": "#", "default": 1} for name in ("not", "allOf", "properties", "$ref")}

    found = list(problems({"$defs": {"if": {}}, "properties": {"not": {"properties": names}}}))

    assert {one.rule for one in found} <= {"input-default"}


def test_a_schema_may_contain_itself() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "name": {"type": "string", "default": "-"}}}

    assert not list(problems(tree))
    assert prepare(tree, {"left": {}}) == {"left": {"name": "-"}, "name": "-"}


def test_an_input_of_endless_depth_is_refused() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"left": deep}

    assert refusals({"properties": {"left": {"$ref": "#"}}}, deep) == [
        ("left.left.left", "values are nested more than 50 deep")
    ]
