"""A queued attempt that is put aside uses up nothing, and forgets nothing."""

from datetime import timedelta

from tests.engine.builders import Play, broken, done, interrupted, plan_of, play
from workflows.engine.events import (
    CancelRequested,
    Event,
    Parked,
    PauseRequested,
    Repeat,
    RetryDue,
)
from workflows.engine.simulate import EPOCH
from workflows.engine.states import Reason, RunState, StepState

UNTIL = EPOCH + timedelta(hours=1)


def put_aside(path: str = "only", attempt: int = 1) -> Parked:
    return Parked(path, attempt, Reason.GUARD, UNTIL)


def a_play(*events: Event, **keys: object) -> Play:
    return play(plan_of("only", only={"guard": "crm", **keys}), *events)


def test_a_parked_step_is_out_of_the_queue_and_says_why() -> None:
    run = a_play(put_aside())

    step = run.step("only")
    assert (step.state, step.reason, step.attempt) == (StepState.RETRYING, Reason.GUARD, 0)
    assert step.wake_at == UNTIL


def test_a_parked_step_comes_back_with_the_number_it_would_have_had() -> None:
    run = a_play(put_aside(), RetryDue("only", 0), done("only"))

    assert run.state is RunState.COMPLETED
    assert [(one.step.attempt, one.end) for one in run.attempts] == [(1, "completed")]


def test_being_parked_again_and_again_uses_up_no_try() -> None:
    away = (put_aside(), RetryDue("only", 0)) * 5

    run = a_play(*away, done("only"), retry={"max_attempts": 1})

    assert run.state is RunState.COMPLETED


def test_a_retry_that_is_parked_keeps_what_it_has_used_up_and_its_error() -> None:
    failure = broken("only", "http.503", "transient")

    run = a_play(failure, RetryDue("only", 1), put_aside(attempt=2))

    step = run.step("only")
    assert (step.attempt, step.failures) == (1, 1)
    assert step.error is not None
    assert step.error.code == "http.503"


def test_an_attempt_that_was_to_ask_its_probe_asks_it_still() -> None:
    lost = interrupted("only", repeat=Repeat.AFTER_PROBE)

    run = a_play(lost, RetryDue("only", 1), put_aside(attempt=2), RetryDue("only", 1))

    assert run.reason("only") is Reason.PROBE
    assert run.queued == {"only"}


def test_a_parked_step_is_cancelled_like_any_that_no_worker_holds() -> None:
    run = a_play(put_aside(), CancelRequested())

    assert run.state is RunState.CANCELLED
    assert run.attempts == []


def test_only_the_attempt_that_is_queued_can_be_parked() -> None:
    before = a_play()

    after = a_play(put_aside(attempt=2))

    assert after == before


def test_a_step_that_a_worker_has_is_not_parked() -> None:
    run = a_play().claim("only").hear(put_aside())

    assert run.step("only").state is StepState.RUNNING


def test_nothing_is_parked_in_a_paused_run() -> None:
    run = a_play(PauseRequested(), put_aside())

    assert run.queued == {"only"}
