"""A circuit breaker, pure: what it makes of failures, of time, of a trial and of people."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.engine.builders import error_of
from workflows.engine.breaker import (
    RAMP_LAST,
    Answer,
    Breaker,
    BreakerState,
    Passage,
    Rule,
    answer_of,
    answered,
    closed_by_hand,
    failed,
    opened_by_hand,
    passage,
    ramped,
    with_trial,
)
from workflows.engine.simulate import EPOCH

RULE = Rule(threshold=3, window=60, cool_down=30, longest_cool_down=100)
DOWN = error_of("http.503", "transient")


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def after_failures(*seconds: float) -> Breaker:
    breaker = Breaker(rule=RULE)
    for moment in seconds:
        breaker = failed(breaker, DOWN, now=at(moment))
    return breaker


def comes(breaker: Breaker, seconds: float, **facts: bool) -> Passage:
    usual = {"is_permitted": False, "is_trial": False, "waiting": False}
    return passage(breaker, **(usual | facts), now=at(seconds))


def test_enough_failures_within_the_window_open_it_and_say_why() -> None:
    breaker = after_failures(0, 10, 20)

    assert breaker.state is BreakerState.OPEN
    assert breaker.trial_at == at(50)
    assert "3 failures within 60 s" in breaker.why
    assert "http.503" in breaker.why


def test_failures_that_lie_further_apart_do_not_open_it() -> None:
    assert after_failures(0, 40, 80, 120, 160).state is BreakerState.CLOSED


@pytest.mark.parametrize("error_class", ["permanent", "business", "worker_lost", "cancelled"])
def test_what_says_nothing_about_the_dependency_does_not_count(error_class: str) -> None:
    breaker = Breaker(rule=RULE)

    for _ in range(5):
        breaker = failed(breaker, error_of("it.broke", error_class), now=EPOCH)

    assert breaker == Breaker(rule=RULE)


def test_no_step_passes_while_it_is_open_and_one_may_try_once_it_has_cooled_down() -> None:
    breaker = after_failures(0, 0, 0)

    assert comes(breaker, 29) is Passage.PARK
    assert comes(breaker, 30) is Passage.TRIAL


def test_while_one_tries_nobody_else_passes() -> None:
    breaker = with_trial(after_failures(0, 0, 0), 7, now=at(30))

    assert breaker.state is BreakerState.HALF_OPEN
    assert comes(breaker, 31) is Passage.PARK
    assert comes(breaker, 31, is_permitted=True, is_trial=True) is Passage.THROUGH


def test_each_failed_trial_doubles_the_cool_down_up_to_the_longest() -> None:
    breaker, waits = after_failures(0, 0, 0), []

    for seconds in (30, 90, 190):
        tried = with_trial(breaker, 7, now=at(seconds))
        breaker = answered(tried, Answer.BADLY, now=at(seconds))
        waits.append(breaker.cool_down)

    assert waits == [60, 100, 100]


def test_a_dependency_that_was_well_for_long_cools_down_as_briefly_as_at_first() -> None:
    tried = with_trial(after_failures(0, 0, 0), 7, now=at(30))
    closed = answered(tried, Answer.WELL, now=at(31))

    for _ in range(3):
        closed = failed(closed, DOWN, now=at(300))

    assert closed.cool_down == 30


def test_a_trial_that_went_well_lets_parked_steps_go_before_new_ones() -> None:
    breaker = answered(with_trial(after_failures(0, 0, 0), 7, now=at(30)), Answer.WELL, now=at(31))

    assert breaker.state is BreakerState.CLOSED
    assert comes(breaker, 31, waiting=True) is Passage.PARK
    assert comes(breaker, 31, waiting=True, is_permitted=True) is Passage.THROUGH
    assert comes(breaker, 31, waiting=False) is Passage.THROUGH


def test_it_ramps_up_by_doubling_but_only_while_what_was_let_go_gets_through() -> None:
    breaker, widths = replace(Breaker(rule=RULE), ramp=1), []

    for under_way in (0, 2, 2, 1, 0):
        breaker = ramped(breaker, waiting=True, under_way=under_way, now=EPOCH)
        widths.append(breaker.ramp)

    assert widths == [2, 2, 2, 4, 8]


@pytest.mark.parametrize(("ramp", "waiting"), [(4, False), (RAMP_LAST * 2, True)])
def test_ramping_up_ends_when_nobody_waits_or_enough_get_through(ramp: int, waiting: bool) -> None:
    breaker = ramped(replace(Breaker(), ramp=ramp), waiting=waiting, under_way=0, now=EPOCH)

    assert breaker.state is BreakerState.CLOSED
    assert breaker.ramp is None


def test_a_trial_of_which_nobody_knows_makes_room_for_another() -> None:
    tried = with_trial(after_failures(0, 0, 0), 7, now=at(30))

    breaker = answered(tried, Answer.NEVER, now=at(40))

    assert comes(breaker, 40) is Passage.TRIAL


def test_one_that_a_person_opened_stays_so_until_a_person_closes_it() -> None:
    breaker = opened_by_hand(Breaker(rule=RULE), "maintenance", now=EPOCH)

    assert comes(breaker, 10_000) is Passage.PARK
    assert closed_by_hand(breaker, "done", now=at(10_000)).state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("code", "error_class", "answer"),
    [
        ("http.503", "transient", Answer.BADLY),
        ("task.timeout", "timeout", Answer.BADLY),
        ("http.404", "permanent", Answer.WELL),
        ("crm.refused", "business", Answer.WELL),
        ("expression.error", "permanent", Answer.NEVER),
        ("task.parameters", "permanent", Answer.NEVER),
        ("worker.lost", "worker_lost", Answer.NEVER),
    ],
)
def test_a_refusal_is_an_answer_and_what_never_came_to_the_dependency_is_none(
    code: str, error_class: str, answer: Answer
) -> None:
    assert answer_of(error_of(code, error_class)) is answer
