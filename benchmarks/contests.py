"""What the platform and bare Celery do side by side: the same work for each.

The time of a contest begins with the first submission and ends when the last of its work has
ended, as somebody outside would see it; of a submission, when the last call has returned.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

import httpx
from celery import chain, chord
from django.db import connection

from benchmarks.bare import Bare
from benchmarks.figures import Better
from benchmarks.stage import Platform, until
from workflows import store
from workflows.services.definitions import apply_definition
from workflows.services.orders import Order
from workflows.services.runs import StartedRun, start_run, start_runs

BY = "command:benchmarks"
STEPS = 5
RUNS = 200
WIDE, WIDEST = 1_000, 9_999
"""A definition may have 10,000 steps; one of them is the block around the branches."""
SUBMITTED = 600
BATCH = 200
CALLS = 25
PACE = 0.02
PACED = 100
PATIENCE = 120.0
FIRST_LOOK = 0.005
"""Seconds before a client looks for a lone run's end: who looks takes the processor from it."""

FINISHED = "SELECT count(*) FROM workflows_run WHERE id = ANY(%s) AND state = 'COMPLETED'"


@dataclass(frozen=True, slots=True)
class Contest:
    """The same work on the platform and on bare Celery, in one unit.

    `targets` are ratios that are aimed at, to bare Celery under the `same` settings and at its
    `best`; `least` is aimed at without comparison. What is best is found by quick trials of this
    contest, or of the one named in `like`.
    """

    name: str
    what: str
    unit: str
    ours: Callable[[Platform], float]
    bare: Callable[[Bare], float] | None
    better: Better = "higher"
    targets: Mapping[str, float] = field(default_factory=dict)
    least: float | None = None
    like: str = ""

    @property
    def trial(self) -> str:
        """The contest whose trials say what is best."""
        return self.like or self.name


def prepare() -> None:
    """Apply the definitions that the contests run."""
    steps = "\n".join(f"  - {{id: s{n}, uses: bench.noop}}" for n in range(STEPS))
    _apply(f"workflow: chain\nsteps:\n{steps}\n")
    for width in (WIDE, WIDEST):
        branches = "\n".join(f"      - {{id: b{n}, uses: bench.noop}}" for n in range(width))
        _apply(f"workflow: fan-out-{width}\nsteps:\n  - id: all\n    parallel:\n{branches}\n")


def _apply(text: str) -> None:
    apply_definition(text=text, source="benchmarks", by=BY)


def finished(ids: Sequence[Any]) -> int:
    """Return how many of the runs have completed."""
    found = store.cursor().execute(FINISHED, (list(ids),), prepare=True).fetchall()
    return int(found[0][0])


def wait_for(ids: Sequence[Any], pause: float) -> None:
    """Wait until all runs have completed; look at the last one alone as long as that lives."""
    until(lambda: finished(ids[-1:]) == 1, pause, PATIENCE)
    if len(ids) > 1:
        until(lambda: finished(ids) == len(ids), pause, PATIENCE)


def start_chains(count: int) -> list[Any]:
    """Start many runs of the five-step chain by one Python call, and return their ids."""
    started = start_runs(orders=[Order("chain")] * count, by=BY)
    return [one.run.pk for one in started if isinstance(one, StartedRun)]


def _submit_bare_chains(bare: Bare, count: int, first: Any = None) -> None:
    line = chain(first or bare.noop.si(), *[bare.noop.si()] * (STEPS - 2), bare.last.si())
    with bare.app.producer_or_acquire() as producer:
        for _ in range(count):
            line.apply_async(producer=producer)


def chain_ours(_: Platform) -> float:
    """Return the durable steps carried out in a second: five-step chains, many at once."""
    began = time.perf_counter()
    wait_for(start_chains(RUNS), 0.01)
    return RUNS * STEPS / (time.perf_counter() - began)


def chain_bare(bare: Bare) -> float:
    """Return the tasks carried out in a second: five-task chains, many at once."""
    bare.forget()
    began = time.perf_counter()
    _submit_bare_chains(bare, RUNS)
    until(lambda: bare.ended() == RUNS, 0.01, PATIENCE)
    return RUNS * STEPS / (time.perf_counter() - began)


def fan_out_ours(width: int, _: Platform) -> float:
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


def latency_ours(_: Platform) -> float:
    """Return the median milliseconds from submitting a five-step chain to seeing it finished."""

    def once() -> float:
        began = time.perf_counter()
        run = start_run(workflow="chain", by=BY).run
        time.sleep(FIRST_LOOK)
        wait_for([run.pk], 0.0005)
        return (time.perf_counter() - began) * 1000

    return median(once() for _ in range(CALLS))


