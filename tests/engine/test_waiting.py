"""Waiting for what comes from outside: how it begins, what ends it, and what is left of it."""

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.builders import Play, error_of, plan_from, play, task
from workflows.engine.decision import AttemptEnd
from workflows.engine.events import (
    Answered,
    CancelRequested,
    Discarded,
    Drained,
    PauseRequested,
    Replayed,
    TimedOut,
)
from workflows.engine.simulate import EPOCH, simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Result


def callback(name: str = "vendor", timeout: str = "7d", **keys: Any) -> dict[str, Any]:
    """Return a step that waits for a callback."""
    return {"id": name, "callback": {"timeout": timeout}, **keys}


def wait(name: str = "rest", **keys: Any) -> dict[str, Any]:
    """Return a step that waits for ten minutes."""
    return {"id": name, "wait": {"for": "10m"}, **keys}


def answer(path: str = "vendor", output: Any = None, **keys: Any) -> Answered:
    """Say that the callback has come."""
    return Answered(path, Reason.CALLBACK, output, **keys)


def ends(run: Play) -> list[tuple[int, AttemptEnd]]:
    """Return how the attempts have ended."""
    return [(record.step.attempt, record.end) for record in run.attempts]


def test_a_step_waits_for_its_answer_and_yields_it() -> None:
    run = play(plan_from(callback(), task("after")))

    waiting = run.step("vendor")
    run.hear(answer(output={"ok": True}))

    assert (waiting.state, waiting.reason, waiting.attempt) == ("WAITING", Reason.CALLBACK, 1)
    assert waiting.wake_at == EPOCH + timedelta(days=7)
    assert run.rows["vendor"].output == {"ok": True}
    assert run.queued == {"after"}
    assert ends(run) == [(1, AttemptEnd.COMPLETED)]
    assert not run.waits


def test_a_second_answer_changes_nothing() -> None:
    run = play(plan_from(callback(), task("after")), answer(output=1))

    run.hear(answer(output=2))

    assert run.rows["vendor"].output == 1


@pytest.mark.parametrize(
    "stray",
    [
        Answered("vendor", Reason.APPROVAL),
        answer(attempt=2),
        answer("after"),
        Drained("vendor"),
        TimedOut("vendor"),
    ],
)
def test_what_is_not_meant_for_a_wait_does_not_end_it(stray: Any) -> None:
    run = play(plan_from(callback(), task("after")))

    run.hear(stray)

    assert run.step("vendor").state is StepState.WAITING
    assert ("vendor", 1) in run.waits


def test_an_answer_may_be_an_error() -> None:
    run = play(plan_from(callback()), answer(error=error_of("vendor.refused")))

    assert run.state is RunState.FAILED
    assert run.accused == ["vendor"]
    assert ends(run) == [(1, AttemptEnd.FAILED)]


def test_a_wait_in_vain_fails_with_a_code_of_its_kind() -> None:
    run = play(plan_from(callback())).after(7 * 86400)

    run.hear(TimedOut("vendor"))

    error = run.step("vendor").error
    assert error is not None
    assert (error.error_class, error.code) == ("timeout", "callback.timeout")
    assert error.message == ("vendor waited for its callback for 604800 seconds, as long as it may")
    assert run.accused == ["vendor"]


def test_the_shorter_of_two_limits_counts() -> None:
    run = play(plan_from(callback(timeout="2d") | {"timeout": "1h"}))

    assert run.step("vendor").wake_at == EPOCH + timedelta(hours=1)


def test_a_wait_in_vain_can_be_caught() -> None:
    caught = [{"on": ["callback.timeout"], "steps": [task("remind")]}]

    run = play(plan_from(callback(catch=caught))).after(7 * 86400).hear(TimedOut("vendor"))

    assert run.reason("vendor") is Reason.CATCH
    assert run.queued == {"vendor.catch[0].remind"}
    assert ends(run) == [(1, AttemptEnd.FAILED)]
    assert not run.waits


