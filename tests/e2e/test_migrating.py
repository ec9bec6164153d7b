"""Runs go over to another version while real workers are at them, past deaths and lost messages."""

import json
import os
import signal

import pytest

from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    ends,
    log,
    lose_every_message,
    sleep,
    states,
    until_step,
)
from tests.support import invariants
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.definitions import apply_definition
from workflows.services.migrating import migrate_runs
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def another_version(name: str, *steps: dict[str, object], **document: object) -> None:
    text = json.dumps({"workflow": name, "steps": list(steps), **document})
    apply_definition(text=text, source="test.yaml", by=ANN)


def test_what_is_under_way_ends_once_and_the_rest_is_done_by_the_new_version(
    platform: Platform,
) -> None:
    name = applied(log("a"), sleep("long", 2), log("b"))
    runs = [start_run(workflow=name, by=ANN).run for _ in range(6)]
    until_step(runs[0], "long", "RUNNING")
    another_version(name, log("x", needs=[]), log("a", needs=[]), sleep("long", 2), log("y"))

    report = migrate_runs(run_ids=[run.pk for run in runs], by=ANN)

    assert len(report.done) == len(runs)
    assert {platform.finished(run).state for run in runs} == {"COMPLETED"}
    for run in runs:
        done = dict.fromkeys(("x", "a", "long", "y"), "COMPLETED")
        assert states(run) == {**done, "b~1": "SKIPPED"}
        assert ends(run) == {path: ["completed"] for path in done}
    assert invariants.left_over(runs=[run.pk for run in runs]) == []


def test_a_worker_that_dies_and_messages_that_are_lost_hold_no_migrated_run_up(
    hasty: Platform,
) -> None:
    an_environment("moving")
    name = applied(sleep("long", 3), log("b"), environment="moving")
    run = start_run(workflow=name, by=ANN).run
    with hasty.worker("moving") as worker:
        until_step(run, "long", "RUNNING")
        another_version(name, sleep("long", 3), log("y"), log("b"), environment="moving")
        migrate_runs(run_ids=[run.pk], by=ANN)
        os.killpg(worker.pid, signal.SIGKILL)
    lose_every_message()

    with hasty.worker("moving"):
        assert hasty.finished(run).state == "COMPLETED"

    assert states(run) == dict.fromkeys(("long", "y", "b"), "COMPLETED")
    assert Run.objects.get(pk=run.pk).version.number == 2
