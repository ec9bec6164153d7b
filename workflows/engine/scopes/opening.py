"""How a scope begins, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.engine.plan import Plan
from workflows.engine.slice import StepView
from workflows.engine.states import HANDS_ON


@dataclass(frozen=True, slots=True)
class Opening:
    """The nodes that come into being, and those among them that are not to be done."""

    born: tuple[int, ...]
    not_taken: tuple[int, ...] = ()


def handed_on(
    plan: Plan, member: int, view: StepView, records: Mapping[str, Mapping[str, Any] | None]
) -> Any:
    """Return what a step of a scope hands on: its output, or what a person gave in its place."""
    record = records.get(plan.path(member, view.path))
    if record is None or record["state"] not in HANDS_ON:
        return None
    return record["output"]
