"""Expressions: types are kept, missing values are errors, and nothing is handed over unread."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from workflows.language.expressions import (
    ExpressionError,
    evaluate,
    problems,
    references,
    render,
    truth,
)

NAMES: Mapping[str, Any] = {
    "input": {
        "n": 3,
        "ratio": 1.5,
        "name": "é",
        "lines": [{"sku": "a"}, {"sku": "b"}],
        "none": None,
    },
    "steps": {"fetch": {"output": {"id": 7}, "state": "COMPLETED"}},
    "env": {"url": "http://erp"},
    "secrets": {"token": "hush-hush"},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain", "plain"),
        ("${{ input.n }}", 3),
        ("${{input.n + 1}}", 4),
        ("${{ input.ratio * 2.0 }}", 3.0),
        ("${{ double(input.n) * 1.5 }}", 4.5),
        ("${{ input.n > 2 }}", True),
        ("${{ input.none }}", None),
        ("${{ input.lines }}", [{"sku": "a"}, {"sku": "b"}]),
        ("${{ input.lines[1].sku }}", "b"),
        ("${{ input['lines'][0][\"sku\"] }}", "a"),
        ("${{ input.lines.map(line, line.sku) }}", ["a", "b"]),
        ("${{ input.lines.exists(input, input.sku == 'b') }}", True),
        ("${{ {'a': {'b': input.n}}}}", {"a": {"b": 3}}),
        ("${{ {1: 'x', 2: 'y'} }}", {"1": "x", "2": "y"}),
        ("${{ {true: 'y'} }}", {"true": "y"}),
        ("${{ '}}' }}", "}}"),
        ("${{ '${{' }} is kept", "${{ is kept"),
        ("${{ input.n }}\n", 3),
        ("${{ env.url }}/${{ steps.fetch.output.id }}", "http://erp/7"),
        ("${{ input.name }}${{ input.none }}", "énull"),
        ("have ${{ input.lines }}", 'have [{"sku":"a"},{"sku":"b"}]'),
        ("${{ has(input.nope) ? input.nope : 9 }}", 9),
        ("${{ get(input, 'nope', 9) }}", 9),
        ("${{ get(input, ['lines', 1, 'sku'], '-') }}", "b"),
        ("${{ get(steps.fetch.output, ['id', 'x'], '-') }}", "-"),
        ("${{ math.greatest(input.n, 5) }}", 5),
        ("${{ 'A-B'.lowerAscii().split('-') }}", ["a", "b"]),
        ("${{ timestamp('2024-02-28T23:00:00Z') + duration('1h') }}", "2024-02-29T00:00:00Z"),
        ("${{ duration('90s') }}", "90s"),
        ("${{ duration('1500000.5s') }}", "1500000.5s"),
        ("${{ b'abc' }}", "YWJj"),
        ("${{ optional.none().orValue(4) }}", 4),
    ],
)  # fmt: skip
def test_a_template_has_the_value_of_its_expressions(template: str, value: Any) -> None:
    rendered = render(template, NAMES)

    assert rendered == value
    assert type(rendered) is type(value)


def test_everything_inside_a_value_is_rendered_and_the_value_is_left_alone() -> None:
    value = {"a": ["${{ input.n }}", 1, None], "b": {"${{ key }}": "${{ env.url }}"}}

    rendered = render(value, NAMES)

    assert rendered == {"a": [3, 1, None], "b": {"${{ key }}": "http://erp"}}
    assert value["a"] == ["${{ input.n }}", 1, None]


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("input.nmae", "input has no nmae; did you mean name?"),
        ("input.nmae + 'x'", "input has no nmae; did you mean name?"),
        ("steps.gone.output", "steps has no gone"),
        ("input.lines[7].sku", "input.lines has 2 items, so there is no item 7"),
        ("input.n.x", "input.n is a number, so there is no x in it"),
        ("nobody", "the name nobody is not known here"),
        ("input.n + 1.5", "the types do not go together"),
        ("1 / 0", "division by zero"),
        ("0.0 / 0.0", "which JSON does not have"),
        ("optional.none()", "the optional holds no value"),
        ("input.?n", "the optional syntax"),
        ("1 +", "does not parse"),
        ("launch()", "there is no function launch"),
    ],
)
def test_what_has_no_value_says_which_expression_and_why(expression: str, reason: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        render(f"${{{{ {expression} }}}}", NAMES)

    assert failed.value.expression == expression
    assert reason in failed.value.reason


@pytest.mark.parametrize("call", ["int", "timestamp", "bool", "duration", "secrets.token.x + "])
def test_a_secret_is_not_quoted_by_the_error_about_it(call: str) -> None:
    with pytest.raises(ExpressionError) as failed:
        evaluate(f"{call}(secrets.token)", NAMES)

    assert "hush" not in str(failed.value)


def test_a_condition_is_true_or_false_and_nothing_else() -> None:
    assert truth("${{ input.n == 3 }}\n", NAMES)
    assert not truth(False, NAMES)
    with pytest.raises(ExpressionError, match="gives a number, and must be true or false"):
        truth("${{ input.n }}", NAMES)


def test_a_bare_expression_is_evaluated_too() -> None:
    assert evaluate("input.n + 1", NAMES) == 4
    assert evaluate("${{ input.n + 1 }}", NAMES) == 4


def test_references_are_found_anywhere_in_a_value() -> None:
    value = {
        "a": ["${{ steps.x.output + steps['y'].output }}"],
        "b": "${{ input.l.map(env, env.z) }}",
    }

    found = references(value)

    assert found.steps == {"x", "y"}
    assert found.roots == {"steps", "input"}


class Watched(dict[str, Any]):
    """A mapping that tells what was read from it, and cannot be read as a whole."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.seen: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        raise AssertionError

    def items(self) -> Any:
        raise AssertionError


def test_only_the_steps_that_an_expression_reads_are_touched() -> None:
    steps = Watched({"a": {"output": 1}, "b": {"output": 2}, "huge": {"output": 3}})

    value = render("${{ steps.a.output + steps.b.output }}", {"steps": steps})

    assert value == 3
    assert steps.seen == {"a", "b"}


def test_a_large_number_stays_itself() -> None:
    assert render("${{ input.n }}", {"input": {"n": 2**53 + 1}}) == 2**53 + 1
    assert render("${{ input.n + 0 }}", {"input": {"n": 2**53 + 1}}) == 2**53 + 1


@pytest.mark.parametrize("text", ["1+" * 100_000 + "1", "(" * 100_000, "a." * 100_000 + "b"])
def test_no_expression_overflows_the_stack(text: str) -> None:
    assert problems(f"${{{{ {text} }}}}")


def test_a_problem_knows_its_offset() -> None:
    (problem,) = problems("é ${{ input.n }} then ${{ siez(input.n) }}")

    assert (problem.rule, problem.offset) == ("unknown-function", 26)
    assert problem.hint == "did you mean size?"


def test_the_optional_syntax_is_answered_with_the_way_to_ask() -> None:
    (problem,) = problems("${{ input[?'x'] }}")

    assert problem.rule == "optional-syntax"
    assert "get(container, 'key', default)" in problem.hint
