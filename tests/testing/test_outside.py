"""What a run waits for from outside comes by script or by stub, at its time, early or never."""

import pytest

from workflows.testing import UnknownNameError, Workflow, callback, event, fails, never, takes

PAID = Workflow.parse(
    """\
workflow: paid
input: {type: object, properties: {order: {type: integer, default: 7}}}
steps:
  - {id: ask, uses: x.ask}
  - id: settled
    event: {type: payment.settled, match: "${{ event.data.order == input.order }}", timeout: 1d}
output: "${{ steps.settled.output }}"
"""
)


def test_an_event_wakes_the_step_that_waits_for_it() -> None:
    run = PAID.run(event("payment.settled", {"order": 7, "cents": 900}, at="2h"))

    run.assert_completed({"order": 7, "cents": 900})
    run.assert_took("2h")


def test_an_event_without_a_time_comes_as_soon_as_somebody_waits() -> None:
    run = PAID.run(event("payment.settled", {"order": 7}), durations={"ask": "3h"})

    run.assert_took("3h")


def test_an_event_may_come_a_while_after_the_step_begins_to_wait() -> None:
    run = PAID.run(event("payment.settled", {"order": 7}, after="5m"), durations={"ask": "3h"})

    run.assert_took("3h5m")


def test_an_event_that_does_not_match_wakes_nobody() -> None:
    run = PAID.run(event("payment.settled", {"order": 8}, at="2h"))

    run.assert_failed(step="settled", code="event.timeout")
    run.assert_took("1d")


def test_an_event_that_comes_early_is_kept_for_an_hour() -> None:
    early = event("payment.settled", {"order": 7}, at="1h")

    in_time = PAID.run(early, durations={"ask": "2h"})
    too_late = PAID.run(early, durations={"ask": "2h1s"})

    in_time.assert_took("2h")
    too_late.assert_failed(step="settled")


def test_the_same_event_comes_once() -> None:
    twice = Workflow.parse(
        "workflow: twice\nsteps:\n"
        "  - {id: first, event: {type: tick}}\n"
        "  - {id: second, event: {type: tick, timeout: 1h}}\n"
    )

    run = twice.run(event("tick", 1, id="a", at="1s"), event("tick", 1, id="a", at="2s"))

    run.assert_path("first", "second")
    run.assert_failed(step="second", code="event.timeout")


def test_one_event_wakes_all_that_wait_for_it() -> None:
    wide = Workflow.parse(
        "workflow: wide\nsteps:\n  - id: both\n    parallel:\n"
        "      - {id: left, event: {type: tick}}\n      - {id: right, event: {type: tick}}\n"
    )

    run = wide.run(event("tick", at="1h"))

    run.assert_completed()
    run.assert_path("left", "right")


@pytest.mark.parametrize("name", ["settled", "payment.settled"])
def test_a_stub_may_speak_for_what_is_waited_for(name: str) -> None:
    run = PAID.run(stubs={name: takes("3h", {"cents": 1})})

    run.assert_completed({"cents": 1})
    run.assert_took("3h")
    assert run.step("settled").arguments is not None


def test_a_stub_may_have_a_wait_fail_or_never_be_answered() -> None:
    refused = PAID.run(stubs={"settled": fails("business", code="pay.no")})
    silent = PAID.run(stubs={"settled": never()})

    refused.assert_failed(code="pay.no")
    silent.assert_failed(code="event.timeout")


def test_what_nobody_says_anything_of_is_waited_for() -> None:
    endless = Workflow.parse("workflow: w\nsteps: [{id: a, event: {type: tick}}]")

    run = endless.run()

    run.assert_state("RUNNING")
    run.assert_step("a", "WAITING", reason="event")
    assert "nothing more happens" in run.story()


def test_a_stub_for_an_unknown_event_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean payment\.settled"):
        PAID.run(stubs={"payment.setled": 1})


ANSWERED = Workflow.parse(
    """\
workflow: answered
steps:
  - {id: ask, uses: x.ask, with: {answer_to: "${{ steps.vendor.callback_url }}"}}
  - {id: vendor, callback: {timeout: 7d}}
output: "${{ steps.vendor.output.ok }}"
"""
)


def test_a_callback_ends_the_wait_with_its_body() -> None:
    run = ANSWERED.run(callback("vendor", {"ok": True}, after="3d"), durations={"ask": "1h"})

    run.assert_completed(output=True)
    run.assert_took("3d1h")
    assert run.calls("ask")[0].arguments["answer_to"].startswith("https://")


def test_a_callback_that_comes_early_is_kept() -> None:
    run = ANSWERED.run(callback("vendor", {"ok": 1}, at="1m"), durations={"ask": "1h"})

    run.assert_completed(output=1)
    run.assert_took("1h")


def test_a_callback_that_does_not_come_is_a_timeout() -> None:
    run = ANSWERED.run()

    run.assert_failed(step="vendor", code="callback.timeout")
    run.assert_took("7d")
