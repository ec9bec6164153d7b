"""Few runs at a time with real workers: one after the other, past deaths and lost messages too."""

import os
import signal
from collections.abc import Sequence
from itertools import pairwise

import pytest

from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    log,
    lose_every_message,
    sleep,
    until_step,
)
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.forking import fork_run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ONE = {"key": "all", "limit": 1}


def never_two_at_once(runs: Sequence[Run]) -> bool:
    """Say whether each run began when the one before it had ended, in the order of creation."""
    stored = list(Run.objects.filter(pk__in=[run.pk for run in runs]).order_by("created_at", "id"))
    pairs = pairwise(stored)
    return all(
        one.finished_at and other.started_at and one.finished_at <= other.started_at
        for one, other in pairs
    )


def test_runs_with_one_key_are_carried_out_one_after_the_other(platform: Platform) -> None:
    name = applied(log("a"), log("b"), concurrency=ONE)

    runs = [start_run(workflow=name, by=ANN).run for _ in range(5)]

    assert {platform.finished(run).state for run in runs} == {"COMPLETED"}
    assert never_two_at_once(runs)


def test_a_killed_worker_and_lost_messages_leave_nobody_waiting_for_ever(hasty: Platform) -> None:
    an_environment("narrow")
    name = applied(sleep("held", 3), concurrency=ONE, environment="narrow")
    runs = [start_run(workflow=name, by=ANN).run for _ in range(3)]
    with hasty.worker("narrow") as worker:
        until_step(runs[0], "held", "RUNNING")
        os.killpg(worker.pid, signal.SIGKILL)
    lose_every_message()

    with hasty.worker("narrow"):
        assert {hasty.finished(run).state for run in runs} == {"COMPLETED"}

    assert never_two_at_once(runs)


def test_a_fork_is_carried_out_from_its_step_on(platform: Platform) -> None:
    name = applied(log("a"), log("b"), log("c"))
    run = start_run(workflow=name, by=ANN).run
    platform.finished(run)

    new = fork_run(run_id=run.pk, from_path="b", by=ANN).run

    assert platform.finished(new).state == "COMPLETED"
    done = new.attempts.order_by("id").values_list("step__path", flat=True)
    assert list(done) == ["b", "c"]
