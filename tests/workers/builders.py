"""Builders for the tests of task types: an assignment of a step, carried out by a registry."""

from collections.abc import Callable, Iterable
from typing import Any

from workers.executor import Assignment, execute
from workers.registry import Registry, catalog
from workflows.engine.events import Failed, StepError, Succeeded

Outcome = Succeeded | Failed


def assignment(uses: str, arguments: dict[str, Any] | None = None, **facts: Any) -> Assignment:
    """Tell what a worker is to do; every fact can be given."""
    usual: dict[str, Any] = {
        "run_id": "run-1",
        "path": "step",
        "attempt": 1,
        "workflow": "nightly",
        "environment": "default",
        "names": {"input": {"count": 3}},
    }
    if "secrets" in facts:
        facts["secrets"] = frozenset(facts["secrets"])
    return Assignment(uses=uses, arguments=arguments or {}, **(usual | facts))


def carry_out(uses: str, *, registry: Registry = catalog, **arguments: Any) -> Outcome:
    """Carry out one step with these parameters."""
    return execute(assignment(uses, arguments), registry=registry)


def outcome_of(
    function: Callable[..., Any], arguments: dict[str, Any] | None = None, **facts: Any
) -> Outcome:
    """Carry out a function as the only task type there is."""
    codes = facts.pop("codes_of_type", {})
    registry = Registry()
    registry.task("under.test", codes=codes)(function)
    return execute(assignment("under.test", arguments, **facts), registry=registry)


def output_of(outcome: Outcome) -> Any:
    """Give the output of what must have succeeded."""
    assert isinstance(outcome, Succeeded), outcome
    return outcome.output


def error_of(outcome: Outcome) -> StepError:
    """Give the error of what must have failed."""
    assert isinstance(outcome, Failed), outcome
    return outcome.error


def everything_said(outcome: Outcome, lines: Iterable[str] = ()) -> str:
    """Give every text that leaves the worker with an outcome."""
    return f"{outcome!r} {' '.join(lines)}"
