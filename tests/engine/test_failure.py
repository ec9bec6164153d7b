"""Failure: optional steps, fail_fast, time limits, and the losers of a race."""

from typing import Any

import pytest

from tests.engine.builders import Play, broken, done, lost, plan_from, plan_of, play, task
from workflows.engine.events import Event, Replayed, RetryDue, TimedOut
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Result


def test_a_failed_step_opens_an_incident_and_fails_the_run() -> None:
    run = play(plan_of("a"), broken("a", "sql.integrity"))

    assert run.state is RunState.FAILED
    (incident,) = run.incidents
    assert (incident.path, incident.attempt, incident.error.code) == ("a", 1, "sql.integrity")


def test_the_run_does_not_fail_before_all_that_can_be_done_is_done() -> None:
    run = play(plan_of("a", "b"), broken("a"))

    assert run.state is RunState.RUNNING
    assert run.hear(done("b")).state is RunState.FAILED


def test_an_optional_failure_is_recorded_and_nobody_is_called() -> None:
    run = play(plan_of("a > b", a={"optional": True}), broken("a"), done("b"))

    assert run.state is RunState.COMPLETED
    assert run.incidents == []
    assert run.step("a").state is StepState.FAILED
    assert run.step("a").error is not None


def test_what_fails_inside_an_optional_block_calls_nobody() -> None:
    plan = plan_from({"id": "block", "optional": True, "steps": [task("a")]}, task("b"))

    run = play(plan, broken("block.a"), done("b"))

    assert run.state is RunState.COMPLETED
    assert run.incidents == []


def test_fail_fast_cancels_what_has_not_begun() -> None:
    run = play(plan_of("a", "b > c", document={"fail_fast": True}), broken("a"))

    assert run.state is RunState.FAILED
    assert run.are(StepState.CANCELLED) == {"b", "c"}
    assert run.reason("c") is Reason.FAIL_FAST
    assert run.accused == ["a"]


def test_an_attempt_that_nobody_took_before_the_cancel_leaves_no_gap() -> None:
    run = play(plan_of("a", "b", document={"fail_fast": True}), broken("a"))

    assert run.step("b").attempt == 0
    run.hear(Replayed("a"))

    assert run.step("b").state is StepState.QUEUED
    assert run.step("b").attempt == 1


def test_fail_fast_asks_what_runs_to_end_and_waits_for_it() -> None:
    run = play(plan_of("a", "b", document={"fail_fast": True})).claim("b").hear(broken("a"))

    assert run.step("b").cancel_requested
    assert run.state is RunState.RUNNING
    assert run.hear(broken("b", "step.cancelled", "cancelled")).state is RunState.FAILED
    assert run.reason("b") is Reason.FAIL_FAST


def test_work_that_was_to_be_cancelled_but_got_done_is_done() -> None:
    run = play(plan_of("a", "b", document={"fail_fast": True})).claim("b").hear(broken("a"))

    run.hear(done("b", output=1))

    assert run.step("b").state is StepState.COMPLETED
    assert run.rows["b"].output == 1


def test_fail_fast_of_a_block_ends_the_block_and_not_its_neighbours() -> None:
    block = {"id": "block", "fail_fast": True, "parallel": [task("a"), task("b")]}

    run = play(plan_from(block, task("c", needs=[])), broken("block.a"))

    assert run.reason("block.b") is Reason.FAIL_FAST
    assert run.step("block").state is StepState.FAILED
    assert run.queued == {"c"}


def test_an_optional_failure_halts_nobody() -> None:
    plan = plan_of("a", "b", a={"optional": True}, document={"fail_fast": True})

    run = play(plan, broken("a"))

    assert run.queued == {"b"}


def test_a_block_that_fails_fast_still_takes_its_fallback_path() -> None:
    block = {
        "id": "block",
        "fail_fast": True,
        "parallel": [task("a"), task("b")],
        "catch": [{"steps": [task("rescue")]}],
    }

    run = play(plan_from(block), broken("block.a"), done("block.catch[0].rescue", output="saved"))

    assert run.state is RunState.COMPLETED
    assert run.rows["block"].output == "saved"


def inside(block: dict[str, Any]) -> Play:
    """Play a run that fails fast, has failed in a block in another, and has more to do."""
    outer = {"id": "p", "parallel": [task("z"), {"id": "s", **block}]}
    loop = {"id": "all", "needs": [], "foreach": 2, "steps": [task("one"), task("two")]}
    return play(plan_from(outer, loop, task("c", needs=[]), fail_fast=True))