def test_the_fallback_of_a_wait_in_vain_knows_all_of_the_step() -> None:
    told = {"code": "${{ error.code }}", "tries": "${{ steps.vendor.attempt }}"}
    caught = [{"steps": [{"id": "tell", "set": told}]}]
    run = play(plan_from(callback(catch=caught))).after(7 * 86400)

    run.hear(TimedOut("vendor"))

    assert run.rows["vendor"].output == {"code": "callback.timeout", "tries": 1}
    assert run.state is RunState.COMPLETED


def test_an_answer_that_comes_while_the_fallback_is_done_changes_nothing() -> None:
    caught = [{"steps": [task("remind")]}]
    run = play(plan_from(callback(catch=caught))).after(7 * 86400).hear(TimedOut("vendor"))

    run.hear(answer(output="late"))

    assert run.reason("vendor") is Reason.CATCH


def test_an_optional_wait_in_vain_counts_as_done() -> None:
    plan = plan_from(callback(optional=True), task("after"))

    run = play(plan).after(7 * 86400).hear(TimedOut("vendor"))

    assert run.queued == {"after"}
    assert run.accused == []


def test_a_replayed_wait_is_another_one() -> None:
    run = play(plan_from(callback())).after(7 * 86400).hear(TimedOut("vendor"))

    run.hear(Replayed("vendor"), answer(attempt=1))
    between = run.step("vendor")
    run.hear(answer(attempt=2, output="now"))

    assert (between.state, between.attempt) == (StepState.WAITING, 2)
    assert between.wake_at == run.now + timedelta(days=7)
    assert run.state is RunState.COMPLETED
    assert ends(run) == [(1, AttemptEnd.FAILED), (2, AttemptEnd.COMPLETED)]


@pytest.mark.parametrize(
    ("plan", "event", "reason"),
    [
        (plan_from(callback()), CancelRequested(), Reason.RUN_CANCELLED),
        (plan_from(callback(), timeout="1h"), TimedOut(""), Reason.TIMEOUT),
    ],
)
def test_whoever_ends_the_run_ends_its_waits(plan: Any, event: Any, reason: Reason) -> None:
    run = play(plan).after(3600).hear(event)

    assert (run.step("vendor").state, run.reason("vendor")) == (StepState.CANCELLED, reason)
    assert ends(run) == [(1, AttemptEnd.CANCELLED)]
    assert not run.waits
    assert not run.alive


def test_a_failure_beside_it_ends_a_wait_and_a_replay_begins_it_again() -> None:
    beside = {"id": "both", "fail_fast": True, "parallel": [callback(), callback("other")]}
    run = play(plan_from(beside)).hear(answer("both.other", error=error_of()))
    halted = run.step("both.vendor")

    run.hear(Replayed("both.other"))

    assert halted.state is StepState.CANCELLED
    assert {path for path, _ in run.waits} == {"both.vendor", "both.other"}


def test_the_loser_of_a_race_is_withdrawn() -> None:
    first = {"join": "one_success", "losers": "cancel", "needs": ["vendor", "rest"]}
    plan = plan_from(callback(), wait(needs=[]), task("after", **first))

    run = play(plan, answer())

    assert run.reason("rest") is Reason.LOST_RACE
    assert run.queued == {"after"}


def test_a_scope_out_of_time_ends_its_waits_and_fails() -> None:
    plan = plan_from({"id": "ask", "timeout": "1h", "steps": [callback()]})

    run = play(plan).after(3600).hear(TimedOut("ask"))

    assert run.reason("ask.vendor") is Reason.TIMEOUT
    assert run.step("ask").error.code == "scope.timeout"  # type: ignore[union-attr]


def test_a_paused_run_takes_answers_and_holds_what_follows() -> None:
    run = play(plan_from(callback(), task("after")), PauseRequested(), answer())

    run.claim("after")

    assert run.step("vendor").state is StepState.COMPLETED
    assert run.step("after").state is StepState.QUEUED