def latency_bare(bare: Bare) -> float:
    """Return the median milliseconds from submitting a five-task chain to seeing it finished."""

    def once() -> float:
        bare.forget()
        began = time.perf_counter()
        _submit_bare_chains(bare, 1)
        time.sleep(FIRST_LOOK)
        until(lambda: bare.ended() == 1, 0.0005, PATIENCE)
        return (time.perf_counter() - began) * 1000

    return median(once() for _ in range(CALLS))


def submit_ours(_: Platform) -> float:
    """Return the runs started in a second by one Python client, while workers carry them out."""
    began = time.perf_counter()
    ids = [one for _ in range(SUBMITTED // BATCH) for one in start_chains(BATCH)]
    rate = SUBMITTED / (time.perf_counter() - began)
    wait_for(ids, 0.05)
    return rate


def submit_over_http(platform: Platform) -> float:
    """Return the runs started in a second by one HTTP client through the API's bulk start."""
    order = {"runs": [{"workflow": "chain"}] * BATCH}
    ids = []
    with httpx.Client(headers=platform.login, timeout=30) as client:
        began = time.perf_counter()
        for _ in range(SUBMITTED // BATCH):
            answer = client.post(f"{platform.url}/api/v1/runs/bulk/", json=order)
            ids += [one["id"] for one in answer.raise_for_status().json()["runs"]]
        rate = SUBMITTED / (time.perf_counter() - began)
    wait_for(ids, 0.05)
    return rate


def submit_bare(bare: Bare) -> float:
    """Return the chains submitted in a second by one client, while workers carry them out."""
    bare.forget()
    began = time.perf_counter()
    _submit_bare_chains(bare, SUBMITTED)
    rate = SUBMITTED / (time.perf_counter() - began)
    until(lambda: bare.ended() == SUBMITTED, 0.05, PATIENCE)
    return rate


def start_delay_ours(count: int, pace: float, _: Platform) -> float:
    """Return the median milliseconds between a first step's QUEUED and its RUNNING."""
    ids: list[Any] = []
    _paced(count, pace, lambda: ids.append(start_run(workflow="chain", by=BY).run.pk))
    wait_for(ids, 0.01)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY started_at - queued_at)"
            " FROM workflows_step WHERE run_id = ANY(%s) AND path = 's0'",
            [ids],
        )
        return float(cursor.fetchone()[0].total_seconds() * 1000)


def start_delay_bare(count: int, pace: float, bare: Bare) -> float:
    """Return the median milliseconds between the submission of a first task and its start."""
    bare.forget()
    _paced(
        count, pace, lambda: _submit_bare_chains(bare, 1, first=bare.stamped.si(time.time() * 1000))
    )
    until(lambda: bare.ended() == count, 0.01, PATIENCE)
    return median(bare.delays())


def _paced(count: int, pace: float, submit: Callable[[], None]) -> None:
    """Submit at fixed times, whatever the answers take."""
    began = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, began + number * pace - time.perf_counter()))
        submit()


CONTESTS = (
    Contest(
        "chain",
        f"{RUNS} runs of {STEPS} steps, all at once",
        "steps/s",
        chain_ours,
        chain_bare,
        targets={"same": 2.0, "best": 1.5},
    ),
    Contest(
        "fan_out_1000",
        f"a fan-out of {WIDE:,} and its join",
        "s",
        partial(fan_out_ours, WIDE),
        partial(fan_out_bare, WIDE),
        "lower",
        {"same": 1.5},
    ),
    Contest(
        "fan_out_10000",
        f"a fan-out of {WIDEST:,} and its join",
        "s",
        partial(fan_out_ours, WIDEST),
        partial(fan_out_bare, WIDEST),
        "lower",
        like="fan_out_1000",
    ),
    Contest(
        "latency",
        f"one run of {STEPS} steps from submitted to seen finished, nothing else going on",
        "ms",
        latency_ours,
        latency_bare,
        "lower",
        {"same": 1.0},
    ),
    Contest(
        "schedule_to_start",
        "a first step from queued to started, ten runs a second",
        "ms",
        partial(start_delay_ours, CALLS, 0.1),
        partial(start_delay_bare, CALLS, 0.1),
        "lower",
        like="latency",
    ),
    Contest(
        "schedule_to_start_loaded",
        f"a first step from queued to started, {1 / PACE:.0f} runs a second",
        "ms",
        partial(start_delay_ours, PACED, PACE),
        partial(start_delay_bare, PACED, PACE),
        "lower",
        like="latency",
    ),
    Contest(
        "submit_python",
        f"starting runs of {STEPS} steps from Python, {BATCH} in a call",
        "runs/s",
        submit_ours,
        submit_bare,
        least=400,
        like="chain",
    ),
    Contest(
        "submit_api",
        f"starting runs of {STEPS} steps over HTTP, {BATCH} in a call",
        "runs/s",
        submit_over_http,
        None,
        least=400,
    ),
)
