"""How long steps take here, by task type: what has proven quick may go abreast."""

from workers.leases import LOOK_EVERY
from workflows.catalog import catalog
from workflows.engine.events import Repeat, repeat_of
from workflows.engine.plan import NO_NODE, Node
from workflows.language.words import StepKind

QUICK = 0.002
"""Seconds that quick steps take on average."""

NEWEST = 0.2
"""How much the newest duration counts for in the average, against all before it."""

LONG_ENOUGH = 2 * LOOK_EVERY
"""A step with a shorter timeout could be ended before its neighbours are let go."""


class Pace:
    """What each task type took on average of late, in this process.

    An average, for that is what neighbours wait; and because a process that was not let
    onto the processor for a moment says nothing about the step.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, uses: str, seconds: float) -> None:
        """Take down what a step took."""
        known = self._seconds.get(uses, seconds)
        self._seconds[uses] = known + NEWEST * (seconds - known)

    def is_quick(self, node: Node) -> bool:
        """Say whether a step is quick, as far as is known, and may be repeated.

        What is sent to another environment, or has a guard or a profile, goes alone: it is let in
        one by one. What undoes a step has no neighbours, for it is never begun beside another.
        """
        return (
            node.kind is StepKind.TASK
            and not (node.environment or node.guard or node.pool)
            and node.undoes == NO_NODE
            and self._seconds.get(node.uses, QUICK + 1) <= QUICK
            and (node.timeout is None or node.timeout >= LONG_ENOUGH)
            and repeat_of(catalog().repeat(node.uses), node.idempotent) is Repeat.FREELY
        )

    def knows_quick_ones(self) -> bool:
        """Say whether anything has proven quick."""
        return any(seconds <= QUICK for seconds in self._seconds.values())


pace = Pace()
