"""People decide in a test as they do in earnest: groups, N of M, forms, time and escalation."""

import pytest

from workflows.testing import Run, Workflow, approve, reject, takes
from workflows.testing.acts import Act

SIGNED = Workflow.parse(
    """\
workflow: signed
steps:
  - id: sign
    approval:
      group: finance
      approvals: 2
      timeout: 2d
      on_timeout: escalate
      escalate_to: directors
      form: {type: object, properties: {limit: {type: integer, default: 5}}}
output: {by: "${{ steps.sign.output.by }}", limit: "${{ steps.sign.output.form.limit }}"}
"""
)


def signed(*script: Act, **given: str) -> Run:
    return SIGNED.run(*script, **given)  # type: ignore[arg-type]


def test_a_step_is_approved_by_as_many_as_it_asks_for() -> None:
    run = signed(
        approve("sign", by="ann", after="1h"), approve("sign", by="bob", form={"limit": 9}, at="3h")
    )

    run.assert_completed({"by": ["ann", "bob"], "limit": 9})
    run.assert_took("3h")


def test_one_who_rejects_ends_it() -> None:
    run = signed(approve("sign", by="ann"), reject("sign", by="bob", note="too much", after="1h"))

    run.assert_failed(step="sign", code="approval.rejected")
    assert run.error is not None
    assert "too much" in run.error.message


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ([approve("sign", by="ann"), approve("sign", by="ann")], "ann has decided already"),
        ([approve("sign", by="eve")], "nobody decides on what they have started"),
        ([approve("sign", by="ann", form={"limit": "much"})], "the form does not fit"),
        ([approve("sign", by="ann", at="5d")], "sign asks nobody now"),
    ],
)
def test_a_vote_that_the_rules_do_not_allow_does_not_count(script: list[Act], why: str) -> None:
    run = signed(*script, started_by="eve")

    assert why in run.refused[-1]
    assert why in run.story()
    run.assert_failed(step="sign")


def test_a_request_that_nobody_decides_is_escalated_to_others() -> None:
    run = signed(approve("sign", by="dora", at="3d"), approve("sign", by="dirk", at="3d"))

    run.assert_completed({"by": ["dora", "dirk"], "limit": 5})
    run.assert_attempts("sign", 2)
    assert [call.uses for call in run.calls("sign")] == ["finance", "directors"]


def test_a_stub_without_a_value_approves_with_the_forms_defaults() -> None:
    run = SIGNED.run(stubs={"sign": takes("4h")})

    run.assert_completed({"by": ["nobody"], "limit": 5})
    run.assert_took("4h")
