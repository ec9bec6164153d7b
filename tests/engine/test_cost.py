"""A step costs the same in a plan of five steps and of ten thousand."""

import time

import pytest

from tests.engine.builders import broken, done, lost, plan_from, task
from workflows.engine.advance import requirement
from workflows.engine.compile import compile_spec
from workflows.engine.events import Ended, Event, Reached, RetryDue
from workflows.language.spec import Spec

SMALL = plan_from(*(task(f"s{number}") for number in range(5)))
LARGE = plan_from(*(task(f"s{number}") for number in range(10_000)))


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
