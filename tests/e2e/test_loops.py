"""Loops, carried out by real workers: windows, failures, and a worker that is killed."""

import os
import signal

import pytest

from tests.e2e.builders import log, shell, sleep, started, states, until
from tests.support import invariants
from tests.support.platform import Platform
from workflows.models import Run, Step

pytestmark = pytest.mark.e2e


def ended_of(run: Run) -> int:
    return Step.objects.filter(run=run, scope="each", state="COMPLETED").count()


def test_many_items_are_done_a_window_at_a_time(platform: Platform) -> None:
    body = log("one", **{"with": {"message": "item ${{ item }}"}})
    loop = {"id": "each", "foreach": "${{ 300 }}", "max_parallel": 20, "steps": [body]}
    run = started(loop, output="${{ size(steps.each.output) }}")

    ended = platform.finished(run)

    assert (ended.state, ended.output) == ("COMPLETED", 300)
    assert Step.objects.get(run=run, path="each").born == 300
    assert invariants.left_over(runs=[run.pk]) == []


def test_a_nested_loop_that_partly_fails_says_which_items_did(platform: Platform) -> None:
    inner = {
        "id": "inner",
        "foreach": ["true", "false"],
        "as": "program",
        "on_item_failure": "continue",
        "steps": [shell("try", "${{ program }}", retry={"max_attempts": 1})],
    }
    outer = {"id": "each", "foreach": [1, 2], "on_item_failure": "continue", "steps": [inner]}
    run = started(outer)

    platform.finished(run)

    failed = run.incidents.filter(resolution="").values_list("path", flat=True)
    assert sorted(failed) == ["each[0].inner[1].try", "each[1].inner[1].try"]
    assert invariants.left_over(runs=[run.pk]) == []


def test_rounds_come_until_the_condition_is_true(platform: Platform) -> None:
    count = {"id": "count", "set": {"n": "${{ vars.n + 1 }}"}}
    loop = {
        "id": "again",
        "repeat": {"until": "${{ vars.n == 3 }}", "every": "100ms", "max_times": 9},
        "steps": [log("look"), count],
    }
    run = started({"id": "first", "set": {"n": 0}}, loop, output="${{ vars.n }}")

    ended = platform.finished(run)

    assert (ended.state, ended.output) == ("COMPLETED", 3)


def test_a_worker_that_is_killed_in_a_loop_loses_no_item_and_repeats_none_that_ended(
    platform: Platform,
) -> None:
    body = sleep("nap", 0.2)
    loop = {"id": "each", "foreach": "${{ 30 }}", "max_parallel": 4, "steps": [body]}
    with platform.worker() as worker:
        run = started(loop)
        until(lambda: ended_of(run) >= 4, run)
        done = {path for path, state in states(run).items() if state == "COMPLETED"}
        os.killpg(worker.pid, signal.SIGKILL)

    ended = platform.finished(run, seconds=120)

    assert ended.state == "COMPLETED"
    repeated = Step.objects.filter(run=run, path__in=done, attempt__gt=1)
    assert list(repeated.values_list("path", flat=True)) == []
    assert invariants.left_over(runs=[run.pk]) == []
