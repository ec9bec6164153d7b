"""Large graphs: how long until a definition is a plan, and until a run of it has begun."""

import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from rich.progress import Progress

from benchmarks.contests import BY
from benchmarks.figures import Figure, Target
from benchmarks.history import past_the_law
from orchestrator.celery import app
from workflows.catalog import catalog
from workflows.engine.compile import compile_spec
from workflows.language import loader
from workflows.services.definitions import apply_definition
from workflows.services.plans import plan_of_version
from workflows.services.runs import start_run

ROUNDS = 3
MOST_STEPS = 10_000
DEEP, SPREAD, BESIDE = 21, 1_000, 100
LEVELS = ("outer", "middle", "inner")
ITEMS = 50
COMPILED_WITHIN, STARTED_WITHIN = 2.0, 3.0


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


def nested() -> list[dict[str, Any]]:
    """Return a loop in a loop in a loop, of 50 items each: 125,000 steps in all."""
    body = {"id": "leaf", "uses": "bench.noop"}
    for name in reversed(LEVELS):
        body = {"id": name, "foreach": ITEMS, "steps": [body]}
    return [body]


def _step(number: int, needs: Sequence[int]) -> dict[str, Any]:
    return {"id": f"s{number}", "needs": [f"s{one}" for one in needs], "uses": "bench.noop"}


GRAPHS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "10,000 steps": woven,
    "2,122 steps, a join of 1,100": waisted,
    "three loops of 50, one in the other": nested,
}


def large(progress: Progress) -> list[Figure]:
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
