"""Real workers and a real clock whose broker goes, hangs and forgets, and comes back."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.e2e.builders import ends, log, shell, sleep, started, states, until, until_step
from tests.support.broker import Broker, Fleet, a_fleet
from tests.support.platform import STOPS_WITHIN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN = 30.0
"""Seconds after its broker's return in which everything goes on by itself."""

SILENT = 3.0
"""Seconds after which a worker waits for a broker that says nothing: it speaks every two."""

FORGOTTEN = 75.0
"""Seconds in which a message that nobody claims is missed, and what it was to do is done."""


@pytest.fixture
def fleet(committed: None, broker: Broker, process_env: dict[str, str]) -> Iterator[Fleet]:
    """A platform that has carried out something."""
    with a_fleet(broker, process_env) as fleet:
        fleet.platform.finished(started(log("warm")))
        yield fleet


@contextmanager
def stopped(broker: Broker) -> Iterator[None]:
    broker.stop()
    yield
    broker.start()


@contextmanager
def blocked(broker: Broker) -> Iterator[None]:
    broker.block()
    yield
    broker.unblock()


@pytest.mark.parametrize("outage", [stopped, blocked])
def test_a_step_that_runs_through_an_outage_is_recorded_and_not_repeated(
    fleet: Fleet, outage: Callable[[Broker], AbstractContextManager[None]]
) -> None:
    run = started(shell("pay", "sleep", "8"), log("after"))
    until_step(run, "pay", "RUNNING")

    with outage(fleet.broker):
        late = started(log("only"))
        until(lambda: states(run)["pay"] == "COMPLETED", run)

    fleet.platform.finished(late, seconds=WITHIN)
    assert fleet.platform.finished(run, seconds=WITHIN).state == "COMPLETED"
    assert ends(run) == {"pay": ["completed"], "after": ["completed"]}
    assert ends(late) == {"only": ["completed"]}
    assert fleet.lives()


def flush(broker: Broker) -> None:
    broker.client.flushall()


def restart(broker: Broker) -> None:
    broker.stop()
    broker.start()


@pytest.mark.parametrize("loss", [flush, restart])
def test_a_broker_that_forgets_everything_keeps_nobody_from_consuming(
    fleet: Fleet, loss: Callable[[Broker], None]
) -> None:
    block = {"id": "all", "parallel": [sleep(f"s{n}", 0.5) for n in range(16)]}
    fan = started(block, log("after"))
    until(lambda: fan.attempts.count() >= 3, fan)

    loss(fleet.broker)

    fleet.platform.finished(started(log("only")), seconds=WITHIN)
    assert fleet.platform.finished(fan, seconds=FORGOTTEN).state == "COMPLETED"
    assert {end for found in ends(fan).values() for end in found} == {"completed"}
    assert fan.attempts.count() == 17
    assert fleet.lives()


def test_a_worker_ends_in_time_though_its_broker_says_nothing(
    committed: None, broker: Broker, process_env: dict[str, str]
) -> None:
    with a_fleet(broker, process_env | {"SOFT_SHUTDOWN_SECONDS": "3"}) as fleet:
        fleet.platform.finished(started(log("warm")))
        worker = fleet.processes["worker default"]

        with blocked(broker):
            time.sleep(SILENT)
            worker.terminate()
            status = worker.wait(timeout=STOPS_WITHIN)

    assert status == os.EX_OK
