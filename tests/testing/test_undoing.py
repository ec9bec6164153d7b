"""A run that is undone says what was undone, in which order, and what is left."""

from workflows.testing import Workflow, cancel, compensate, fails, replay, takes
from workflows.testing.branches import taken_by

TEXT = """\
workflow: saga
on_failure: compensate
steps:
  - id: reserve
    uses: x.reserve
    compensate: {uses: x.release, with: {n: "${{ steps.reserve.output }}"}}
  - id: pack
    foreach: [1, 2]
    steps:
      - {id: scan, uses: x.scan, compensate: {uses: x.unscan}}
  - {id: mail, uses: x.mail}
  - {id: ship, uses: x.ship}
"""
SAGA = Workflow.parse(TEXT).given(stubs={"reserve": 4})
KEPT = Workflow.parse(TEXT.replace("compensate\nsteps", "fail\nsteps")).given(stubs={"reserve": 4})


def test_what_was_done_is_undone_the_last_first() -> None:
    run = SAGA.run(stubs={"ship": fails("permanent")})

    run.assert_compensated("pack[1].scan", "pack[0].scan", "reserve")
    run.assert_path("reserve", "pack[0].scan", "pack[1].scan", "mail", "ship")
    run.assert_called("x.release", n=4)
    assert run.irreversible == ("mail",)
    assert ("reserve", "is undone") in taken_by(run.simulation, run.lines)


def test_an_undo_that_fails_is_replayed() -> None:
    stubs = {"ship": fails("permanent"), "x.release": fails("permanent", times=1)}

    run = SAGA.run(replay("reserve.compensate", after="1h"), stubs=stubs)

    run.assert_compensated()
    run.assert_took("1h")


def test_a_failed_run_may_be_undone_by_a_person() -> None:
    run = KEPT.run(compensate(after="1h"), stubs={"ship": fails("permanent")})

    run.assert_compensated("pack[1].scan", "pack[0].scan", "reserve")


def test_a_live_run_may_be_cancelled_with_its_undo() -> None:
    run = KEPT.run(cancel(at="1m", compensate=True), stubs={"pack[].scan": takes("2m")})

    run.assert_compensated("reserve")


def test_what_an_undo_would_undo_is_known_before() -> None:
    run = KEPT.run(stubs={"ship": fails("permanent")})

    assert run.compensable == ("pack[1].scan", "pack[0].scan", "reserve")
