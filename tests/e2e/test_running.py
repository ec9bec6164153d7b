"""Runs that nothing happens to: chains, fan-outs, lines, retries, operators, two environments."""

import time

import pytest

from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    ends,
    log,
    messages,
    shell,
    sleep,
    started,
    states,
    until_step,
)
from tests.support.platform import Platform
from workers.publisher import SEGMENT, SETTLE, TAKE
from workflows.models import Attempt, Journal
from workflows.services.runs import cancel_run, pause_run, resume_run, start_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_chain_runs_on_in_one_message(platform: Platform) -> None:
    before = messages()

    run = started(*(log(f"s{n}") for n in range(10)))

    assert platform.finished(run).state == "COMPLETED"
    assert (messages() - before)[SEGMENT] == 1
    assert ends(run) == {f"s{n}": ["completed"] for n in range(10)}


def test_a_fan_out_joins_and_does_no_child_twice(platform: Platform) -> None:
    children = [log(f"c{n}") for n in range(200)]
    before = messages()

    run = started({"id": "all", "parallel": children}, log("after"))

    assert platform.finished(run).state == "COMPLETED"
    assert set(states(run).values()) == {"COMPLETED"}
    begun = Journal.objects.filter(run=run, path__startswith="all.", after="RUNNING")
    assert begun.count() == 200
    sent = messages() - before
    assert 1 <= sent[TAKE] <= 64
    assert (sent[SETTLE], sent[SEGMENT]) == (1, 1)


def test_a_retry_waits_longer_each_time(platform: Platform) -> None:
    retry = {"max_attempts": 3, "initial_delay": "1s", "multiplier": 2, "jitter": 0}
    arguments = {"times": 2, "class": "transient"}

    run = started({"id": "flaky", "uses": "fail", "with": arguments, "retry": retry}, log("after"))

    assert platform.finished(run).state == "COMPLETED"
    assert ends(run) == {"flaky": ["failed", "failed", "completed"], "after": ["completed"]}
    first, second, third = Attempt.objects.filter(run=run, step__path="flaky").order_by("number")
    assert (second.started_at - first.finished_at).total_seconds() >= 1
    assert (third.started_at - second.finished_at).total_seconds() >= 2


def test_a_line_crosses_the_queues_of_two_classes(platform: Platform) -> None:
    an_environment("twofold", "heavy")
    steps = log("fetch"), log("crunch", **{"class": "heavy"}), log("store")

    with platform.worker("twofold"):
        run = started(*steps, environment="twofold")

        assert platform.finished(run).state == "COMPLETED"
    assert ends(run) == {"fetch": ["completed"], "crunch": ["completed"], "store": ["completed"]}
    assert set(run.steps.values_list("path", "queue")) == {
        ("fetch", "env.twofold.default"),
        ("crunch", "env.twofold.heavy"),
        ("store", "env.twofold.default"),
    }


def test_work_of_one_environment_is_never_done_by_the_worker_of_another(
    platform: Platform,
) -> None:
    an_environment("north")
    name = applied(log("first"), log("second"))
    here = start_run(workflow=name, by=ANN).run
    there = start_run(workflow=name, environment="north", by=ANN).run

    assert platform.finished(here).state == "COMPLETED"
    assert states(there) == {"first": "QUEUED", "second": "PENDING"}
    with platform.worker("north"):
        assert platform.finished(there).state == "COMPLETED"

    of_here = set(here.attempts.values_list("worker", flat=True))
    of_there = set(there.attempts.values_list("worker", flat=True))
    assert all("north" in worker for worker in of_there)
    assert not any("north" in worker for worker in of_here)


@pytest.mark.parametrize("kind", ["sleep", "shell"])
def test_a_cancel_stops_what_is_running(platform: Platform, kind: str) -> None:
    slow = sleep("slow", 300) if kind == "sleep" else shell("slow", "sleep", "300")
    run = started(slow, log("after"))
    until_step(run, "slow", "RUNNING")
    began = time.monotonic()

    cancel_run(run_id=run.pk, by=ANN)

    assert platform.finished(run).state == "CANCELLED"
    assert time.monotonic() - began < 20
    assert states(run) == {"slow": "CANCELLED", "after": "CANCELLED"}


def test_a_run_that_is_paused_in_the_middle_goes_on_where_it_stood(platform: Platform) -> None:
    run = started(log("first"), sleep("second", 2), log("third"), log("fourth"))
    until_step(run, "second", "RUNNING")

    pause_run(run_id=run.pk, by=ANN)
    until_step(run, "second", "COMPLETED")
    assert states(run)["third"] == "QUEUED"
    resume_run(run_id=run.pk, by=ANN)

    assert platform.finished(run).state == "COMPLETED"
    assert ends(run) == {path: ["completed"] for path in ("first", "second", "third", "fourth")}
