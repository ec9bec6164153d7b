"""Whatever it is given, loading ends with a Spec or with findings, and soon."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.language.builders import Catalog
from tests.language.strategies import EXPRESSIONS, PIECES, SCHEMAS, STEPS, VALUES
from workflows.language.expressions import ExpressionError, render
from workflows.language.findings import InputError
from workflows.language.inputs import prepare, problems
from workflows.language.loader import check

EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text()
ROOT = Path(__file__).parents[2]
CALM = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_loaded_or_refused(text: str) -> bool:
    """Tell whether there is a Spec or a finding, and every finding has its place."""
    spec, found = check(text, source="w", catalog=Catalog())
    return bool(found or spec) and all(one.line >= 1 and one.column >= 1 for one in found)


@CALM
@given(st.text())
def test_any_text_is_loaded_or_refused(text: str) -> None:
    assert is_loaded_or_refused(text)


@CALM
@given(st.data())
def test_a_document_that_was_cut_and_pasted_is_loaded_or_refused(data: st.DataObject) -> None:
    text = EVERYTHING
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 60)))
        text = text[:start] + data.draw(st.one_of(PIECES, st.text(max_size=5))) + text[end:]

    assert is_loaded_or_refused(text)


@CALM
@given(STEPS, VALUES)
@example([{"id": None, "join": []}], None)
@example([{"id": "a", "parallel": [{"id": "b", "needs": ["b"]}]}], None)
def test_any_steps_are_loaded_or_refused(steps: Any, other: Any) -> None:
    document = {"workflow": "w", "steps": steps, "retry": other, "output": other}

    assert is_loaded_or_refused(json.dumps(document))


@CALM
@given(st.one_of(SCHEMAS, VALUES))
@example({"$dynamicRef": "#nowhere"})
@example({"$id": "http://x/", "properties": {"a": {"$ref": "y"}}})
@example({"properties": {"a": True}})
@example({"pattern": "[a--b]"})
@example({"patternProperties": {"(" * 999: {}}})
@example({"pattern": "a{99999999999}"})
def test_any_input_schema_is_loaded_or_refused(schema: Any) -> None:
    document = {"workflow": "w", "input": schema, "steps": [{"id": "a", "uses": "noop"}]}

    assert is_loaded_or_refused(json.dumps(document))


@CALM
@given(SCHEMAS, VALUES)
@example({"allOf": [{"$ref": "#/allOf/0"}]}, {})
def test_a_good_input_schema_takes_or_refuses_any_input(schema: Any, value: Any) -> None:
    if any(problems(schema)):
        return

    with contextlib.suppress(InputError):
        prepare(schema, value)


@CALM
@given(EXPRESSIONS)
def test_any_expression_has_a_value_or_an_error(expression: str) -> None:
    names = {"input": {"a": [1]}, "steps": {}, "a": "x"}

    with contextlib.suppress(ExpressionError):
        json.dumps(render(f"${{{{ {expression} }}}}", names), allow_nan=False)


def test_ten_thousand_steps_are_loaded_in_seconds() -> None:
    step = "- {{id: s{0}, uses: noop, needs: [s{1}], with: {{x: '${{{{ steps.s{1}.output }}}}'}}}}"
    lines = [step.format(number, number - 1) for number in range(1, 10_000)]
    text = "\n".join(["workflow: w", "steps:", "- {id: s0, uses: noop}", *lines])

    began = time.process_time()
    _, found = check(text, source="w", catalog=Catalog())

    assert not found
    assert time.process_time() - began < 5


def test_the_language_is_pure() -> None:
    modules = ("loader", "schema", "inputs", "expressions")
    program = (
        f"import sys\nfrom workflows.language import {', '.join(modules)}\nprint(*sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )

    loaded = set(done.stdout.split())
    assert "workflows.language.loader" in loaded
    assert loaded.isdisjoint({"django", "celery", "kombu"})
