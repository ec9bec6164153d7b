"""Retry: whether, when, how often, and what a lost worker costs."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.builders import broken, done, error_of, lost, plan_from, play, task
from workflows.engine.events import Failed, Loss, Repeat, Replayed, RetryDue
from workflows.engine.plan import Plan
from workflows.engine.policy import delay, is_retried
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.language.spec import RetryPolicy


def seconds(policy: RetryPolicy, failures: int, **keys: Any) -> float:
    return delay(policy, failures=failures, chance=Random(1), **keys).total_seconds()


def retried(**policy: Any) -> Plan:
    return plan_from(task("a", retry=policy))


def test_a_transient_failure_is_tried_again_after_a_delay() -> None:
    run = play(retried(initial_delay="5s", jitter=0), broken("a", "http.503", "transient"))

    assert run.step("a").state is StepState.RETRYING
    assert run.step("a").wake_at == run.now + timedelta(seconds=5)
    assert run.after(5).hear(RetryDue("a", 1)).queued == {"a"}
    assert run.hear(done("a", attempt=2)).state is RunState.COMPLETED


def test_attempts_are_spent_one_by_one_and_then_a_person_is_called() -> None:
    run = play(retried(max_attempts=2, initial_delay=0))

    run.hear(broken("a", "http.503", "transient"))
    assert run.incidents == []
    run.hear(broken("a", "http.503", "transient", attempt=2))

    assert run.accused == ["a"]
    assert run.state is RunState.FAILED
    assert [record.step.attempt for record in run.attempts] == [1, 2]


def test_no_delay_is_the_immediate_retry() -> None:
    run = play(retried(initial_delay="0s"), broken("a", "x", "transient"))

    assert run.queued == {"a"}
    assert run.step("a").attempt == 2


def test_delays_double_up_to_the_ceiling() -> None:
    policy = RetryPolicy(initial_delay=1, multiplier=2, max_delay=10, jitter=0)

    assert [seconds(policy, n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_the_millionth_delay_is_the_ceiling() -> None:
    policy = RetryPolicy(initial_delay=1, multiplier=1000, max_delay=60, jitter=0)

    assert seconds(policy, 1_000_000) == 60


@given(st.integers(1, 20), st.floats(0, 1), st.integers())
def test_jitter_stays_within_its_share_of_the_delay(n: int, jitter: float, seed: int) -> None:
    plain = RetryPolicy(jitter=0)
    policy = RetryPolicy(jitter=jitter)

    drawn = delay(policy, failures=n, chance=Random(seed)).total_seconds()

    middle = seconds(plain, n)
    assert middle * (1 - jitter) - 1e-5 <= drawn <= middle * (1 + jitter) + 1e-5


@given(st.integers(1, 20), st.integers())
def test_full_jitter_draws_from_zero_to_the_delay(n: int, seed: int) -> None:
    drawn = delay(RetryPolicy(jitter="full"), failures=n, chance=Random(seed)).total_seconds()

    assert 0 <= drawn <= seconds(RetryPolicy(jitter=0), n)


def test_jitter_does_spread() -> None:
    chance = Random(0)

    drawn = {delay(RetryPolicy(jitter="full"), failures=3, chance=chance) for _ in range(20)}

    assert len(drawn) == 20


@pytest.mark.parametrize(("asked", "waits"), [(120.0, 120.0), (0.0, 0.0), (-3.0, 0.0)])
def test_what_the_server_asks_for_wins(asked: float, waits: float) -> None:
    assert seconds(RetryPolicy(max_delay=60), 1, retry_after=asked) == waits


def test_a_servers_wish_reaches_the_row() -> None:
    run = play(retried(), Failed("a", 1, error_of("http.429", "transient", retry_after=90)))

    assert run.step("a").wake_at == run.now + timedelta(seconds=90)


@pytest.mark.parametrize(
    ("error_class", "again"),
    [
        ("transient", True),
        ("timeout", True),
        ("permanent", False),
        ("business", False),
        ("worker_lost", False),
        ("uncertain", False),
        ("cancelled", False),
    ],
)
def test_each_class_is_retried_or_not(error_class: str, again: bool) -> None:
    assert is_retried(RetryPolicy(), error_of("x.y", error_class), failures=1) is again


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["permanent"], True),
        (["http.503"], True),
        (["http"], True),
        (["http.50"], False),
        (["sql", "transient"], False),
        (["http.503.upstream"], False),
    ],
)
def test_retry_on_names_classes_codes_and_beginnings_of_codes(
    words: list[str], again: bool
) -> None:
    policy = RetryPolicy(retry_on=tuple(words))

    assert is_retried(policy, error_of("http.503", "permanent"), failures=1) is again


def test_retry_on_leaves_out_what_it_does_not_name() -> None:
    policy = RetryPolicy(retry_on=("http.503",))

    assert not is_retried(policy, error_of("http.500", "transient"), failures=1)


def test_give_up_on_wins_over_retry_on() -> None:
    policy = RetryPolicy(retry_on=("http",), give_up_on=("http.501",))

    assert not is_retried(policy, error_of("http.501", "transient"), failures=1)
    assert is_retried(policy, error_of("http.502", "transient"), failures=1)


@pytest.mark.parametrize("error_class", ["uncertain", "cancelled"])
def test_no_policy_can_ask_for_a_blind_repeat(error_class: str) -> None:
    policy = RetryPolicy(retry_on=(error_class, "x"), max_attempts=99)

    assert not is_retried(policy, error_of("x.y", error_class), failures=1)


def test_a_lost_worker_is_replaced_at_once_and_costs_no_failure() -> None:
    run = play(retried(max_attempts=1), lost("a"))

    assert run.queued == {"a"}
    assert (run.step("a").attempt, run.step("a").failures, run.step("a").losses) == (2, 0, 1)
    assert run.reason("a") is Reason.WORKER_LOST


def test_lost_workers_have_a_budget_of_their_own() -> None:
    run = play(retried(worker_lost_attempts=2, initial_delay=0))

    run.hear(broken("a", "x", "transient"), lost("a", 2), lost("a", 3))

    assert run.state is RunState.FAILED
    (incident,) = run.incidents
    assert incident.error.error_class == "worker_lost"
    assert [record.end for record in run.attempts] == ["failed", "lost", "lost"]


def test_a_worker_that_was_told_to_stop_uses_up_no_try() -> None:
    run = play(retried(worker_lost_attempts=1))

    run.hear(*(lost("a", number, loss=Loss.STOPPED) for number in (1, 2, 3)))

    assert run.queued == {"a"}
    assert (run.step("a").attempt, run.step("a").losses) == (4, 0)
    assert {record.error and record.error.code for record in run.attempts} == {"worker.stopped"}


def test_a_step_that_had_to_be_ended_has_timed_out_and_is_retried_as_such() -> None:
    run = play(retried(max_attempts=2, initial_delay=0, worker_lost_attempts=1))

    run.hear(*(lost("a", number, loss=Loss.OVERRAN) for number in (1, 2)))

    assert run.state is RunState.FAILED
    assert [record.end for record in run.attempts] == ["failed", "failed"]
    (incident,) = run.incidents
    assert (incident.error.error_class, incident.error.code) == ("timeout", "task.timeout")


def test_the_next_attempt_is_not_shown_the_error_of_the_last() -> None:
    run = play(retried(initial_delay=0), broken("a", "x", "transient")).claim("a", 2)

    assert run.step("a").state is StepState.RUNNING
    assert run.step("a").error is None


def test_the_simulation_waits_as_long_as_the_policy_says() -> None:
    plan = plan_from(
        {
            "id": "a",
            "uses": "fail",
            "with": {"class": "transient", "times": 2},
            "retry": {"initial_delay": "1h", "multiplier": 2, "max_delay": "1d", "jitter": 0},
        }
    )

    run = simulate(plan)

    assert run.state is RunState.COMPLETED
    assert run.finished_at is not None
    assert run.finished_at - run.started_at == timedelta(hours=3)


def test_a_retry_that_could_only_start_too_late_is_not_made_and_the_error_says_so() -> None:
    run = play(retried(max_attempts=9, initial_delay="6s", jitter=0, max_duration="10s"))

    run.claim("a").after(2).hear(broken("a", "x", "transient"))
    run.after(6).hear(RetryDue("a", 1), broken("a", "x", "transient", attempt=2))

    (incident,) = run.incidents
    assert run.state is RunState.FAILED
    assert (incident.attempt, incident.error.code) == (2, "x")
    assert incident.error.message == (
        "x happened; it is not tried again, for that could only be in 12 s,"
        " and all attempts together have 10 s"
    )


def test_time_for_all_attempts_is_counted_from_the_first_start_of_the_step() -> None:
    run = play(retried(max_attempts=9, initial_delay="1s", jitter=0, max_duration="10s"))

    run.after(3600).claim("a").after(4).hear(broken("a", "x", "transient"))

    assert run.step("a").state is StepState.RETRYING
    assert run.step("a").retry_until == run.now + timedelta(seconds=6)


def test_time_for_all_attempts_bounds_those_after_lost_workers_too() -> None:
    run = play(retried(worker_lost_attempts=9, max_duration="10s"))

    run.claim("a").after(8).hear(lost("a")).claim("a", 2).after(8).hear(lost("a", 2))

    assert run.accused == ["a"]
    assert "all attempts together have 10 s" in run.incidents[0].error.message


def test_a_probe_is_asked_also_when_no_retry_may_start_any_more() -> None:
    run = play(retried(max_duration="10s")).claim("a").after(20)

    run.hear(lost("a", repeat=Repeat.AFTER_PROBE))

    assert run.queued == {"a"}
    assert run.reason("a") is Reason.LAST_PROBE


def test_a_replayed_step_has_time_for_its_attempts_anew() -> None:
    run = play(retried(initial_delay="1s", jitter=0, max_duration="10s")).claim("a")
    run.after(20).hear(broken("a", "x", "transient"))

    run.after(3600).hear(Replayed("a"), broken("a", "x", "transient", attempt=2))

    assert run.step("a").state is StepState.RETRYING
