"""Large graphs: how long until a definition is a plan, and a run begun; what a step of it costs."""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from rich.progress import Progress

from benchmarks.contests import BY, STEPS, chain_ours, latency_ours, wait_for
from benchmarks.figures import Figure, Target
from benchmarks.history import past_the_law
from benchmarks.stage import platform
from orchestrator.celery import app
from workflows.catalog import catalog
from workflows.engine.compile import compile_spec
from workflows.language import loader
from workflows.services.definitions import apply_definition
from workflows.services.plans import plan_of_version
from workflows.services.runs import start_run

ROUNDS = 3
LOOKS = 0.01
"""Seconds between two looks whether a run has ended, as for the many chains beside it."""
MOST_STEPS = 10_000
DEEP, SPREAD, BESIDE = 21, 1_000, 100
LEVELS = ("outer", "middle", "inner")
ITEMS = 50
COMPILED_WITHIN, STARTED_WITHIN = 2.0, 3.0
MUCH_DEARER = 1.3
"""Times the seconds of a step of five-step chains that those of a step of a large graph may be."""


def woven() -> list[dict[str, Any]]:
    """Return as many steps as a document may have, each after up to three of those before it."""
    chance = Random(1)  # noqa: S311 - chance that must repeat
    return [
        _step(number, sorted({chance.randrange(max(0, number - 200), number) for _ in range(3)}))
        if number
        else _step(0, [])
        for number in range(MOST_STEPS)
    ]


def waisted() -> list[dict[str, Any]]:
    """Return 2,122 steps: a line, a fan-out of 1,000, a join of 1,100, and 1,000 after that."""
    line = [_step(number, [number - 1] if number else []) for number in range(DEEP)]
    spread = [_step(DEEP + number, [DEEP - 1]) for number in range(SPREAD)]
    beside = [_step(DEEP + SPREAD + number, []) for number in range(BESIDE)]
    join = DEEP + SPREAD + BESIDE
    after = [_step(join + 1 + number, [join]) for number in range(SPREAD)]
    return [*line, *spread, *beside, _step(join, list(range(DEEP, join))), *after]


def nested(items: int = ITEMS) -> list[dict[str, Any]]:
    """Return a loop in a loop in a loop, of as many items each; of 50, 125,000 steps in all."""
    body: dict[str, Any] = {"id": "leaf", "uses": "bench.noop"}
    for name in reversed(LEVELS):
        body = {"id": name, "foreach": items, "steps": [body]}
    return [body]


def looped(window: int) -> list[dict[str, Any]]:
    """Return a loop of 1,000 items, so many at a time."""
    body = {"id": "leaf", "uses": "bench.noop"}
    return [{"id": "each", "foreach": 1_000, "max_parallel": window, "steps": [body]}]


def _step(number: int, needs: Sequence[int]) -> dict[str, Any]:
    return {"id": f"s{number}", "needs": [f"s{one}" for one in needs], "uses": "bench.noop"}


GRAPHS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "10,000 steps": woven,
    "2,122 steps, a join of 1,100": waisted,
    "three loops of 50, one in the other": nested,
}


WORKED_OFF: dict[str, tuple[list[dict[str, Any]], int]] = {
    "10,000 steps": (woven(), MOST_STEPS),
    "three loops of 20, one in the other": (nested(20), 8_841),
    "a loop of 1,000, 100 at a time": (looped(100), 1_001),
    "a loop of 1,000, 10 at a time": (looped(10), 1_001),
}
"""Steps of graphs that are carried out, and how many rows they come to."""


def large(progress: Progress) -> list[Figure]:
    """Return how long large graphs take to be compiled and begun, and what their steps cost."""
    return [*_begun(progress), *_worked_off(progress)]


def _worked_off(progress: Progress) -> list[Figure]:
    """Return what a step of each costs beside a step of five-step chains, round by round.

    Those are a lone one, and one of two hundred that are begun together.
    """
    for number, (steps, _) in enumerate(WORKED_OFF.values()):
        text = json.dumps({"workflow": f"worked-{number}", "steps": steps})
        apply_definition(text=text, source="benchmarks", by=BY)
    ratios: dict[tuple[str, str], list[float]] = {}
    with platform() as running:
        chain_ours(running)
        for _ in progress.track(range(ROUNDS), description="large, worked off"):
            chains = {
                "200 chains at once": 1 / chain_ours(running),
                "a lone chain": latency_ours(running) / 1000 / STEPS,
            }
            for number, (what, (_, rows)) in enumerate(WORKED_OFF.items()):
                step = _seconds(partial(_carry_out, f"worked-{number}")) / rows
                for beside, seconds in chains.items():
                    ratios.setdefault((what, beside), []).append(step / seconds)
    unit, target = "times as much", Target(MUCH_DEARER, "lower")
    return [
        Figure("large", f"{what}: a step beside one of {beside}", tuple(found), unit, target)
        for (what, beside), found in ratios.items()
    ]


def _carry_out(name: str) -> None:
    wait_for([start_run(workflow=name, by=BY).run.pk], LOOKS)


def _begun(progress: Progress) -> list[Figure]:
    """Return the seconds until large graphs are compiled, and begun; nobody works on them."""
    try:
        return [
            figure
            for number, what in enumerate(progress.track(GRAPHS, description="large"))
            for figure in _figures(what, f"large-{number}", GRAPHS[what]())
        ]
    finally:
        _clear()


def _clear() -> None:
    """Leave nothing to do for the workers of what is measured next."""
    with past_the_law() as cursor:
        cursor.execute("TRUNCATE workflows_run CASCADE")
    app.control.purge()


def _figures(what: str, name: str, steps: list[dict[str, Any]]) -> list[Figure]:
    text = json.dumps({"workflow": name, "steps": steps})
    compiled = tuple(_seconds(lambda: _compile(text)) for _ in range(ROUNDS))
    apply_definition(text=text, source="benchmarks", by=BY)
    started = tuple(_start(name) for _ in range(ROUNDS))
    return [
        Figure("large", f"{what}: text to plan", compiled, "s", Target(COMPILED_WITHIN, "lower")),
        Figure("large", f"{what}: start of a run", started, "s", Target(STARTED_WITHIN, "lower")),
    ]


def _compile(text: str) -> None:
    compile_spec(loader.load(text, source="benchmarks", catalog=catalog()))


def _start(name: str) -> float:
    """Return the seconds that a start takes in a process that has not seen the version."""
    plan_of_version.cache_clear()
    return _seconds(lambda: start_run(workflow=name, by=BY))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
