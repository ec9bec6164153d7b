"""Messages come late, twice, or both; what a step does not hear in its state changes nothing."""

import pytest

from tests.engine.builders import LEASE, broken, done, lost, plan_from, plan_of, play, task
from workflows.engine.advance import ACCEPTS
from workflows.engine.events import Claimed, Drained, Event, RetryDue, Started, TimedOut
from workflows.engine.simulate import EPOCH
from workflows.engine.states import StepState

RETRIED = plan_of("a > b", a={"retry": {"max_attempts": 3, "initial_delay": 1, "jitter": 0}})
FAILURE = broken("a", "x", "transient")

LATE: list[Event] = [
    done("a", output="late"),
    broken("a", "late"),
    lost("a"),
    RetryDue("a", 1),
    Claimed("a", 1, "another", EPOCH + LEASE),
    TimedOut("a"),
    Drained("a"),
    Drained(""),
    Started(),
]


@pytest.mark.parametrize("event", LATE, ids=lambda event: type(event).__name__)
def test_an_event_of_an_earlier_attempt_changes_nothing(event: Event) -> None:
    now = play(RETRIED, FAILURE, RetryDue("a", 1)).claim("a", 2)
    before = (now.states(), now.step("a"), now.run, len(now.journal))

    now.decide(event)

    assert (now.states(), now.step("a"), now.run, len(now.journal)) == before


def test_a_late_result_is_kept() -> None:
    run = play(RETRIED, FAILURE, RetryDue("a", 1)).claim("a", 2)

    run.decide(done("a", output="late"))
    run.decide(broken("a", "late.too"))

    assert [(late.path, late.attempt, late.output) for late in run.late] == [
        ("a", 1, "late"),
        ("a", 1, None),
    ]
    assert run.late[1].error is not None


@pytest.mark.parametrize(
    "event", [done("a"), broken("a"), FAILURE, lost("a")], ids=lambda event: type(event).__name__
)
def test_an_outcome_that_comes_twice_counts_once(event: Event) -> None:
    once = play(RETRIED).claim("a")
    twice = play(RETRIED).claim("a")

    once.decide(event)
    twice.decide(event)
    twice.decide(event)

    assert twice.states() == once.states()
    assert twice.journal == once.journal
    assert twice.step("b").tally == once.step("b").tally


@pytest.mark.parametrize("event", [done("a"), broken("a"), FAILURE])
def test_the_very_word_that_ended_an_attempt_is_not_kept_as_a_late_one(event: Event) -> None:
    run = play(RETRIED, event)

    run.decide(event)

    assert run.late == []


def test_another_word_about_an_attempt_that_was_lost_is_kept() -> None:
    run = play(RETRIED, lost("a"))

    run.decide(broken("a"))

    assert [late.attempt for late in run.late] == [1]


def test_a_step_is_claimed_by_one_worker() -> None:
    run = play(plan_of("a"))

    run.decide(Claimed("a", 1, "one", run.now + LEASE))
    run.decide(Claimed("a", 1, "two", run.now + LEASE))

    assert run.step("a").worker == "one"


def test_an_outcome_nobody_claimed_is_not_believed() -> None:
    run = play(plan_of("a"))

    run.decide(done("a"))

    assert run.queued == {"a"}
    assert len(run.late) == 1


def test_an_event_about_a_step_that_is_not_there_yet_changes_nothing() -> None:
    plan = plan_from(task("a", catch=[{"steps": [task("rescue")]}]))

    assert play(plan, RetryDue("a.catch[0].rescue", 1)) == play(plan)


def test_a_run_starts_once() -> None:
    assert play(RETRIED, Started()) == play(RETRIED)


def test_settling_a_block_again_changes_nothing() -> None:
    plan = plan_from({"id": "s", "parallel": [task("x"), task("y")]})

    assert play(plan, done("s.x"), Drained("s")) == play(plan, done("s.x"))


def test_a_final_step_hears_only_people_and_the_engine() -> None:
    heard = {event.__name__ for state in StepState for event in ACCEPTS.get(state, ())}

    assert {event.__name__ for event in ACCEPTS[StepState.FAILED]} == {
        "Replayed",
        "SkipDecided",
        "Discarded",
    }
    assert StepState.COMPLETED not in ACCEPTS
    assert {"Succeeded", "Failed", "LeaseExpired", "RetryDue", "TimedOut"} <= heard
