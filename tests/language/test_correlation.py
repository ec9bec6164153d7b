"""What can be told of a match ahead: the field of an event that must equal what is known."""

import pytest

from workflows.language.correlation import LONGEST, equality, field_of, key, key_in, least_with


@pytest.mark.parametrize(
    ("match", "field", "known"),
    [
        ("event.data.order == input.order", ("data", "order"), "input.order"),
        ("input.order == event.data['or der']", ("data", "or der"), "input.order"),
        ("event.subject == 'A-' + string(input.n)", ("subject",), "'A-' + string(input.n)"),
        ("event.data.a == 'x' && event.data.b == vars.b", ("data", "b"), "vars.b"),
        ("event.data.a == 'x' && event.data.n > 3", ("data", "a"), "'x'"),
        ("has(event.data.a) && event.data.a == input.a", ("data", "a"), "input.a"),
    ],
)
def test_an_equality_that_must_hold_is_found(
    match: str, field: tuple[str, ...], known: str
) -> None:
    found = equality(f"${{{{ {match} }}}}")

    assert found is not None
    assert (found.field, found.known) == (field, known)


@pytest.mark.parametrize(
    "match",
    [
        "event.data.a == input.a || input.all",
        "input.all ? true : event.data.a == input.a",
        "!(event.data.a == input.a)",
        "(event.data.a == input.a) == false",
        "event.data.a == input.a == input.b",
        "event.data.a == event.data.b",
        "event.data.lines[0] == input.a",
        "event.data.a + 1 == input.a",
        "event.data.a != input.a",
        "event.data.all(x, x == input.a)",
        "input.a == input.b",
    ],
)
def test_what_need_not_be_an_equality_is_left_to_the_evaluation(match: str) -> None:
    assert equality(f"${{{{ {match} }}}}") is None


@pytest.mark.parametrize("match", [None, True, "order ${{ event.data.a }}", "${{ event.data.a =="])
def test_what_is_no_expression_has_no_equality(match: str | bool | None) -> None:
    assert equality(match) is None


@pytest.mark.parametrize("value", ["A-1", 7, True, False, 1.5, "ü\x1f\n"])
def test_an_event_with_the_value_has_the_key_and_the_least_event_too(value: object) -> None:
    wanted = key(("data", "order"), value)
    assert wanted is not None

    assert key_in({"data": {"order": value, "other": 1}}, field_of(wanted)) == wanted
    assert least_with(wanted) == {"data": {"order": value}}


def test_numbers_that_are_equal_have_one_key_and_a_text_has_another() -> None:
    assert key(("a",), 1) == key(("a",), 1.0)
    assert key(("a",), 1) != key(("a",), "1")
    assert key(("a",), 1) != key(("a",), True)


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "x" * LONGEST])
def test_a_value_that_no_index_finds_has_no_key(value: object) -> None:
    assert key(("data",), value) is None


@pytest.mark.parametrize("event", [{}, {"data": None}, {"data": "x"}, {"data": {}}])
def test_an_event_without_the_field_has_no_key(event: dict[str, object]) -> None:
    assert key_in(event, ["data", "order"]) is None
