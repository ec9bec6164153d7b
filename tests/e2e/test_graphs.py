"""Random graphs end with real workers as they end in memory."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from random import Random
from typing import Any

import pytest

from tests.e2e.builders import ANN, applied, log
from tests.support.platform import Platform
from workflows.engine.simulate import simulate
from workflows.language.words import Join
from workflows.services.orders import Order
from workflows.services.plans import pinned
from workflows.services.runs import start_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GRAPHS = 20
RULES = [rule.value for rule in Join if rule is not Join.AT_LEAST]


def graph(chance: Random) -> list[dict[str, Any]]:
    """Return steps that log, fail or are skipped, each after some of those before it."""
    steps: list[dict[str, Any]] = []
    for number in range(chance.randint(4, 14)):
        name = f"s{number}"
        step: dict[str, Any] = chance.choice(
            [log(name), log(name), log(name, when=False), {"id": name, "uses": "fail"}]
        )
        before = [one["id"] for one in steps]
        step["needs"] = chance.sample(before, min(len(before), chance.randint(0, 3)))
        if step["needs"]:
            step["join"] = rule(chance, len(step["needs"]))
        step["optional"] = chance.random() < 0.1
        steps.append(step)
    return steps


def rule(chance: Random, needs: int) -> str | dict[str, int]:
    """Return a rule; of one that asks what came first, only where one thing can come."""
    if chance.random() < 0.1:
        return {"at_least": chance.randint(1, needs)}
    found = chance.choice(RULES)
    return Join.NONE_FAILED.value if found == Join.ALL_SUCCESS.value and needs > 1 else found


def test_random_graphs_end_as_they_do_in_memory(platform: Platform) -> None:
    names = [applied(*graph(Random(seed))) for seed in range(GRAPHS)]
    runs = [one.run for one in start_runs(orders=[Order(name) for name in names], by=ANN)]

    for seed, run in enumerate(runs):
        ended = platform.finished(run, seconds=120)
        expected = simulate(pinned(run.pk).plan)
        found = {step.path: (step.state, step.reason or None) for step in run.steps.all()}
        assert found == {
            path: (row.view.state, row.view.reason) for path, row in expected.rows.items()
        }, f"seed {seed}"
        assert ended.state == expected.state, f"seed {seed}"
