"""What is measured. Every scenario is a pair: the same work on the platform and on bare Celery.

The time of a scenario begins with the first submission and ends when the last of
its work has ended, as somebody outside would see it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from celery import chain, chord
from django.db import connection

from benchmarks import bare
from workflows.services.definitions import apply_definition
from workflows.services.runs import Order, start_run, start_runs

STEPS = 5
RUNS = 200
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """A pair of measurements in the same unit; `better` says which way is up."""

    name: str
    unit: str
    ours: Callable[[], float]
    bare: Callable[[], float]
    better: str = "higher"

    def ratio(self, ours: float, bare_celery: float) -> float:
        """Return how many times better the platform is."""
        return ours / bare_celery if self.better == "higher" else bare_celery / ours


def prepare() -> None:
    """Apply the definitions that the scenarios run."""
    steps = "\n".join(f"  - {{id: s{n}, uses: bench.noop}}" for n in range(STEPS))
    _apply(f"workflow: chain\nsteps:\n{steps}\n")
    branches = "\n".join(f"      - {{id: b{n}, uses: bench.noop}}" for n in range(1_000))
    _apply(f"workflow: fan-out-1000\nsteps:\n  - id: all\n    parallel:\n{branches}\n")


def _apply(text: str) -> None:
    apply_definition(text=text, source="benchmarks", by="command:benchmarks")


def _until(ended: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ended():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the work had not ended after {PATIENCE:g} seconds")
        time.sleep(pause)


def _finished(ids: list[object]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM workflows_run WHERE id = ANY(%s) AND state = 'COMPLETED'", [ids]
        )
        return int(cursor.fetchone()[0])


def chain_ours() -> float:
    """Return the durable steps carried out in a second: five-step chains, many at once."""
    began = time.perf_counter()
    started = start_runs(orders=[Order("chain")] * RUNS, by="command:benchmarks")
    ids = [one.run.pk for one in started]
    _until(lambda: _finished(ids) == RUNS, 0.01)
    return RUNS * STEPS / (time.perf_counter() - began)


def chain_bare() -> float:
    """Return the tasks carried out in a second: five-task chains, many at once."""
    bare.counter.delete(bare.COUNTER)
    began = time.perf_counter()
    for _ in range(RUNS):
        chain(*[bare.noop.si()] * (STEPS - 1), bare.last.si()).apply_async()
    _until(lambda: int(bare.counter.get(bare.COUNTER) or 0) == RUNS, 0.01)
    return RUNS * STEPS / (time.perf_counter() - began)


def fan_out_ours(width: int) -> float:
    """Return the seconds from the start of a run to the end of its fan-out."""
    began = time.perf_counter()
    run = start_run(workflow=f"fan-out-{width}", by="command:benchmarks").run
    _until(lambda: _finished([run.pk]) == 1, 0.005)
    return time.perf_counter() - began


def fan_out_bare(width: int) -> float:
    """Return the seconds from the submission of a chord to the end of its body."""
    bare.counter.delete(bare.COUNTER)
    began = time.perf_counter()
    chord([bare.kept.si()] * width, bare.last.si()).apply_async()
    _until(lambda: int(bare.counter.get(bare.COUNTER) or 0) == 1, 0.005)
    return time.perf_counter() - began


def latency_ours() -> float:
    """Return the milliseconds from submitting a five-step chain to seeing it finished, idle."""
    began = time.perf_counter()
    run = start_run(workflow="chain", by="command:benchmarks").run
    _until(lambda: _finished([run.pk]) == 1, 0.0005)
    return (time.perf_counter() - began) * 1000


def latency_bare() -> float:
    """Return the milliseconds from submitting a five-task chain to seeing it finished, idle."""
    bare.counter.delete(bare.COUNTER)
    began = time.perf_counter()
    chain(*[bare.noop.si()] * (STEPS - 1), bare.last.si()).apply_async()
    _until(lambda: int(bare.counter.get(bare.COUNTER) or 0) == 1, 0.0005)
    return (time.perf_counter() - began) * 1000


def median_of(count: int, measure: Callable[[], float]) -> Callable[[], float]:
    """Return a measurement that is the median of many."""

    def measured() -> float:
        return sorted(measure() for _ in range(count))[count // 2]

    return measured


SCENARIOS = (
    Scenario("chain", "steps/s", chain_ours, chain_bare),
    Scenario(
        "fan_out_1000", "s", lambda: fan_out_ours(1_000), lambda: fan_out_bare(1_000), "lower"
    ),
    Scenario("latency", "ms", median_of(25, latency_ours), median_of(25, latency_bare), "lower"),
)
