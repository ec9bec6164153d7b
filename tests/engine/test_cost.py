"""A step costs the same in a plan of five steps and of ten thousand."""

import time
from collections.abc import Iterator, ValuesView
from random import Random
from typing import Any

import pytest

from tests.engine.builders import broken, done, lost, plan_from, task
from workflows.engine.advance import advance, requirement
from workflows.engine.compile import compile_spec
from workflows.engine.events import CancelRequested, Ended, Event, Reached, RetryDue, Started
from workflows.engine.plan import ROOT
from workflows.engine.simulate import EPOCH
from workflows.engine.slice import Requirement, RunView, Slice
from workflows.language.spec import Spec

SMALL = plan_from(*(task(f"s{number}") for number in range(5)))
LARGE = plan_from(*(task(f"s{number}") for number in range(10_000)))

CHANCE = Random(1)  # noqa: S311 - chance that must repeat


@pytest.mark.parametrize(
    "event",
    [done("s1"), broken("s1"), lost("s1"), RetryDue("s1", 1), Ended("s1"), Reached("s1")],
    ids=lambda event: type(event).__name__,
)
def test_what_an_event_needs_does_not_grow_with_the_plan(event: Event) -> None:
    wanted = requirement(LARGE, event)

    assert wanted == requirement(SMALL, event)
    assert wanted.paths <= {"s1", "s2"}
    assert not wanted.everything
    assert not wanted.subtrees


def test_the_largest_document_compiles_in_about_a_second() -> None:
    steps = [task(f"s{number}", when="${{ input.go }}") for number in range(10_000)]
    spec = Spec.model_validate({"workflow": "large", "steps": steps})
    before = time.process_time()

    plan = compile_spec(spec)

    assert len(plan.nodes) == 10_001
    assert time.process_time() - before < 2


class Looked(dict[str, Any]):
    """A dictionary that counts how often somebody goes through the whole of it."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()

    def values(self) -> ValuesView[Any]:
        self.times += 1
        return super().values()


@pytest.mark.parametrize("scopes", [3, 30])
def test_a_cancel_goes_through_the_steps_as_often_however_many_scopes_wait(scopes: int) -> None:
    plan = plan_from(
        *({"id": f"b{n}", "steps": [task(f"s{n}")], "needs": []} for n in range(scopes))
    )
    held = Slice(RunView("r"))
    advance(plan, held, Started(), now=EPOCH, chance=CHANCE)
    held.held, held.alone = Requirement(everything=True), frozenset({ROOT})
    held.steps, held.records = Looked(held.steps), Looked(held.records)

    decision = advance(plan, held, CancelRequested(), now=EPOCH, chance=CHANCE)

    assert [move.after.state for move in decision.run_moves] == ["CANCELLING", "CANCELLED"]
    assert len(decision.moves) == 2 * scopes
    assert held.records.times <= 1
    assert held.steps.times <= 4
