"""What operators do to a run is scripted by its time."""

import json

import pytest

from tests.testing.builders import shop
from workflows.testing import (
    KitError,
    UnknownNameError,
    Workflow,
    cancel,
    discard,
    fails,
    pause,
    replay,
    resume,
    skip,
    takes,
)


def test_a_run_that_is_held_goes_on_when_it_is_let() -> None:
    run = shop().run(pause(at="5s"), resume(at="2h"), stubs={"charge": takes("10s")})

    run.assert_completed()
    assert run.step("charge").finished_at == run.at("10s")
    assert run.step("ship").started_at == run.at("2h")


def test_a_run_that_is_held_and_never_let_go_rests() -> None:
    run = shop().run(pause(at="5s"), stubs={"charge": takes("10s")})

    run.assert_state("PAUSED")
    assert run.took is None


def timed() -> Workflow:
    steps = "[{id: first, uses: log}, {id: second, uses: log}]"
    return Workflow.parse(f"{{workflow: timed, timeout: 5s, steps: {steps}}}")


def test_a_run_whose_time_is_up_while_it_is_held_ends_when_it_is_let_go() -> None:
    run = timed().run(pause(at="1s"), resume(at="9s"), stubs={"first": takes("2s")})

    run.assert_failed(code="run.timeout")
    run.assert_took("9s")


def test_a_run_that_is_replayed_has_its_time_anew() -> None:
    stubs = {"first": takes("4s", fails("permanent", times=1)), "second": takes("4s")}

    replayed = timed().run(replay("first", at="4500ms"), stubs=stubs)
    again = timed().run(replay(at="6s"), stubs={"second": takes("9s")})

    replayed.assert_completed()
    replayed.assert_took("8500ms")
    again.assert_failed(code="run.timeout")
    again.assert_took("11s")


def test_a_run_is_cancelled_in_the_middle_of_a_step() -> None:
    run = shop().run(cancel(at="5s"), stubs={"charge": takes("10s")})

    run.assert_cancelled()
    run.assert_step("charge", "CANCELLED", reason="run_cancelled")
    run.assert_took("5s")


def test_a_failed_step_is_replayed_with_corrected_arguments() -> None:
    stubs = {"charge": lambda call: fails("business") if call.arguments["cents"] > 500 else "paid"}

    run = shop().run(replay("charge", at="1d", arguments={"cents": 400}), stubs=stubs)

    run.assert_completed()
    run.assert_took("1d")
    assert run.step("charge").arguments == {"cents": 400}


def test_corrected_arguments_are_expressions_like_those_of_the_definition() -> None:
    steps = "[{id: a, uses: t}, {id: each, foreach: [3], steps: [{id: b, uses: t}]}]"
    loop = Workflow.parse(f"{{workflow: shop, steps: {steps}}}")
    given = {"cents": "${{ steps.a.output + item + index }}"}

    run = loop.run(replay("b", arguments=given), stubs={"a": 4, "b": fails("business", times=1)})

    assert run.step("b").arguments == {"cents": 7}


def test_a_failed_run_is_replayed_from_where_it_failed() -> None:
    run = shop().run(replay(at="1h"), stubs={"charge": fails("permanent", times=1)})

    run.assert_completed()
    run.assert_called("reserve", times=1)


def test_all_that_failed_in_a_parked_run_is_replayed() -> None:
    steps = "[{id: a, needs: [], uses: log}, {id: b, needs: [], uses: log}]"
    parked = Workflow.parse(f"{{workflow: shop, on_failure: park, steps: {steps}}}")
    once = fails("permanent", times=1)

    run = parked.run(replay(at="1h"), stubs={"a": once, "b": once})

    run.assert_completed()
    run.assert_took("1h")


def test_an_undo_that_failed_is_replayed_with_all_that_failed() -> None:
    undone = {"id": "a", "uses": "log", "compensate": {"uses": "log"}}
    steps = [undone, {"id": "b", "uses": "fail"}]
    saga = Workflow.parse(
        json.dumps({"workflow": "shop", "on_failure": "compensate", "steps": steps})
    )

    run = saga.run(replay(at="1h"), stubs={"a.compensate": fails("permanent", times=1)})

    run.assert_compensated("a")


def test_a_failed_step_is_skipped_with_an_output() -> None:
    run = shop().run(skip("charge", at="1h", output=9), stubs={"charge": fails("permanent")})

    run.assert_completed()
    assert run.step("charge").output == 9
    run.assert_step("charge", "SKIPPED", reason="skipped_by_operator")


def test_a_failed_step_is_given_up() -> None:
    run = shop().run(discard("charge", at="1h"), stubs={"charge": fails("permanent")})

    run.assert_failed()
    run.assert_step("charge", "SKIPPED", reason="discarded")


def test_an_act_on_an_unknown_step_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean charge"):
        shop().run(skip("chrage", at="1h"))


def test_a_run_can_be_looked_at_half_way_and_go_on() -> None:
    run = shop().run(stubs={"charge": takes("10s")}, until="5s")
    half = run.step("charge").state

    run.go_on(cancel(at="6s"))

    assert half == "RUNNING"
    run.assert_cancelled()


def test_what_is_done_after_a_failure_counts_from_that_failure() -> None:
    stubs = {"charge": fails("permanent", times=2, takes="10s").then("paid")}

    run = shop().run(replay("charge", after="1m"), replay("charge", after="2m"), stubs=stubs)

    run.assert_completed()
    run.assert_took("3m20s")


def test_a_run_may_be_replayed_after_its_failure() -> None:
    run = shop().run(replay(after="1h"), stubs={"charge": fails("permanent", times=1)})

    run.assert_completed()
    run.assert_took("1h")


def test_an_act_is_at_a_time_or_after_one() -> None:
    with pytest.raises(KitError, match="give at= or after=, not both"):
        replay("charge", at="1h", after="1h")
