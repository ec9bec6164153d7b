"""What dies on the way: workers in the middle of a step, every message there is."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    ends,
    log,
    lose_every_message,
    shell,
    sleep,
    started,
    states,
    until,
    until_step,
)
from tests.support.bank.tasks import payments
from tests.support.platform import Platform
from workflows.models import Attempt, Incident, Run, Step
from workflows.services.orders import Order
from workflows.services.runs import start_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_worker_that_is_killed_in_the_middle_of_a_step_costs_that_attempt_and_no_other(
    hasty: Platform,
) -> None:
    an_environment("fragile")
    with hasty.worker("fragile") as worker:
        safe = started(log("before"), sleep("held", 4), log("after"), environment="fragile")
        unsafe = started(log("before"), shell("pay", "sleep", "60"), environment="fragile")
        until_step(safe, "held", "RUNNING")
        until_step(unsafe, "pay", "RUNNING")
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("fragile"):
        assert hasty.finished(safe).state == "COMPLETED"
        assert hasty.finished(unsafe).state == "FAILED"

    done = ["completed"]
    assert ends(safe) == {"before": done, "held": ["lost", "completed"], "after": done}
    assert ends(unsafe) == {"before": done, "pay": ["lost"]}
    assert Incident.objects.get(run=unsafe, resolution="").error_class == "uncertain"


def test_a_probe_tells_what_became_of_a_step_whose_worker_was_killed(
    hasty: Platform, tmp_path: Path
) -> None:
    an_environment("shaky")
    before, after, closed = (tmp_path / name for name in ("before", "after", "closed"))
    asked: dict[Path, dict[str, Any]] = {
        before: {"hang": "before"},
        after: {"hang": "after"},
        closed: {"hang": "after", "closed": True},
    }
    with hasty.worker("shaky", processes=3) as worker:
        runs = {ledger: paying(ledger, **keys) for ledger, keys in asked.items()}
        for run in runs.values():
            until_step(run, "pay", "RUNNING")
        until(lambda: payments(after) != [] != payments(closed), runs[closed])
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("shaky"):
        states = {ledger: hasty.finished(run).state for ledger, run in runs.items()}

    assert states == {before: "COMPLETED", after: "COMPLETED", closed: "FAILED"}
    assert {ends(run)["pay"][0] for run in runs.values()} == {"lost"}
    assert [payments(ledger) for ledger in runs] == [[f"{run.pk}:pay"] for run in runs.values()]
    incident = Incident.objects.get(resolution="")
    assert (incident.run, incident.error_class) == (runs[closed], "uncertain")
    assert "the ledger is closed" in incident.message


def paying(ledger: Path, **keys: Any) -> Run:
    step = {"id": "pay", "uses": "bank.pay", "with": {"ledger": str(ledger), **keys}}
    return started(step, log("after"), environment="shaky")


def test_losing_every_message_in_the_middle_of_many_runs_loses_no_run(platform: Platform) -> None:
    block = {"id": "block", "parallel": [log(f"b{n}") for n in range(9)]}
    name = applied(log("first"), sleep("second", 0.05), block, log("last"))
    runs = [one.run for one in start_runs(orders=[Order(name)] * 30, by=ANN)]
    until(lambda: Run.objects.filter(state="COMPLETED").count() >= 3, runs[-1])

    for _ in range(3):
        lose_every_message()
        let_the_age_of_queued_steps_be_long()
    until(lambda: all_ended(again=True), runs[-1], seconds=120)

    assert set(Run.objects.values_list("state", flat=True)) == {"COMPLETED"}
    assert set(Step.objects.values_list("state", flat=True)) == {"COMPLETED"}
    assert Attempt.objects.count() == 30 * 12
    assert states(runs[0])["block.b8"] == "COMPLETED"


def let_the_age_of_queued_steps_be_long() -> None:
    """Have half a minute pass for the steps that wait in the queue, and for nothing else."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE workflows_step SET wake_at = wake_at - interval '31 s' WHERE state = 'QUEUED'"
        )


def all_ended(*, again: bool) -> bool:
    if again:
        let_the_age_of_queued_steps_be_long()
    return not Run.objects.filter(state="RUNNING").exists()
