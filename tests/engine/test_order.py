"""The order of steps: one after the other, by `needs`, at once, and nested."""

import pytest

from tests.engine.builders import broken, done, plan_from, plan_of, play, task
from workflows.engine.states import Reason, RunState, StepState


def test_steps_follow_one_another_unless_told_otherwise() -> None:
    run = play(plan_from(task("a"), task("b")))

    assert run.queued == {"a"}
    assert run.hear(done("a")).queued == {"b"}
    assert run.hear(done("b")).state is RunState.COMPLETED


def test_a_step_without_needs_starts_at_once() -> None:
    run = play(plan_from(task("a"), task("b", needs=[])))

    assert run.queued == {"a", "b"}


def test_a_diamond_joins_when_both_sides_have_ended() -> None:
    run = play(plan_of("top > left > end", "top > right > end"), done("top"), done("right"))

    assert run.queued == {"left"}
    assert run.hear(done("left")).queued == {"end"}


def test_naming_a_need_twice_counts_it_once() -> None:
    run = play(plan_from(task("a"), task("b", needs=["a", "a"])), done("a"))

    assert run.queued == {"b"}


def test_steps_that_do_not_depend_on_a_failure_go_on() -> None:
    run = play(plan_of("a > b", "c > d"), broken("a"), done("c"))

    assert run.reason("b") is Reason.UPSTREAM_FAILED
    assert run.queued == {"d"}
    assert run.state is RunState.RUNNING


def test_a_failure_skips_the_whole_line_behind_it() -> None:
    run = play(plan_of("a > b > c > d"), broken("a"))

    assert run.are(StepState.SKIPPED) == {"b", "c", "d"}
    assert run.state is RunState.FAILED


def test_a_clean_up_runs_after_a_failure_and_the_run_still_fails() -> None:
    plan = plan_of("work > tidy", tidy={"join": "all_done"})

    run = play(plan, broken("work"), done("tidy"))

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == "test.broken"


def test_the_branches_of_a_parallel_start_together_and_end_together() -> None:
    plan = plan_from({"id": "all", "parallel": [task("a"), task("b")]}, task("after"))

    run = play(plan, done("all.a", output=1))

    assert run.step("all").state is StepState.WAITING
    assert run.hear(done("all.b", output=2)).queued == {"after"}
    assert run.rows["all"].output == {"a": 1, "b": 2}


def test_a_block_of_steps_hands_on_the_output_of_its_last_step() -> None:
    plan = plan_from({"id": "block", "steps": [task("a"), task("b")]})

    run = play(plan, done("block.a", output=1), done("block.b", output=2))

    assert run.rows["block"].output == 2
    assert run.state is RunState.COMPLETED


def test_a_block_fails_with_the_error_of_the_step_in_it_that_failed() -> None:
    plan = plan_from({"id": "block", "parallel": [task("a"), task("b")]})

    run = play(plan, broken("block.b", "http.404", "business"), done("block.a"))

    assert run.step("block").state is StepState.FAILED
    error = run.step("block").error
    assert error is not None
    assert (error.code, error.error_class) == ("http.404", "business")
    assert "block.b" in error.message
    assert run.accused == ["block.b"]


@pytest.mark.parametrize("depth", [1, 5, 20])
def test_blocks_nest_as_deep_as_they_are_written(depth: int) -> None:
    step = task("leaf")
    for level in range(depth):
        step = {"id": f"level{level}", "steps": [step]}

    run = play(plan_from(step))
    (leaf,) = run.queued
    run.hear(done(leaf, output="deep"))

    assert leaf.count(".") == depth
    assert run.state is RunState.COMPLETED
    assert {row.output for row in run.rows.values()} == {"deep"}


def test_the_steps_of_a_block_come_into_being_when_it_begins() -> None:
    plan = plan_from(task("a"), {"id": "block", "steps": [task("b")]})

    run = play(plan)

    assert set(run.rows) == {"a", "block"}
    assert set(run.hear(done("a")).rows) == {"a", "block", "block.b"}


def test_a_step_whose_condition_is_false_is_skipped_and_what_follows_goes_on() -> None:
    run = play(plan_from(task("a", when=False), task("b")))

    assert run.reason("a") is Reason.WHEN
    assert run.queued == {"b"}


def test_a_condition_reads_what_came_before() -> None:
    plan = plan_from(task("a"), task("b", when="${{ steps.a.output.go }}"))

    run = play(plan, done("a", output={"go": True}))

    assert run.queued == {"b"}


def test_a_condition_without_a_value_fails_the_step() -> None:
    run = play(plan_from(task("a", when="${{ input.nope }}")))

    assert run.state is RunState.FAILED
    error = run.step("a").error
    assert error is not None
    assert error.code == "expression.error"
    assert run.accused == ["a"]


def test_a_condition_that_is_no_truth_value_fails_the_step() -> None:
    run = play(plan_from(task("a", when="${{ input.n }}")), input={"n": 1})

    assert run.step("a").state is StepState.FAILED
