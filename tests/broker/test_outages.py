"""A broker that is gone, blocked, full or locked delays work, and holds up nobody."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tests.admin.builders import person
from tests.api.builders import API, a_client
from tests.support.broker import Broker
from tests.workflows.builders import QUEUE, a_run, a_version, task
from workflows.models import Run, Step, Workflow
from workflows.services.orders import Order
from workflows.services.recovery import recover
from workflows.services.runs import start_run, start_runs

pytestmark = pytest.mark.usefixtures("committed")

Door = Callable[[str], None]
Harm = Callable[[Broker], None]
ANN = "person:ann"
BACKEND = "django.contrib.auth.backends.ModelBackend"
WITHIN = 2.0
_numbers = count(1)

PAGES = [
    "/admin/",
    "/admin/workflows/run/",
    "/admin/workflows/run/{run}/change/",
    "/admin/workflows/incident/",
    "/admin/workflows/workflow/",
    "/admin/environments/environment/",
    "/api/v1/runs/",
    "/api/v1/runs/{run}/",
    "/api/v1/incidents/",
    "/api/v1/workflows/",
]
HARMS: dict[str, Harm] = {
    "stopped": Broker.stop,
    "blocked": Broker.block,
    "full": Broker.fill,
    "read-only": Broker.follow,
    "locked": Broker.lock,
}


def by_python(name: str) -> None:
    start_run(workflow=name, by=ANN)


def by_rest(name: str) -> None:
    answer = a_client("start_workflow").post(f"{API}/runs/", {"workflow": name})
    assert answer.status_code == 201


def by_admin(name: str) -> None:
    answer = an_operator().post(
        start_page(name), {"environment": "default", "key": f"form:{next(_numbers)}"}
    )
    assert answer.status_code == 302, answer.content


def start_page(name: str) -> str:
    workflow = Workflow.objects.get(name=name).pk
    return reverse("admin:workflows_workflow_start", args=[workflow])


def an_operator() -> Client:
    client = Client()
    client.force_login(person("operators", f"operator-{next(_numbers)}"), backend=BACKEND)
    return client


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def a_workflow(steps: int = 1) -> str:
    """Apply a definition whose steps are all ready at once, and start it once while all is well."""
    name = a_version(*(task(f"s{n}", needs=[]) for n in range(steps))).workflow.name
    start_run(workflow=name, by=ANN)
    return name


def queued() -> int:
    return Step.objects.filter(state="QUEUED").count()


@pytest.mark.parametrize("door", [by_python, by_rest, by_admin])
def test_a_run_starts_through_every_door_while_the_broker_is_blocked(
    broker: Broker, door: Door
) -> None:
    name = a_workflow()
    door(name)
    broker.block()

    with within(WITHIN):
        door(name)

    assert Run.objects.filter(state="RUNNING").count() == 3
    assert queued() == 3


@pytest.mark.parametrize("steps", [1, 20], ids=["one", "fan-out"])
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_run_starts_whatever_the_broker_does(broker: Broker, harm: Harm, steps: int) -> None:
    name = a_workflow(steps)
    harm(broker)

    with within(WITHIN):
        start_run(workflow=name, by=ANN)

    assert queued() == 2 * steps


def test_only_the_first_waits_for_a_broker_that_does_not_answer(broker: Broker) -> None:
    name = a_workflow()
    broker.block()

    with within(WITHIN):
        for _ in range(20):
            start_run(workflow=name, by=ANN)

    assert queued() == 21


def test_what_could_not_be_sent_is_sent_by_the_first_sweep_after_the_outage(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.GIVEN_UP_FOR", 0.0)
    name = a_version(task("only")).workflow.name
    broker.stop()
    for _ in range(3):
        start_run(workflow=name, by=ANN)
    recover(now=timezone.now())
    broker.start()

    recover(now=timezone.now())

    assert broker.lengths(QUEUE) == 3


def test_a_sweep_does_not_say_that_it_has_sent_what_the_broker_did_not_take(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.GIVEN_UP_FOR", 0.0)
    run = start_run(workflow=a_version(task("only")).workflow.name, by=ANN).run
    broker.stop()
    away = recover(now=timezone.now() + timedelta(minutes=5)).lines
    broker.start()

    back = recover(now=timezone.now() + timedelta(minutes=10)).lines

    missed = f"run {run.id} step only: attempt 1 was not claimed in time and"
    assert away == [f"{missed} waits for the broker, to be sent to {QUEUE} again"]
    assert back == [f"{missed} was sent to {QUEUE} again"]


def test_many_more_than_a_batch_are_sent_by_one_sweep(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.publisher.GIVEN_UP_FOR", 0.0)
    monkeypatch.setattr("workflows.services.recovery.BATCH", 10)
    name = a_version(task("only")).workflow.name
    broker.stop()
    start_runs(orders=[Order(name)] * 35, by=ANN)
    broker.start()

    recover(now=timezone.now() + timedelta(seconds=1))

    assert broker.lengths(QUEUE) == 35


def test_a_broker_that_goes_in_the_middle_of_many_messages_loses_no_run(broker: Broker) -> None:
    name = a_version(task("only")).workflow.name
    killer = threading.Thread(target=kill_when_used, args=(broker, broker.pid))
    killer.start()

    with within(10):
        started = start_runs(orders=[Order(name)] * 300, by=ANN)
    killer.join()

    assert len(started) == 300
    assert queued() == 300


def kill_when_used(broker: Broker, pid: int) -> None:
    while not broker.lengths(QUEUE):
        pass
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("harm", [Broker.stop, Broker.block], ids=["stopped", "blocked"])
def test_what_needs_no_broker_answers_as_usual(broker: Broker, harm: Harm) -> None:
    run = a_run(task("only"))
    client = an_operator()
    for path in PAGES:
        client.get(path.format(run=run.pk))
    harm(broker)

    for path in PAGES:
        with within(1.0):
            answer = client.get(path.format(run=run.pk))
        assert answer.status_code == 200, path


def test_a_pause_and_a_resume_do_not_wait_for_the_broker(broker: Broker) -> None:
    run = a_run(task("only"))
    client = a_client("pause_run", "view_run")
    broker.block()

    with within(WITHIN):
        paused = client.post(f"{API}/runs/{run.pk}/pause/")
        resumed = client.post(f"{API}/runs/{run.pk}/resume/")

    assert (paused.json()["state"], resumed.json()["state"]) == ("PAUSED", "RUNNING")