def test_a_wait_given_up_is_closed_already() -> None:
    run = play(plan_from(callback())).after(7 * 86400).hear(TimedOut("vendor"))

    run.hear(Discarded("vendor"))

    assert run.reason("vendor") is Reason.DISCARDED
    assert ends(run) == [(1, AttemptEnd.FAILED)]


def test_what_it_yields_may_be_made_of_what_came() -> None:
    plan = plan_from(callback(output="${{ steps.vendor.output.id }}"))

    run = play(plan, answer(output={"id": 7}))

    assert run.rows["vendor"].output == 7


def test_an_answer_of_which_nothing_can_be_made_fails_the_step() -> None:
    plan = plan_from(callback(output="${{ steps.vendor.output.id }}"))

    run = play(plan, answer(output={}))

    assert run.step("vendor").error.code == "expression.error"  # type: ignore[union-attr]
    assert run.accused == ["vendor"]


def test_time_is_waited_for_and_comes() -> None:
    run = play(plan_from(wait(), task("after")))

    early = run.hear(TimedOut("rest")).step("rest")
    run.after(600).hear(TimedOut("rest"))

    assert (early.state, early.wake_at) == (StepState.WAITING, EPOCH + timedelta(minutes=10))
    assert run.step("rest").state is StepState.COMPLETED
    assert run.queued == {"after"}


@pytest.mark.parametrize(
    "until", ["1999-12-31T00:00:00Z", "2000-01-01T00:00:00Z", "${{ run.started_at }}"]
)
def test_what_has_passed_is_not_waited_for(until: str) -> None:
    plan = plan_from({"id": "rest", "wait": {"until": until}, "output": "${{ run.id }}"})

    run = play(plan)

    assert run.state is RunState.COMPLETED
    assert run.rows["rest"].output == "simulation"
    assert ends(run) == []


@pytest.mark.parametrize(
    ("given", "due"),
    [
        ({"for": "${{ input.minutes }}m"}, timedelta(minutes=90)),
        ({"for": "${{ input.minutes }}"}, timedelta(seconds=90)),
        ({"until": "${{ input.at }}"}, timedelta(hours=24)),
        ({"until": "${{ timestamp(input.at) + duration('1h') }}"}, timedelta(hours=25)),
    ],
)
def test_how_long_it_waits_may_be_computed(given: dict[str, str], due: timedelta) -> None:
    plan = plan_from({"id": "rest", "wait": given})

    run = play(plan, input={"minutes": 90, "at": "2000-01-02T02:00:00+02:00"})

    assert run.step("rest").wake_at == EPOCH + due


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"for": "${{ input.text }}"}, "'soon' is not a duration"),
        ({"until": "${{ input.text }}"}, "the text is no moment"),
        ({"until": "${{ input.at }}"}, "without an offset nobody knows which moment it is"),
        ({"until": "${{ input.none }}"}, "input has no none"),
    ],
)
def test_a_time_that_is_none_needs_a_person(given: dict[str, str], why: str) -> None:
    plan = plan_from({"id": "rest", "wait": given})

    run = play(plan, input={"text": "soon", "at": "2000-01-02T00:00:00"})

    assert [one.error.code for one in run.incidents] == ["expression.error"]
    assert why in run.incidents[0].error.message


def test_a_wait_that_its_step_has_no_time_for_fails() -> None:
    run = play(plan_from(wait(timeout="1m"))).after(60).hear(TimedOut("rest"))

    assert run.step("rest").error.code == "wait.timeout"  # type: ignore[union-attr]


def test_in_a_dry_run_time_flies_and_what_comes_from_outside_is_said() -> None:
    plan = plan_from(wait(), callback(), task("after"))

    run = simulate(plan, outside=lambda one: Result(output=one.path, seconds=60))

    assert run.finished_at == EPOCH + timedelta(minutes=11)
    assert run.rows["vendor"].output == "vendor"


def test_in_a_dry_run_what_never_comes_is_waited_for_in_vain() -> None:
    run = simulate(plan_from(callback()), outside=lambda _: None)

    assert run.finished_at == EPOCH + timedelta(days=7)
    assert run.error is not None
    assert run.error.code == "callback.timeout"