def test_fail_fast_hears_of_what_fails_in_blocks_and_loops_inside() -> None:
    block = {"parallel": [task("x"), task("y")]}

    run = inside(block).hear(broken("p.s.x"))
    other = inside(block).hear(broken("all[1].one"))

    cancelled = {"p.z", "p.s.y", "all", "all[0]", "all[0].one", "all[1]", "all[1].one", "c"}
    assert run.state is other.state is RunState.FAILED
    assert run.are(StepState.CANCELLED) >= cancelled
    assert other.are(StepState.CANCELLED) >= {"p", "p.z", "p.s.y", "all[0].one", "c"}
    assert (run.accused, other.accused) == (["p.s.x"], ["all[1].one"])


@pytest.mark.parametrize(
    "block",
    [
        {"parallel": [task("x"), task("y")], "optional": True},
        {"parallel": [task("x"), task("y")], "catch": [{"steps": [task("rescue")]}]},
        {"first": [task("x"), task("y")]},
    ],
)
def test_fail_fast_does_not_hear_of_what_a_block_inside_answers(block: dict[str, Any]) -> None:
    run = inside(block).hear(broken("p.s.x"))

    assert run.state is RunState.RUNNING
    assert run.queued >= {"p.z", "p.s.y", "all[0].one", "c"}


def test_a_replay_reopens_what_fail_fast_had_cancelled_around_the_block() -> None:
    run = inside({"parallel": [task("x"), task("y")]}).hear(broken("p.s.x"))

    run.hear(Replayed("p.s.x"))

    assert run.queued == {"p.s.x", "p.s.y", "p.z", "all[0].one", "all[1].one", "c"}


def test_a_step_being_retried_is_cancelled_by_fail_fast() -> None:
    run = play(plan_of("a", "b", document={"fail_fast": True}))
    run.hear(broken("b", "http.503", "transient"), broken("a"))

    run.hear(RetryDue("b", 1))

    assert run.reason("b") is Reason.FAIL_FAST


LIMITED = {"id": "block", "timeout": "10s", "parallel": [task("a"), task("b")]}


def test_a_block_that_takes_too_long_fails_and_calls_a_person() -> None:
    run = play(plan_from(LIMITED, task("c")), done("block.a")).after(10)

    run.hear(TimedOut("block"))

    error = run.step("block").error
    assert error is not None
    assert error.code == "scope.timeout"
    assert run.accused == ["block"]
    assert run.reason("block.b") is Reason.TIMEOUT
    assert run.state is RunState.FAILED


def test_a_block_waits_for_what_runs_in_it_before_it_fails_of_time() -> None:
    run = play(plan_from(LIMITED)).claim("block.a").after(10).hear(TimedOut("block"))

    assert run.step("block").state is StepState.WAITING
    run.hear(done("block.a"))
    assert run.step("block").state is StepState.FAILED


def test_time_that_is_not_up_yet_changes_nothing() -> None:
    run = play(plan_from(LIMITED)).after(9.9)

    run.hear(TimedOut("block"))

    assert run == play(plan_from(LIMITED)).after(9.9)


def test_a_block_of_nested_blocks_is_ended_whole() -> None:
    block = {"id": "outer", "timeout": 5, "steps": [{"id": "inner", "steps": [task("a")]}]}

    run = play(plan_from(block)).after(5).hear(TimedOut("outer"))

    assert run.are(StepState.CANCELLED) == {"outer.inner", "outer.inner.a"}
    assert run.state is RunState.FAILED


def test_a_timeout_can_be_caught() -> None:
    block = {**LIMITED, "catch": [{"on": ["timeout"], "steps": [task("rescue")]}]}

    run = play(plan_from(block)).after(10).hear(TimedOut("block"))

    assert run.queued == {"block.catch[0].rescue"}
    assert run.hear(done("block.catch[0].rescue")).state is RunState.COMPLETED
    assert run.incidents == []


def test_a_fallback_path_has_no_time_limit_of_the_block() -> None:
    plan = plan_from(task("a", catch=[{"steps": [task("rescue")]}]))
    run = play(plan, broken("a")).after(1000)

    run.hear(TimedOut("a"))

    assert run.queued == {"a.catch[0].rescue"}


def test_a_replayed_block_has_its_time_anew_and_keeps_what_was_done() -> None:
    run = play(plan_from(LIMITED), done("block.a")).after(10).hear(TimedOut("block"))

    run.hear(Replayed("block"))

    assert run.queued == {"block.b"}
    assert run.hear(TimedOut("block")).queued == {"block.b"}
    assert run.hear(done("block.b")).state is RunState.COMPLETED


def test_a_run_that_takes_too_long_fails_when_its_last_worker_lets_go() -> None:
    run = play(plan_of("a", "b > c", document={"timeout": "1m"})).claim("a")

    run.after(60).hear(TimedOut(""))

    assert run.are(StepState.CANCELLED) == {"b", "c"}
    assert run.state is RunState.RUNNING
    assert run.hear(done("a")).state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == "run.timeout"


