"""How a scope begins, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.engine.plan import Plan
from workflows.engine.slice import StepView
from workflows.engine.states import StepState


@dataclass(frozen=True, slots=True)
class Opening:
    """The nodes that come into being, and those among them that are not to be done."""

    born: tuple[int, ...]
    not_taken: tuple[int, ...] = ()


def completed_output(
    plan: Plan, member: int, view: StepView, records: Mapping[str, Mapping[str, Any] | None]
) -> Any:
    """Return the output of a step of a scope that was completed, None of any other."""
    record = records.get(plan.path(member, view.path))
    if record is None or record["state"] != StepState.COMPLETED:
        return None
    return record["output"]
