"""`set`, `exit` and `output`: what a run knows, hands on, and ends with."""

import pytest

from tests.engine.builders import broken, done, plan_from, play, task
from workflows.engine.events import Replayed
from workflows.engine.states import Reason, RunState, StepState


def test_a_variable_is_seen_by_the_steps_after_it() -> None:
    plan = plan_from(
        {"id": "first", "set": {"n": "${{ input.n + 1 }}"}},
        {"id": "second", "set": {"m": "${{ vars.n + 1 }}"}},
        output="${{ vars }}",
    )

    run = play(plan, input={"n": 1})

    assert run.output == {"n": 2, "m": 3}


def test_variables_set_long_before_and_just_now_are_seen_together() -> None:
    plan = plan_from(
        {"id": "early", "set": {"a": 1}},
        task("work"),
        {"id": "late", "set": {"b": 2}},
        {"id": "sum", "set": {"c": "${{ vars.a + vars.b }}"}},
    )

    run = play(plan, done("work"))

    assert run.variables == {"a": 1, "b": 2, "c": 3}


def test_a_variable_that_cannot_be_computed_fails_its_step() -> None:
    run = play(plan_from({"id": "bad", "set": {"a": "${{ input.nope }}"}}))

    assert run.accused == ["bad"]
    assert run.variables == {}


def test_an_output_template_replaces_the_output_of_a_task() -> None:
    plan = plan_from(task("a", output={"id": "${{ steps.a.output.body.id }}"}))

    run = play(plan, done("a", output={"body": {"id": 7}}))

    assert run.rows["a"].output == {"id": 7}


def test_an_output_template_that_cannot_be_filled_fails_the_task() -> None:
    plan = plan_from(task("a", output="${{ steps.a.output.nope }}"))

    run = play(plan, done("a", output={}))

    assert run.state is RunState.FAILED
    assert run.accused == ["a"]
    assert [record.end for record in run.attempts] == ["failed"]


def test_an_output_template_replaces_the_output_of_a_block() -> None:
    plan = plan_from(
        {"id": "block", "steps": [task("a")], "output": {"n": "${{ steps.a.output }}"}}
    )

    run = play(plan, done("block.a", output=3))

    assert run.rows["block"].output == {"n": 3}


def test_an_output_template_that_cannot_be_filled_fails_the_block() -> None:
    plan = plan_from({"id": "block", "steps": [task("a")], "output": "${{ input.nope }}"})

    run = play(plan, done("block.a"))

    assert run.accused == ["block"]
    assert run.state is RunState.FAILED


def test_the_output_of_the_run_is_rendered_when_all_is_done() -> None:
    plan = plan_from(task("a"), output={"got": "${{ steps.a.output }}"})

    run = play(plan, done("a", output=[1, 2]))

    assert run.output == {"got": [1, 2]}


def test_a_run_whose_output_cannot_be_rendered_fails_and_says_why() -> None:
    run = play(plan_from(task("a"), output="${{ steps.a.output.nope }}"), done("a", output={}))

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert "nope" in run.error.message


LEAVE = {"id": "leave", "needs": ["a"], "exit": {"output": {"why": "early"}}}


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_exit_ends_the_run_as_it_says(status: str) -> None:
    leave = {"id": "leave", "exit": {"status": status, "output": 1}}

    run = play(plan_from(task("a"), leave, task("b")), done("a"))

    assert run.state is RunState(status.upper())
    assert run.output == 1
    assert run.reason("b") is Reason.EXIT


def test_an_exit_whose_condition_is_false_is_skipped() -> None:
    leave = {"id": "leave", "exit": {"when": "${{ input.stop }}"}}

    run = play(plan_from(leave, task("b")), input={"stop": False})

    assert run.reason("leave") is Reason.WHEN
    assert run.queued == {"b"}


def test_an_exit_lets_what_runs_elsewhere_end_before_the_run_does() -> None:
    plan = plan_from(task("a"), LEAVE, task("slow", needs=[]), task("next"))
    run = play(plan).claim("slow").hear(done("a"))

    assert run.state is RunState.RUNNING
    assert run.step("slow").cancel_requested
    assert run.hear(done("slow")).state is RunState.COMPLETED
    assert run.reason("next") is Reason.EXIT


def test_an_exit_cancels_what_is_queued_elsewhere() -> None:
    plan = plan_from(task("a"), LEAVE, task("c", needs=["a"]))

    run = play(plan, done("a"))

    assert run.step("c").state is StepState.CANCELLED
    assert run.state is RunState.COMPLETED


def test_an_exit_deep_inside_ends_the_blocks_around_it() -> None:
    inner = {"id": "inner", "steps": [{"id": "leave", "exit": {}}, task("never")]}
    plan = plan_from({"id": "outer", "parallel": [inner, task("other")]}, task("after"))

    run = play(plan)

    assert run.state is RunState.COMPLETED
    assert run.are(StepState.COMPLETED) == {"outer.inner.leave"}


def test_an_exit_as_completed_after_a_failed_step_fails_the_run() -> None:
    plan = plan_from(task("bad"), task("a", needs=[]), LEAVE)

    run = play(plan, broken("bad"), done("a"))

    assert run.state is RunState.FAILED
    assert run.accused == ["bad"]


@pytest.mark.parametrize("catch", [[], [{"steps": [task("rescue")]}]])
def test_an_exit_does_not_hide_a_failure_inside_a_block_it_ends(catch: list[object]) -> None:
    block = {"id": "block", "parallel": [task("bad"), task("slow")], "catch": catch}
    plan = plan_from(block, task("a", needs=[]), LEAVE)

    run = play(plan, broken("block.bad"), done("a"))

    assert run.state is RunState.FAILED
    assert run.accused


def test_an_exit_stands_after_the_failure_beside_it_was_repaired() -> None:
    plan = plan_from(task("bad"), task("a", needs=[]), LEAVE)
    run = play(plan, broken("bad"), done("a"))

    run.hear(Replayed("bad"), done("bad", attempt=2))

    assert run.state is RunState.COMPLETED
    assert run.output == {"why": "early"}


def test_of_two_exits_the_first_decides() -> None:
    one = {"id": "one", "needs": ["a"], "exit": {"output": 1}}
    two = {"id": "two", "needs": ["a"], "exit": {"output": 2, "status": "failed"}}

    run = play(plan_from(task("a"), one, two), done("a"))

    assert run.state is RunState.COMPLETED
    assert run.output == 1


def test_an_exit_whose_output_cannot_be_rendered_is_a_failed_step() -> None:
    run = play(plan_from({"id": "leave", "exit": {"output": "${{ input.nope }}"}}))

    assert run.state is RunState.FAILED
    assert run.accused == ["leave"]
