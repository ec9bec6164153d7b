"""A value over 256 KiB is refused with its size, wherever the engine makes one."""

from tests.engine.builders import Play, done, plan_from, play, task
from workflows.engine.events import StepError
from workflows.engine.states import RunState, StepState

HALF = "x" * 200_000


def failure(run: Play, path: str) -> StepError:
    error = run.step(path).error
    assert error is not None
    return error


def test_a_set_step_that_would_keep_too_much_fails_and_says_how_much() -> None:
    plan = plan_from({"id": "keep", "set": {"twice": "${{ input.text + input.text }}"}})

    run = play(plan, input={"text": HALF})

    error = failure(run, "keep")
    assert error.code == "value.too_large"
    assert "400,012 bytes" in error.message


def test_an_output_template_that_grows_too_large_fails_the_step() -> None:
    plan = plan_from(task("fetch", output={"a": "${{ steps.fetch.output }}", "b": HALF}))

    run = play(plan, done("fetch", output=HALF))

    assert failure(run, "fetch").code == "value.too_large"


def test_a_block_whose_branches_are_too_large_together_has_no_output_of_its_own() -> None:
    plan = plan_from({"id": "all", "parallel": [task("left"), task("right")]})

    run = play(plan, done("all.left", output=HALF), done("all.right", output=HALF))

    assert run.step("all").state is StepState.COMPLETED
    assert run.rows["all"].output is None


def test_a_run_whose_output_is_too_large_fails() -> None:
    plan = plan_from(task("fetch"), output=["${{ steps.fetch.output }}", HALF])

    run = play(plan, done("fetch", output=HALF))

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == "value.too_large"


def test_what_a_block_hands_on_may_be_made_of_what_it_would_hand_on() -> None:
    block = {"id": "b", "steps": [task("a")], "output": {"n": "${{ steps.b.output }}"}}
    run = play(plan_from(block, output="${{ steps.b.output }}"))

    run.hear(done("b.a", 7))

    assert run.output == {"n": 7}
