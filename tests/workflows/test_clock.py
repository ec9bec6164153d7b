"""Time is the database's; what is late is done by beat when nobody else does it."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from tests.workflows.builders import a_run, claimed, fail, in_future, set_due, states, task
from workers import lookout
from workflows import store
from workflows.services.runs import pause_run
from workflows.store.clock import Clock

pytestmark = pytest.mark.usefixtures("committed")

MOMENT = timedelta(seconds=5)


@pytest.mark.parametrize("wrong", [90, -90])
def test_a_process_whose_clock_is_wrong_has_the_time_of_the_database(wrong: int) -> None:
    right = timezone.now()

    with time_machine.travel(right + timedelta(seconds=wrong)):
        found = Clock().now()

    assert abs(found - right) < MOMENT


@pytest.mark.parametrize("wrong", [90, -90])
def test_a_clock_that_is_set_while_a_process_works_moves_no_time(wrong: int) -> None:
    clock = Clock()
    right = clock.now()

    with time_machine.travel(right + timedelta(seconds=wrong)):
        found = clock.now()

    assert abs(found - right) < MOMENT


def test_the_time_that_it_takes_to_connect_is_no_part_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, passed = Clock(), iter([0.0, 0.0, 60.0, 60.0, 60.0])

    with monkeypatch.context() as patch:
        patch.setattr("workflows.store.clock.monotonic", lambda: next(passed))
        found = clock.now()

    assert abs(found - timezone.now()) < MOMENT


def test_the_time_goes_on_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.now()
    monkeypatch.setattr("workflows.store.clock.READ", "SELECT of what is not there")
    clock.due = 0.0

    assert before <= clock.now() < before + MOMENT


def test_a_lease_that_the_engine_is_late_with_is_ended_by_the_lookout() -> None:
    run = a_run(task("only"))
    claimed(run, "only")

    done = lookout.look_for_late(now=in_future(37))

    assert done == [f"run {run.pk} step only: the lease of attempt 1 expired"]
    assert states(run)["only"] == "QUEUED"


def test_a_lease_that_has_just_expired_is_left_to_the_engine() -> None:
    run = a_run(task("only"))
    claimed(run, "only")

    assert lookout.look_for_late(now=in_future(31)) == []
    assert states(run)["only"] == "RUNNING"


def test_the_lookout_is_not_alarmed_by_what_a_paused_run_holds() -> None:
    run = a_run(task("only"))
    set_due(run, "only")
    pause_run(run_id=run.pk, by="person:ann")

    assert not store.is_overdue(timezone.now())


def ticks(seconds: float) -> int:
    """Return how many ticks a look that many seconds from now asks for."""
    asked: list[None] = []
    lookout.look(now=in_future(seconds), tick=lambda: asked.append(None))
    return len(asked)


def test_the_engine_is_asked_to_tick_when_a_retry_is_due_and_not_before() -> None:
    retry = {"max_attempts": 2, "initial_delay": "10s", "jitter": 0}
    fail(claimed(a_run(task("only", retry=retry)), "only"), "transient")

    assert (ticks(9), ticks(11)) == (0, 1)


def test_the_engine_is_asked_to_tick_when_the_time_of_a_block_is_up_and_not_before() -> None:
    a_run({"id": "block", "parallel": [task("left"), task("right")], "timeout": "10s"})

    assert (ticks(9), ticks(11)) == (0, 1)


def test_the_engine_is_asked_to_tick_when_the_time_of_a_run_is_up_and_not_before() -> None:
    claimed(a_run(task("only"), timeout="10s"), "only")

    assert (ticks(9), ticks(11)) == (0, 1)


def test_leases_and_queued_steps_are_left_to_the_sweep() -> None:
    claimed(a_run(task("only")), "only")
    a_run(task("only"))

    assert ticks(66) == 0


def test_a_tick_that_the_broker_does_not_take_is_no_trouble() -> None:
    claimed(a_run(task("only"), timeout="10s"), "only")
    asked: list[None] = []

    def tick() -> None:
        asked.append(None)
        raise OSError("no broker")

    lookout.look(now=in_future(11), tick=tick)

    assert asked == [None]
