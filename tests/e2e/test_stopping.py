"""A worker that is told to stop: what runs may end, the rest is handed back, nothing waits."""

import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.builders import (
    ANN,
    an_environment,
    applied,
    ends,
    log,
    shell,
    sleep,
    started,
    states,
    until,
    until_step,
)
from tests.support.platform import Platform
from workflows.models import Attempt, Incident, Run, Step
from workflows.services.orders import Order
from workflows.services.runs import start_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

HERE = {"environment": "leaving"}
SOFT = 3.0
SLOW = {"id": "slow", "uses": "hostile.slow_at_first"}
PROMPT = 20.0
"""Seconds in which a worker ends on a busy machine, if it does not wait for the step."""


@pytest.fixture
def leaving(platform: Platform, process_env: dict[str, str]) -> Platform:
    """An environment of its own, and workers that give their steps three seconds at a stop."""
    an_environment("leaving")
    return Platform(process_env | {"SOFT_SHUTDOWN_SECONDS": f"{SOFT:g}"})


@pytest.fixture
def patient(leaving: Platform, process_env: dict[str, str]) -> Platform:
    """The same, but they give a minute."""
    return Platform(process_env | {"SOFT_SHUTDOWN_SECONDS": "60"})


def stopped(worker: subprocess.Popen[bytes], *signals: signal.Signals) -> float:
    """Send the signals, and return the seconds until the worker has ended, which must be well."""
    began = time.monotonic()
    for number in signals or (signal.SIGTERM,):
        worker.send_signal(number)
        time.sleep(0.2)
    assert worker.wait(timeout=30) == 0
    return time.monotonic() - began


def up(platform: Platform) -> Run:
    """Wait until a worker of the environment has done something."""
    run = platform.finished(started(log("only"), **HERE))
    assert run.state == "COMPLETED"
    return run


def family(run: Run) -> str:
    """Return which worker carried out the only step, whichever of its processes that was."""
    return Step.objects.get(run=run).worker.rpartition(".")[0]


def test_an_idle_worker_stops_at_once(patient: Platform) -> None:
    with patient.worker("leaving") as worker:
        up(patient)

        assert stopped(worker) < PROMPT


def test_a_short_step_ends_and_what_follows_it_is_left_to_others(patient: Platform) -> None:
    with patient.worker("leaving") as worker:
        run = started(*(sleep(f"s{n}", 0.5) for n in range(4)), **HERE)
        until_step(run, "s0", "RUNNING")

        assert stopped(worker) < PROMPT

    assert list(states(run).values()) == ["COMPLETED", "QUEUED", "PENDING", "PENDING"]
    with patient.worker("leaving"):
        assert patient.finished(run, seconds=25).state == "COMPLETED"
    assert set(map(tuple, ends(run).values())) == {("completed",)}


def test_a_signal_to_all_processes_at_once_spares_the_step_that_runs(patient: Platform) -> None:
    with patient.worker("leaving") as worker:
        run = started(sleep("s0", 3), sleep("s1", 0), **HERE)
        until_step(run, "s0", "RUNNING")

        os.killpg(worker.pid, signal.SIGTERM)

        assert worker.wait(timeout=30) == 0
    assert states(run) == {"s0": "COMPLETED", "s1": "QUEUED"}


def test_a_long_step_is_handed_back_and_begun_elsewhere_at_once(leaving: Platform) -> None:
    with leaving.worker("leaving") as worker:
        run = started(SLOW, **HERE)
        until_step(run, "slow", "RUNNING")
        with leaving.worker("leaving"):
            until(lambda: family(up(leaving)) != family(run), run)

            took = stopped(worker)

            assert leaving.finished(run, seconds=10).state == "COMPLETED"
    assert SOFT <= took < SOFT + PROMPT
    assert ends(run) == {"slow": ["lost", "completed"]}
    assert Step.objects.get(run=run).losses == 0


def test_a_long_step_that_must_not_be_repeated_becomes_uncertain_at_once(
    leaving: Platform,
) -> None:
    with leaving.worker("leaving") as worker:
        run = started(shell("pay", "sleep", "60"), **HERE)
        until_step(run, "pay", "RUNNING")

        stopped(worker)

    assert ends(run) == {"pay": ["lost"]}
    assert Incident.objects.get(run=run).error_class == "uncertain"


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGTERM, signal.SIGTERM]])
def test_who_insists_is_not_kept_waiting(patient: Platform, signals: list[signal.Signals]) -> None:
    with patient.worker("leaving") as worker:
        run = started(SLOW, **HERE)
        until_step(run, "slow", "RUNNING")

        assert stopped(worker, *signals) < PROMPT

    assert states(run) == {"slow": "QUEUED"}


def test_a_step_that_does_not_listen_does_not_keep_its_worker(leaving: Platform) -> None:
    with leaving.worker("leaving") as worker:
        run = started({"id": "only", "uses": "hostile.hold"}, **HERE)
        until_step(run, "only", "RUNNING")

        took = stopped(worker)

    assert took < SOFT + PROMPT
    assert states(run) == {"only": "QUEUED"}


def test_a_rolling_restart_under_load_loses_and_repeats_nothing(
    patient: Platform, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    chain = applied(*(note(f"s{n}", ledger) for n in range(6)), **HERE)
    fan = applied({"id": "all", "parallel": [note(f"b{n}", ledger) for n in range(16)]}, **HERE)
    load = [Order(chain)] * 8 + [Order(fan)] * 3
    runs: list[Run] = []

    with ExitStack() as stack:
        workers = [stack.enter_context(patient.worker("leaving")) for _ in range(2)]
        up(patient)
        for _ in range(4):
            runs += [one.run for one in start_runs(orders=load, by=ANN)]
            until(lambda: Step.objects.filter(state="RUNNING").count() >= 3, runs[-1])
            stopped(workers.pop(0))
            workers.append(stack.enter_context(patient.worker("leaving")))
        ended = [patient.finished(run, seconds=120) for run in runs]

    assert {run.state for run in ended} == {"COMPLETED"}
    assert set(Attempt.objects.values_list("number", "end")) == {(1, "completed")}
    effects = Counter(ledger.read_text().splitlines())
    assert set(effects.values()) == {1}
    assert len(effects) == 4 * (8 * 6 + 3 * 16)


def note(name: str, ledger: Path) -> dict[str, Any]:
    arguments = {"ledger": str(ledger), "seconds": 0.1}
    return {"id": name, "uses": "hostile.note", "with": arguments}
