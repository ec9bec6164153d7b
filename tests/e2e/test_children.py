"""Child runs and steps elsewhere, with real workers: their way down, and up again."""

import os
import signal
from typing import Any

import pytest

from environments.models import Environment
from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    log,
    sleep,
    started,
    states,
    until,
    until_step,
)
from tests.support.platform import Platform
from workflows.models import Attempt, Run, Step, Wait
from workflows.services.runs import cancel_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def call(workflow: str, name: str = "call", **keys: Any) -> dict[str, Any]:
    return {"id": name, "workflow": workflow, **keys}


def test_three_levels_of_child_runs_go_down_and_come_up_again(platform: Platform) -> None:
    lowest = applied(log("work"), output="${{ steps.work.output.message }}")
    middle = applied(call(lowest), output="${{ steps.call.output + '!' }}")

    run = started(call(middle), log("after"), output="${{ steps.call.output }}")

    assert platform.finished(run).output == "work!"
    assert set(Run.objects.values_list("state", flat=True)) == {"COMPLETED"}


def test_many_child_runs_side_by_side_are_all_heard_of(platform: Platform) -> None:
    name = applied(log("one"), log("two"))

    run = started({"id": "all", "parallel": [call(name, f"c{n}") for n in range(30)]}, log("after"))

    assert platform.finished(run).state == "COMPLETED"
    assert Run.objects.filter(parent=run.pk, state="COMPLETED").count() == 30
    assert not Wait.objects.filter(due__isnull=False).exists()


def test_a_cancel_reaches_the_work_of_the_lowest_child_run(platform: Platform) -> None:
    lowest = applied(sleep("work", 60))
    run = started(call(applied(call(lowest))))
    until(lambda: states(Run.objects.latest("id")).get("work") == "RUNNING", run)

    cancel_run(run_id=run.pk, by=ANN)

    assert platform.finished(run).state == "CANCELLED"
    until(lambda: set(Run.objects.values_list("state", flat=True)) == {"CANCELLED"}, run)


def test_a_step_elsewhere_is_carried_out_by_the_workers_there_alone(platform: Platform) -> None:
    an_environment("vault")
    Environment.objects.filter(name="vault").update(
        admits=["default"], variables={"place": "there"}
    )
    read = {"message": "${{ env.place }}"}
    sign = {"id": "sign", "environment": "vault", "uses": "log", "with": read}
    run = started(log("before"), sign, log("after"))
    until_step(run, "sign", "QUEUED")

    with platform.worker("vault"):
        assert platform.finished(run).state == "COMPLETED"

    workers = dict(Attempt.objects.filter(run=run).values_list("step__path", "worker"))
    assert workers["sign"].partition(".")[0] != workers["after"].partition(".")[0]
    assert Step.objects.get(run=run, path="sign").output == {"message": "there"}


def test_a_child_run_survives_the_worker_that_carries_it_out(hasty: Platform) -> None:
    an_environment("brittle")
    name = applied(sleep("work", 3), log("after"))
    run = started(call(name), log("after"), environment="brittle")
    with hasty.worker("brittle") as worker:
        until(lambda: states(Run.objects.latest("id")).get("work") == "RUNNING", run)
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("brittle"):
        assert hasty.finished(run).state == "COMPLETED"

    assert Run.objects.filter(parent=run.pk).count() == 1
