"""A step that waits for a child run: what it asks for, and what its end makes of it."""

from typing import Any

import pytest

from tests.engine.builders import Play, done, error_of, plan_from, play, task
from workflows.engine.decision import Awaited
from workflows.engine.events import Answered, CancelRequested, Replayed, TimedOut
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Result
from workflows.language.words import ErrorClass


def call(name: str = "call", **keys: Any) -> dict[str, Any]:
    """Return a step that runs another workflow."""
    return {"id": name, "workflow": "send-invoice", **keys}


def ended(path: str = "call", output: Any = None, **keys: Any) -> Answered:
    """Say that the child run has ended."""
    return Answered(path, Reason.CHILD, output, **keys)


def asked(run: Play, path: str = "call", attempt: int = 1) -> Awaited:
    return run.waits[path, attempt]


def test_a_child_run_is_asked_for_with_its_input_as_it_is_now() -> None:
    plan = plan_from(
        {"id": "first", "set": {"order": 7}},
        call(version=3, environment="vault", **{"with": {"order": "${{ vars.order }}"}}),
    )

    run = play(plan)

    assert asked(run).name == "send-invoice"
    assert asked(run).request == {"input": {"order": 7}, "version": 3, "environment": "vault"}
    assert run.step("call").reason is Reason.CHILD


def test_the_input_of_a_child_run_may_read_the_steps_before_it() -> None:
    plan = plan_from(task("made"), call(**{"with": {"n": "${{ steps.made.output.n }}"}}))

    run = play(plan, done("made", {"n": 3}))

    assert asked(run).request == {"input": {"n": 3}}


def test_an_input_that_has_no_value_fails_the_step_and_asks_for_no_child_run() -> None:
    run = play(plan_from(call(**{"with": {"order": "${{ input.nothing }}"}})))

    assert run.step("call").state is StepState.FAILED
    assert run.accused == ["call"]
    assert not run.waits


def test_the_output_of_a_child_run_is_the_steps_unless_it_says_its_own() -> None:
    plan = plan_from(
        {"id": "both", "parallel": [call("as_is"), call("own", output="${{ steps.own.output.n }}")]}
    )

    run = play(plan, ended("both.as_is", {"n": 1}), ended("both.own", {"n": 2}))

    assert run.rows["both.as_is"].output == {"n": 1}
    assert run.rows["both.own"].output == 2


@pytest.mark.parametrize(("keys", "state"), [({}, "FAILED"), ({"optional": True}, "COMPLETED")])
def test_the_failure_of_a_child_run_is_the_steps(keys: dict[str, Any], state: str) -> None:
    run = play(plan_from(call(**keys)), ended(error=error_of("http.404")))

    assert run.step("call").state is StepState.FAILED
    assert run.state == state
    assert run.accused == ([] if keys else ["call"])


def test_a_child_run_that_takes_too_long_fails_its_step() -> None:
    run = play(plan_from(call(timeout="1h"))).after(3600).hear(TimedOut("call"))

    error = run.step("call").error
    assert error is not None
    assert (error.error_class, error.code) == (ErrorClass.TIMEOUT, "workflow.timeout")
    assert not run.waits


def test_a_cancel_ends_the_wait_for_a_child_run() -> None:
    run = play(plan_from(call()), CancelRequested())

    assert run.state is RunState.CANCELLED
    assert not run.waits


def test_a_replay_waits_again_and_a_corrected_input_asks_for_a_run_of_its_own() -> None:
    plan = plan_from(call(**{"with": {"order": 1}}))
    failed = ended(error=error_of())

    again = play(plan, failed, Replayed("call"))
    corrected = play(plan, failed, Replayed("call", {"order": 2}))

    assert asked(again, attempt=2).request == {"input": {"order": 1}}
    assert asked(corrected, attempt=2).request == {"input": {"order": 2}, "anew": True}


def test_the_end_of_a_child_run_of_an_earlier_attempt_changes_nothing() -> None:
    run = play(plan_from(call()), ended(error=error_of()), Replayed("call"))

    run.hear(ended(output=1, attempt=1))

    assert run.step("call").state is StepState.WAITING


def test_a_simulated_child_run_yields_what_it_is_told_to() -> None:
    plan = plan_from(call(), output="${{ steps.call.output }}")

    run = simulate(plan, outside=lambda awaited: Result(output=awaited.name, seconds=60))

    assert (run.state, run.output) == (RunState.COMPLETED, "send-invoice")