def test_a_run_whose_time_was_up_goes_on_when_replayed() -> None:
    run = play(plan_of("a > b", document={"timeout": "1m"}), done("a")).after(60)
    run.hear(TimedOut(""))

    run.hear(Replayed(""), done("b"))

    assert run.state is RunState.COMPLETED


def test_a_timed_out_run_with_a_failed_step_resumes_both_when_that_is_replayed() -> None:
    plan = plan_of("a", "b > c", document={"timeout": "1m"})
    run = play(plan, broken("a")).after(60).hear(TimedOut(""))

    run.hear(Replayed("a"))

    assert run.queued == {"a", "b"}


def test_a_run_without_a_time_limit_hears_of_none() -> None:
    assert play(plan_of("a"), TimedOut("")).queued == {"a"}


def test_a_task_that_sleeps_longer_than_it_may_is_timed_out_in_the_simulation() -> None:
    plan = plan_from(task("a", timeout=5, retry={"max_attempts": 1}))

    run = simulate(plan, stub=lambda _: Result(seconds=6))

    error = run.rows["a"].view.error
    assert error is not None
    assert error.code == "task.timeout"


def race(**keys: Any) -> Any:
    return plan_of(
        "a > join", "b1 > b2 > join", join={"join": "one_success", "losers": "cancel"}, **keys
    )


def test_branches_that_came_too_late_are_cancelled() -> None:
    run = play(race(), done("a"))

    assert run.queued == {"join"}
    assert run.are(StepState.CANCELLED) == {"b1", "b2"}
    assert run.reason("b1") is Reason.LOST_RACE
    assert run.hear(done("join")).state is RunState.COMPLETED


def test_a_loser_that_runs_is_asked_to_end_and_the_run_waits_for_it() -> None:
    run = play(race()).claim("b1").hear(done("a"), done("join"))

    assert run.state is RunState.RUNNING
    assert run.hear(broken("b1", "step.cancelled", "cancelled")).state is RunState.COMPLETED
    assert run.reason("b1") is Reason.LOST_RACE


def test_losers_finish_unless_told_otherwise() -> None:
    run = play(plan_of("a > join", "b > join", join={"join": "one_success"}), done("a"))

    assert run.queued == {"b", "join"}


def test_a_branch_that_others_need_too_is_no_loser() -> None:
    keys = {"join": {"join": "one_success", "losers": "cancel"}}
    run = play(plan_of("a > join", "b > join", "b > other", **keys), done("a"))

    assert run.queued == {"b", "join"}


def test_losers_that_are_blocks_end_with_all_that_is_in_them() -> None:
    join = task("join", needs=["a", "block"], join="one_success", losers="cancel")
    plan = plan_from(task("a"), {"id": "block", "needs": [], "steps": [task("b")]}, join)

    run = play(plan, done("a"))

    assert run.are(StepState.CANCELLED) == {"block", "block.b"}


@pytest.mark.parametrize("first", ["a", "b", "c"])
def test_two_of_three_start_the_join_and_the_third_is_let_go(first: str) -> None:
    keys = {"join": {"join": {"at_least": 2}, "losers": "cancel"}}
    run = play(plan_of("a > join", "b > join", "c > join", **keys))
    second, third = (name for name in "abc" if name != first)

    run.hear(done(first), done(second))

    assert run.queued == {"join"}
    assert run.reason(third) is Reason.LOST_RACE


def test_a_failure_before_the_race_was_decided_still_fails_the_run() -> None:
    run = play(race(), broken("b1"), done("a"), done("join"))

    assert run.state is RunState.FAILED


def test_a_block_that_fails_fast_by_itself_still_takes_its_fallback_path() -> None:
    block = {
        "id": "block",
        "fail_fast": True,
        "steps": [task("a"), task("b", when="${{ input.nope }}")],
        "catch": [{"steps": [task("rescue")]}],
    }

    run = play(plan_from(block), done("block.a"))

    assert run.queued == {"block.catch[0].rescue"}


@pytest.mark.parametrize(
    "last", [lost("block.a"), broken("block.a", "step.cancelled", "cancelled")]
)
def test_a_block_fails_with_what_failed_in_it_and_not_with_what_was_cancelled(last: Event) -> None:
    block = {
        "id": "block",
        "fail_fast": True,
        "parallel": [task("a"), task("b")],
        "catch": [{"on": ["http.404"], "steps": [task("rescue")]}],
    }
    run = play(plan_from(block)).claim("block.a").hear(broken("block.b", "http.404", "business"))

    run.hear(last)

    assert run.queued == {"block.catch[0].rescue"}
    assert run.step("block.a").error is None
