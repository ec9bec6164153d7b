"""The published schema: editors may rely on it."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.language.builders import document
from workflows.language.document import Report
from workflows.language.reader import parse
from workflows.language.schema import json_schema
from workflows.language.spec import KIND_KEYS

SCHEMA = json_schema()
EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text()


def value_of(text: str) -> Any:
    read = parse(text, Report("w.yaml"))
    assert read is not None
    return read.root.value


def test_it_is_a_schema_and_everything_fits_it() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    assert not list(Draft202012Validator(SCHEMA).iter_errors(value_of(EVERYTHING)))


@pytest.mark.parametrize(
    "steps",
    ["[{id: a}]", "[{id: a, uses: x, exit: {}}]", "[{id: a, foreach: [1]}]", "[{uses: x}]", "[]",
     "[{id: a, uses: x, join: {at_least: 0}}]", "[{id: a, uses: x, tiemout: 3s}]",
     "[{id: a, uses: x, timeout: soon}]", "[{id: a, uses: x, when: maybe}]"],
)  # fmt: skip
def test_what_an_editor_can_see_is_refused(steps: str) -> None:
    assert list(Draft202012Validator(SCHEMA).iter_errors(value_of(document(steps))))


def test_every_key_of_a_step_is_described() -> None:
    properties = SCHEMA["$defs"]["StepSpec"]["properties"]

    assert not [key for key, value in properties.items() if not value.get("description")]
    assert properties.keys() >= KIND_KEYS.keys()
