"""Steps that do not listen are ended from outside, in time, and no other step is harmed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.builders import an_environment, ends, sleep, started, until_step
from tests.support.platform import Platform
from workflows.models import Attempt, Incident, Run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ONCE = {"max_attempts": 1}
WELL = [("completed", None)]
TIMED_OUT = [("failed", "task.timeout")]


@pytest.fixture
def strict(platform: Platform, process_env: dict[str, str]) -> Iterator[Platform]:
    """A worker with two processes, short of time and of memory, and the environment `strict`."""
    limits = {
        "TIMEOUT_GRACE_SECONDS": "1",
        "LONGEST_STEP_SECONDS": "6",
        "WORKER_MEMORY_MIB": "512",
    }
    an_environment("strict")
    with Platform(process_env | limits).worker("strict"):
        yield platform


def only(uses: str, **keys: Any) -> Run:
    step = {"id": "only", "uses": f"hostile.{uses}", "retry": ONCE, **keys}
    return started(step, environment="strict")


def attempts(run: Run, path: str = "only") -> list[tuple[str, str | None]]:
    found = Attempt.objects.filter(run=run, step__path=path).order_by("number")
    return [(one.end, one.error and one.error["code"]) for one in found]


def seconds_of(run: Run) -> float:
    [attempt] = Attempt.objects.filter(run=run)
    return (attempt.finished_at - attempt.started_at).total_seconds()


@pytest.mark.parametrize("uses", ["swallow", "hold"])
def test_a_step_that_does_not_yield_is_ended_after_its_grace_and_its_neighbour_goes_on(
    strict: Platform, uses: str
) -> None:
    neighbour = started(sleep("only", 4), environment="strict")
    until_step(neighbour, "only", "RUNNING")

    run = only(uses, timeout=1)

    assert strict.finished(run).state == "FAILED"
    assert attempts(run) == TIMED_OUT
    assert 2 <= seconds_of(run) < 6
    assert strict.finished(neighbour).state == "COMPLETED"
    assert attempts(neighbour) == WELL


def test_a_step_that_was_ended_is_tried_again_as_its_policy_says(strict: Platform) -> None:
    retry = {"max_attempts": 2, "initial_delay": 0, "worker_lost_attempts": 1}

    run = only("hold", timeout=1, retry=retry)

    assert strict.finished(run).state == "FAILED"
    assert attempts(run) == TIMED_OUT * 2


def test_a_step_without_a_timeout_of_its_own_is_ended_when_any_step_must_have_ended(
    strict: Platform,
) -> None:
    run = only("hold")

    assert strict.finished(run).state == "FAILED"
    assert attempts(run) == TIMED_OUT
    assert 7 <= seconds_of(run) < 11


def test_a_step_that_must_not_be_repeated_is_uncertain_when_it_had_to_be_ended(
    strict: Platform,
) -> None:
    run = only("hold_once", timeout=1, retry={"max_attempts": 5})

    assert strict.finished(run).state == "FAILED"
    assert attempts(run) == TIMED_OUT
    assert Incident.objects.get(run=run).error_class == "uncertain"


def test_the_death_of_a_process_is_noticed_at_once(strict: Platform) -> None:
    run = only("die")

    assert strict.finished(run).state == "COMPLETED"
    assert attempts(run) == [("lost", "worker.lost"), ("completed", None)]
    first, second = Attempt.objects.filter(run=run).order_by("number")
    assert (second.started_at - first.started_at).total_seconds() < 10


def test_a_step_that_takes_all_memory_fails_alone(strict: Platform) -> None:
    neighbour = started(sleep("only", 2), environment="strict")
    until_step(neighbour, "only", "RUNNING")

    run = only("leak")

    assert strict.finished(run).state == "FAILED"
    assert attempts(run) == [("failed", "task.memory")]
    assert strict.finished(neighbour).state == "COMPLETED"
    assert ends(neighbour) == {"only": ["completed"]}
