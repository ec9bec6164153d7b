"""Real workers that live and take nothing are told from those that are quiet, and from the busy."""

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from celery import current_app
from django.db import connection, transaction
from django.test import Client

from tests.e2e.builders import sleep, started, until_step
from tests.support.broker import NAME, Broker, Fleet, a_fleet
from workers.canaries import verdicts
from workers.models import CanaryMark, Pulse
from workers.vitals import Health, Periods

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUEUE = "env.default.default"
PERIODS = Periods(2)
LOADED = 10.0
"""Seconds that a loaded machine may take for what takes none."""


@pytest.fixture
def fleet(committed: None, broker: Broker, process_env: dict[str, str]) -> Iterator[Fleet]:
    """A platform whose canaries come often, and have come."""
    with a_fleet(broker, process_env | {"CANARY_SECONDS": "2"}) as fleet:
        until(lambda: all_well() and CanaryMark.objects.filter(queue=QUEUE).exists(), seconds=60)
        yield fleet


@pytest.fixture(autouse=True)
def often(settings: object) -> None:
    """Judge by the same periods as the processes."""
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"CANARY_SECONDS": 2}  # type: ignore[attr-defined]


def until(condition: Callable[[], bool], *, seconds: float) -> float:
    """Wait until the condition holds, and return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, verdicts()
        time.sleep(0.1)
    return time.monotonic() - began


def health() -> dict[str, Health]:
    return {verdict.queue: verdict.health for verdict in verdicts()}


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def all_well() -> bool:
    return set(health().values()) == {Health.HEALTHY}


def rounds() -> object:
    """Return what changes when a canary has come again."""
    return CanaryMark.objects.get(queue=QUEUE).came_at


def test_quiet_queues_and_busy_ones_are_never_said_to_be_wedged(fleet: Fleet) -> None:
    seen: list[dict[str, Health]] = []
    for _ in range(6):
        before = rounds()
        until(lambda before=before: seen.append(health()) or rounds() != before, seconds=LOADED)  # type: ignore[misc, func-returns-value]
    quiet = {state for one in seen for state in one.values()}
    runs = [started(sleep("long", 12)) for _ in range(2)]
    for run in runs:
        until_step(run, "long", "RUNNING")
    until(lambda: health()[QUEUE] is Health.BUSY, seconds=PERIODS.reported_within + LOADED)
    for run in runs:
        fleet.platform.finished(run)

    until(all_well, seconds=LOADED)

    assert quiet == {Health.HEALTHY}


def test_a_worker_that_hangs_is_reported_and_its_return_as_well(fleet: Fleet) -> None:
    worker = fleet.processes["worker default"]
    os.kill(worker.pid, signal.SIGSTOP)

    until(
        lambda: health()[QUEUE] is Health.WEDGED,
        seconds=PERIODS.reported_within + LOADED,
    )
    answer = Client().get("/health/")
    os.kill(worker.pid, signal.SIGCONT)
    until(all_well, seconds=PERIODS.reported_within + LOADED)

    assert answer.status_code == 503
    assert answer.json()["queues"] == {"healthy": 1, "wedged": 1}


def test_a_worker_that_answers_pings_and_takes_nothing_is_reported_and_ends_itself(
    fleet: Fleet,
) -> None:
    worker = fleet.processes["worker default"]
    [name] = [
        row.name for row in Pulse.objects.all() if row.name.startswith(f"env-default-{NAME}@")
    ]
    assert current_app.control.cancel_consumer(
        QUEUE, destination=[name], reply=True, timeout=LOADED
    )

    until(
        lambda: CanaryMark.objects.get(queue=QUEUE).health == Health.WEDGED,
        seconds=PERIODS.logged_within + LOADED,
    )
    until(lambda: worker.poll() is not None, seconds=PERIODS.restart + LOADED * 2)

    assert health()["orchestrator"] is Health.HEALTHY


def test_an_engine_whose_only_process_hangs_gets_another(fleet: Fleet) -> None:
    [process] = psutil.Process(fleet.processes["engine"].pid).children()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE workers_canarymark IN SHARE ROW EXCLUSIVE MODE")
        until(waits_for_a_lock, seconds=LOADED)
        process.suspend()

    until(lambda: not process.is_running(), seconds=PERIODS.restart + LOADED)
    until(all_well, seconds=PERIODS.reported_within + LOADED)

    assert fleet.lives()
