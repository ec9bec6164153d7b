"""Child runs are played on the same clock, or stand behind a stub."""

import pytest

from workflows.testing import (
    KitError,
    Workflow,
    cancel,
    event,
    fails,
    pause,
    replay,
    resume,
    takes,
)

INVOICE = Workflow.parse(
    """\
workflow: send-invoice
input: {type: object, required: [order], properties: {order: {type: integer}}}
steps:
  - {id: print, uses: x.print, with: {order: "${{ input.order }}", by: "${{ env.printer }}"}}
output: {number: "${{ steps.print.output }}"}
"""
).given(stubs={"print": takes("1h", "R-1")})

ORDER = Workflow.parse(
    """\
workflow: order
steps:
  - {id: invoice, workflow: send-invoice, with: {order: 7}}
  - {id: book, uses: x.book, with: {number: "${{ steps.invoice.output.number }}"}}
"""
).given(env={"printer": "lp1"})


def test_a_child_run_is_played_in_the_time_and_environment_of_its_parent() -> None:
    run = ORDER.run(children={"send-invoice": INVOICE})

    run.assert_completed()
    run.assert_took("1h")
    run.assert_called("book", number="R-1")
    run.child("invoice").assert_called("print", order=7, by="lp1")


def test_a_stub_may_stand_for_a_child_run() -> None:
    run = ORDER.run(children={"send-invoice": {"number": "R-2"}})

    run.assert_called("book", number="R-2")


def test_the_failure_of_a_child_run_is_the_steps_and_both_stories_are_told() -> None:
    broken = INVOICE.given(stubs={"print": fails("permanent", code="print.jam")})

    run = ORDER.run(children={"send-invoice": broken})

    run.assert_failed(step="invoice", code="print.jam")
    assert "send-invoice is FAILED" in run.story()


def test_a_replay_has_the_child_run_go_on() -> None:
    once = INVOICE.given(stubs={"print": fails("permanent", times=1).then("R-3")})

    run = ORDER.run(replay("invoice", after="1d"), children={"send-invoice": once})

    run.assert_called("book", number="R-3")
    run.child("invoice").assert_attempts("print", 2)


def test_a_cancel_reaches_the_child_run() -> None:
    run = ORDER.run(cancel(at="10m"), children={"send-invoice": INVOICE})

    run.assert_cancelled()
    run.child("invoice").assert_cancelled()


def test_a_child_run_is_paused_and_goes_on_with_its_parent() -> None:
    long = Workflow.parse(
        "workflow: send-invoice\nsteps: [{id: a, uses: x.a}, {id: b, uses: x.b}]"
    ).given(durations={"a": "1h"})
    script = [pause(at="30m"), resume(at="1d")]

    run = ORDER.run(*script, children={"send-invoice": long}, stubs={"book": 1}, until="2h")
    half = run.child("invoice").state
    run.go_on()

    assert half == "PAUSED"
    assert run.child("invoice").step("b").started_at == run.at("1d")


def test_a_child_run_is_undone_with_its_parent() -> None:
    child = INVOICE.text.replace(
        "{id: print,", "{id: file, uses: x.file, compensate: {uses: x.un}}\n  - {id: print,"
    )
    parent = ORDER.text.replace("workflow: order\n", "workflow: order\non_failure: compensate\n")

    run = (
        Workflow.parse(parent)
        .given(env={"printer": "lp1"})
        .run(
            cancel(at="10m", compensate=True),
            children={"send-invoice": Workflow.parse(child).given(durations={"print": "1h"})},
        )
    )

    run.child("invoice").assert_compensated("file")


def test_an_input_that_does_not_fit_fails_the_step() -> None:
    strict = Workflow.parse(INVOICE.text.replace("integer", "string"))

    ORDER.run(children={"send-invoice": strict}).assert_failed(step="invoice", code="child.input")


def test_a_workflow_that_runs_itself_without_end_is_stopped() -> None:
    itself = Workflow.parse("workflow: me\nsteps: [{id: again, workflow: me}]")

    itself.run().assert_failed(step="again", code="child.too_deep")


def test_an_event_wakes_a_child_run() -> None:
    child = Workflow.parse("workflow: child\nsteps: [{id: a, event: {type: tick}}]")
    parent = Workflow.parse("workflow: parent\nsteps: [{id: c, workflow: child}]")

    run = parent.run(event("tick", at="1h"), children={"child": child})

    run.assert_completed()
    run.assert_took("1h")


def test_a_child_run_of_which_nothing_is_said_is_refused() -> None:
    with pytest.raises(KitError, match="The step invoice runs the workflow send-invoice"):
        ORDER.run()
