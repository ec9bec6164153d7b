"""A Decision: what is to change, and what is to be done about it, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from workflows.engine.events import Event, StepError
from workflows.engine.slice import RunView, StepView
from workflows.engine.states import Reason, RunState, StepState


class Unset:
    """The value that says: leave the stored value as it is."""


UNSET = Unset()


@dataclass(frozen=True, slots=True)
class Move:
    """A step's row changes from `before` to `after`; a transition when the state differs.

    `changed` names the fields that the decision has set: the others may be unknown to it.
    """

    before: StepState
    after: StepView
    changed: frozenset[str]
    output: Any = UNSET
    arguments: Any = UNSET
    items: Any = UNSET
    """What a loop goes through."""


@dataclass(frozen=True, slots=True)
class RunMove:
    """The run's row changes."""

    before: RunState
    after: RunView
    output: Any = UNSET
    error: StepError | None = None


class AttemptEnd(StrEnum):
    """How a try at a step ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """A try at a step that is over; `step` is the row as it was while the try ran."""

    step: StepView
    end: AttemptEnd
    error: StepError | None = None


@dataclass(frozen=True, slots=True)
class LateResult:
    """A result that came when the attempt was no longer the step's own: kept, and nothing else."""

    path: str
    attempt: int
    output: Any = None
    error: StepError | None = None


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """A step needs a person."""

    path: str
    attempt: int
    error: StepError


@dataclass(frozen=True, slots=True)
class Awaited:
    """A step begins to wait for something from outside; kept as a row until it waits no more.

    `name` is what open waits of a kind are looked up by, such as the type of an event; `request`
    is whatever else the kind has to know, as JSON.
    """

    path: str
    kind: Reason
    request: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Closing:
    """A step waits no more; `answer` says by what its wait was ended."""

    path: str
    attempt: int
    end: AttemptEnd
    answer: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Decision:
    """What `advance` has decided. `moves` are to be stored in their order, `born` before them."""

    born: list[StepView] = field(default_factory=list)
    items: dict[str, Any] = field(default_factory=dict)
    """What newborn instances of the bodies of loops are for, by path."""
    moves: list[Move] = field(default_factory=list)
    run_moves: list[RunMove] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    late: list[LateResult] = field(default_factory=list)
    incidents: list[OpenIncident] = field(default_factory=list)
    waits: list[Awaited] = field(default_factory=list)
    closings: list[Closing] = field(default_factory=list)
    assigned: dict[str, Any] = field(default_factory=dict)
    """Run variables to be set."""
    settled: bool = False
    """The run is being undone: what failed in it before is not to be replayed any more."""
    follow_ups: list[Event] = field(default_factory=list)
    """What is to be decided next, in the same transaction, on a slice that holds more."""
    left: list[str] = field(default_factory=list)
    """Loops with room for items, which are to be begun in transactions of their own."""

    def extend(self, other: "Decision") -> None:
        """Take up what was decided after this, on the same slice."""
        self.born += other.born
        self.items.update(other.items)
        self.moves += other.moves
        self.run_moves += other.run_moves
        self.attempts += other.attempts
        self.late += other.late
        self.incidents += other.incidents
        self.waits += other.waits
        self.closings += other.closings
        self.assigned.update(other.assigned)
        self.settled = self.settled or other.settled
        self.follow_ups += other.follow_ups
        self.left += other.left
