"""What the platform and bare Celery do side by side: the same work for each.

The time of a contest begins with the first submission and ends when the last of its work has
ended, as somebody outside would see it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from celery import chain, chord
from django.db import connection

from benchmarks.bare import Bare
from benchmarks.stage import until
from workflows.services.definitions import apply_definition
from workflows.services.runs import Order, start_run, start_runs

BY = "command:benchmarks"
STEPS = 5
RUNS = 200
LATENCIES = 25
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Contest:
    """The same work on the platform and on bare Celery, in one unit.

    `targets` are ratios that are aimed at: to bare Celery under the same settings and at its best.
    """

    name: str
    unit: str
    ours: Callable[[], float]
    bare: Callable[[Bare], float]
    better: Literal["higher", "lower"] = "higher"
    targets: Mapping[str, float] = field(default_factory=dict)

    def ratio(self, ours: float, bare: float) -> float:
        """Return how many times better the platform is."""
        return ours / bare if self.better == "higher" else bare / ours


def prepare() -> None:
    """Apply the definitions that the contests run."""
    steps = "\n".join(f"  - {{id: s{n}, uses: bench.noop}}" for n in range(STEPS))
    _apply(f"workflow: chain\nsteps:\n{steps}\n")
    for width in (1_000, 9_999):
        branches = "\n".join(f"      - {{id: b{n}, uses: bench.noop}}" for n in range(width))
        _apply(f"workflow: fan-out-{width}\nsteps:\n  - id: all\n    parallel:\n{branches}\n")


def _apply(text: str) -> None:
    apply_definition(text=text, source="benchmarks", by=BY)


def _finished(ids: list[Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM workflows_run WHERE id = ANY(%s) AND state = 'COMPLETED'", [ids]
        )
        return int(cursor.fetchone()[0])


def wait_for(ids: list[Any], pause: float) -> None:
    """Wait until all runs have completed; look at the last one alone as long as that lives."""
    until(lambda: _finished(ids[-1:]) == 1, pause, PATIENCE)
    until(lambda: _finished(ids) == len(ids), pause, PATIENCE)


def chain_ours() -> float:
    """Return the durable steps carried out in a second: five-step chains, many at once."""
    began = time.perf_counter()
    started = start_runs(orders=[Order("chain")] * RUNS, by=BY)
    wait_for([one.run.pk for one in started], 0.01)
    return RUNS * STEPS / (time.perf_counter() - began)


def chain_bare(bare: Bare) -> float:
    """Return the tasks carried out in a second: five-task chains, many at once."""
    bare.forget()
    began = time.perf_counter()
    _submit_chains(bare, RUNS)
    until(lambda: bare.ended() == RUNS, 0.01, PATIENCE)
    return RUNS * STEPS / (time.perf_counter() - began)


def _submit_chains(bare: Bare, count: int) -> None:
    line = chain(*[bare.noop.si()] * (STEPS - 1), bare.last.si())
    with bare.app.producer_or_acquire() as producer:
        for _ in range(count):
            line.apply_async(producer=producer)


def fan_out_ours(width: int) -> float:
    """Return the seconds from the start of a run to the end of its fan-out."""
    began = time.perf_counter()
    run = start_run(workflow=f"fan-out-{width}", by=BY).run
    wait_for([run.pk], 0.005)
    return time.perf_counter() - began


def fan_out_bare(width: int, bare: Bare) -> float:
    """Return the seconds from the submission of a chord to the end of its body."""
    bare.forget()
    began = time.perf_counter()
    chord([bare.kept.si()] * width, bare.last.si()).apply_async()
    until(lambda: bare.ended() == 1, 0.005, PATIENCE)
    return time.perf_counter() - began


def latency_ours() -> float:
    """Return the milliseconds from submitting a five-step chain to seeing it finished, idle."""
    return _median(_latency_ours)


def _latency_ours() -> float:
    began = time.perf_counter()
    run = start_run(workflow="chain", by=BY).run
    wait_for([run.pk], 0.0005)
    return (time.perf_counter() - began) * 1000


def latency_bare(bare: Bare) -> float:
    """Return the milliseconds from submitting a five-task chain to seeing it finished, idle."""
    return _median(partial(_latency_bare, bare))


def _latency_bare(bare: Bare) -> float:
    bare.forget()
    began = time.perf_counter()
    _submit_chains(bare, 1)
    until(lambda: bare.ended() == 1, 0.0005, PATIENCE)
    return (time.perf_counter() - began) * 1000


def _median(measure: Callable[[], float]) -> float:
    return sorted(measure() for _ in range(LATENCIES))[LATENCIES // 2]


CONTESTS = (
    Contest("chain", "steps/s", chain_ours, chain_bare, targets={"same": 2.0, "best": 1.5}),
    Contest(
        "fan_out_1000",
        "s",
        partial(fan_out_ours, 1_000),
        partial(fan_out_bare, 1_000),
        "lower",
        {"same": 1.5},
    ),
    Contest("latency", "ms", latency_ours, latency_bare, "lower", {"same": 1.0}),
)
