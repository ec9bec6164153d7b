"""Events with the whole platform: published, waited for, starting runs, and lost messages."""

import os
import signal
import time
from typing import Any

import pytest

from tests.e2e.builders import (
    ANN,
    PATIENCE,
    applied,
    log,
    lose_every_message,
    shell,
    until,
    until_step,
)
from tests.support import invariants
from tests.support.platform import Platform
from workflows.models import EventEffect, Run, Step, Wait
from workflows.services.events import publish_event
from workflows.services.orders import Order
from workflows.services.runs import StartedRun, start_run, start_runs

pytestmark = pytest.mark.e2e

SETTLED = {"type": "payment.settled", "match": "${{ event.data.order == input.order }}"}


def publish(type: str, data: Any, id: str) -> Any:  # noqa: A002 - the attributes of an event
    event = {"specversion": "1.0", "id": id, "source": "/e2e", "type": type, "data": data}
    return publish_event(event=event, by=ANN)


def the_run_of(workflow: str) -> Run:
    """Wait until there is a run of the workflow."""
    deadline = time.monotonic() + PATIENCE
    while (run := Run.objects.filter(workflow__name=workflow).first()) is None:
        assert time.monotonic() < deadline, "no run was started"
        time.sleep(0.05)
    return run


def test_an_event_starts_a_run_that_waits_for_another_which_came_early(platform: Platform) -> None:
    triggers = [{"event": {"type": "order.placed", "input": {"order": "${{ event.data.id }}"}}}]
    done = log("ship", **{"with": {"message": "sum ${{ steps.paid.output.sum }}"}})
    name = applied(log("ask"), {"id": "paid", "event": SETTLED}, done, triggers=triggers)

    publish("payment.settled", {"order": "A-1", "sum": 12}, "early")
    publish("order.placed", {"id": "A-1"}, "placed")
    publish("order.placed", {"id": "A-1"}, "placed")
    ended = platform.finished(the_run_of(name))

    assert ended.state == "COMPLETED"
    assert Step.objects.get(run=ended, path="ship").output["message"] == "sum 12"
    assert Run.objects.filter(workflow__name=name).count() == 1


def test_one_event_wakes_a_hundred_runs_though_every_message_is_lost(platform: Platform) -> None:
    name = applied({"id": "paid", "event": SETTLED}, log("ship"))
    orders = [Order(name, {"order": "B-1"}) for _ in range(100)]
    runs = [one.run for one in start_runs(orders=orders, by=ANN) if isinstance(one, StartedRun)]
    until(lambda: Wait.objects.filter(run__in=runs, closed_at=None).count() == 100, runs[0])

    event = publish("payment.settled", {"order": "B-1"}, "for-all")
    lose_every_message()
    ends = {platform.finished(run).state for run in runs}

    assert ends == {"COMPLETED"}
    assert EventEffect.objects.filter(event=event.id, kind="woke").count() == 100
    assert invariants.left_over(runs=[run.pk for run in runs]) == []


def test_a_worker_that_is_killed_between_two_events_loses_neither(hasty: Platform) -> None:
    waits = [{"id": one, "event": {"type": f"e2e.{one}"}} for one in ("first", "second")]
    held = shell("held", "sleep", "2", idempotent=True)
    run = start_run(workflow=applied(waits[0], held, waits[1], log("last")), by=ANN).run
    with hasty.worker() as worker:
        until_step(run, "first", "WAITING")
        publish("e2e.first", {}, "1")
        until_step(run, "held", "RUNNING")
        publish("e2e.second", {"n": 2}, "2")
        os.killpg(worker.pid, signal.SIGKILL)

    assert hasty.finished(run).state == "COMPLETED"
    assert Step.objects.get(run=run, path="second").output == {"n": 2}
    assert invariants.left_over(runs=[run.pk]) == []
