"""Real workers and a real clock whose broker goes, hangs and forgets, and comes back."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.builders import ends, log, shell, started, states, until, until_step
from tests.support.broker import Broker
from tests.support.platform import Platform, a_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN = 30.0
"""Seconds after its broker's return in which everything goes on by itself."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The processes of a platform whose broker is a test's own."""

    broker: Broker
    platform: Platform
    processes: list["subprocess.Popen[bytes]"]

    def lives(self) -> bool:
        return all(process.poll() is None for process in self.processes)


@pytest.fixture
def fleet(committed: None, broker: Broker, process_env: dict[str, str]) -> Iterator[Fleet]:
    """The engine's worker, one of the environment `default`, and beat."""
    env = process_env | {"BROKER_URL": broker.url, "RESULT_URL": broker.url}
    with ExitStack() as stack:
        programs = [["engine"], ["worker", "default"], ["beat"]]
        processes = [stack.enter_context(a_process(env, *program)) for program in programs]
        platform = Platform(env)
        platform.finished(started(log("warm")))
        yield Fleet(broker, platform, processes)


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
