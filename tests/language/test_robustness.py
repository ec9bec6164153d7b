"""Whatever it is given, loading ends with a Spec or with findings, and soon."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.language.builders import Catalog
from tests.language.test_loader import EVERYTHING
from workflows.language.expressions import ExpressionError, render
from workflows.language.findings import DefinitionError
from workflows.language.loader import load
from workflows.language.spec import KIND_KEYS, Spec, StepSpec

KEYS = sorted(
    {info.alias or name for name, info in StepSpec.model_fields.items()} | {*"ab", "on", "else"}
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["a", "b", "${{ steps.a.output }}", "${{ item", "1s", "noop", "fetch", "$ref", "#"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
STEPS = st.lists(
    st.dictionaries(st.sampled_from(["id", "needs", *KIND_KEYS, *KEYS]), VALUES, max_size=5),
    max_size=4,
)
PIECES = st.sampled_from(["\n", "  ", "- ", ": ", "{", "}", "[", "]", "${{ ", " }}", "'", '"', "&a ", "*a ", "!!x ",
                          "|", ">", "#", "\t", "\x00", "\ud800", "\ufeff", "---", "...", "?", "%"])  # fmt: skip
CALM = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def load_or_refuse(text: str) -> None:
    try:
        spec = load(text, source="w", catalog=Catalog())
    except DefinitionError as refused:
        assert refused.findings
        assert all(one.line >= 1 and one.column >= 1 for one in refused.findings)
    else:
        assert isinstance(spec, Spec)


@CALM
@given(st.text())
def test_any_text_is_loaded_or_refused(text: str) -> None:
    load_or_refuse(text)


@CALM
@given(st.data())
def test_a_document_that_was_cut_and_pasted_is_loaded_or_refused(data: st.DataObject) -> None:
    text = EVERYTHING
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 60)))
        text = text[:start] + data.draw(st.one_of(PIECES, st.text(max_size=5))) + text[end:]

    load_or_refuse(text)


@CALM
@given(STEPS, VALUES, VALUES)
@example(
    [{"id": "a", "parallel": [{"id": "b", "needs": ["b"]}]}], {"properties": {"a": True}}, None
)
def test_any_steps_and_any_input_schema_are_loaded_or_refused(
    steps: Any, schema: Any, other: Any
) -> None:
    document = {"workflow": "w", "input": schema, "steps": steps, "retry": other, "output": other}

    load_or_refuse(json.dumps(document))


@CALM
@given(st.lists(st.sampled_from([*"()[]{}.,?:+-*/%&|!<>='\"\\ ", "a", "input", "1", "2.5", "map", "has(", "in",
                                 "steps.a", "get(", "//", "'x'", "}}", "${{"]), max_size=14))  # fmt: skip
def test_any_expression_has_a_value_or_an_error(words: list[str]) -> None:
    try:
        json.dumps(
            render("${{ " + "".join(words) + " }}", {"input": {"a": [1]}, "steps": {}, "a": "x"})
        )
    except ExpressionError as error:
        assert error.reason


def test_ten_thousand_steps_are_loaded_in_seconds() -> None:
    lines = [f"- {{id: s{n}, uses: noop, with: {{x: '${{{{ steps.s{max(n - 1, 0)}.output }}}}'}}, needs: [s{n - 1}]}}"
             for n in range(1, 9_999)]  # fmt: skip
    text = "\n".join(["workflow: w", "steps:", "- {id: s0, uses: noop}", *lines])

    began = time.process_time()
    spec = load(text, source="w", catalog=Catalog())

    assert len(spec.steps) == 9_999
    assert time.process_time() - began < 5


def test_the_language_is_pure() -> None:
    program = (
        "import sys, workflows.language.loader, workflows.language.schema, workflows.language.inputs;"
        "print([name for name in ('django', 'celery', 'kombu', 'logging.config') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert done.stdout.strip() == "[]"
