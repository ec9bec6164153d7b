"""An approval that could never be decided, or contradicts itself, is found before it is stored."""

import pytest

from tests.language.builders import document, findings, place_of_mark

APPROVAL = "[{id: sign, approval: {group: finance%s}}]"


def found_in(more: str) -> list[str]:
    """Name the rules that such an approval breaks, but for what the engine cannot do yet."""
    found = findings(document(APPROVAL % more))
    return [one.rule for one in found if one.rule != "not-available-yet"]


@pytest.mark.parametrize(
    "more",
    [
        "",
        ", approvals: 2, timeout: 2d",
        ", timeout: 2d, on_timeout: approve",
        ", timeout: 2d, on_timeout: escalate, escalate_to: '${{ input.chief }}'",
        ", timeout: null, escalate_to: null",
        ", allow_self: true, form: {type: object, properties: {note: {type: string}}}",
    ],
)
def test_an_approval_that_can_be_decided_is_let_through(more: str) -> None:
    assert found_in(more) == []


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (", on_timeout: approve", "on-timeout-without-timeout"),
        (", timeout: 1d, on_timeout: escalate", "escalates-to-nobody"),
        (", timeout: 1d, escalate_to: directors", "never-escalates"),
        (", timeout: 1d, on_timeout: reject, escalate_to: directors", "never-escalates"),
        (", timeout: 1d, on_timeout: escalate, escalate_to: ' '", "no-group"),
        (", form: {type: nothing}", "form-schema"),
        (", form: {type: array}", "form-not-an-object"),
        (", form: {properties: {n: {type: integer, default: x}}}", "form-default"),
        (", form: {$ref: '#/$defs/nowhere'}", "form-schema-reference"),
        (", approvals: 0", "out-of-range"),
        (", allow_self: maybe", "wrong-type"),
        (", aproval: 2", "unknown-key"),
    ],
)
def test_an_approval_that_contradicts_itself_is_refused(more: str, rule: str) -> None:
    assert found_in(more) == [rule]


def test_a_finding_about_a_form_is_placed_where_the_form_is_wrong() -> None:
    text = document(APPROVAL % ", form: {properties: {n: {type: §thing}}}")

    found = [one for one in findings(text) if one.rule == "form-schema"]

    assert (found[0].line, found[0].column) == place_of_mark(text)
    assert found[0].path == "steps[0].approval.form.properties.n.type"
