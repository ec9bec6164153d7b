"""A Slice: as much of a run as one decision can touch, and no more.

A store loads it under lock to meet a `Requirement`; so a step costs the same in
a graph of five and of fifty thousand. The same slice is filled from PostgreSQL,
from the simulation's dictionaries and by hand in a test.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import or_
from typing import Any, NamedTuple

from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import Plan, Reads, located
from workflows.engine.states import (
    FINISHED_STEPS,
    LIVE_STEPS,
    UNDOING,
    Reason,
    RunReason,
    RunState,
    StepState,
)
from workflows.language.words import ExitStatus

NONE_ENDED = Tally()


class StepView(NamedTuple):
    """A step's row, without the values it carries. A tuple: it is copied many times a step.

    `failures` and `losses` count the tries used up since the step was last begun
    by a person, and no retry starts after `retry_until`; `wake_at` is when somebody must
    look at the row again: the end of the lease, of a delay or of a scope's time.
    """

    path: str
    node: int
    scope: str
    state: StepState = StepState.PENDING
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    tally: Tally = NONE_ENDED
    reason: Reason | None = None
    error: StepError | None = None
    cancel_requested: bool = False
    worker: str = ""
    wake_at: datetime | None = None
    started_at: datetime | None = None
    total: int | None = None
    """Of a loop: how many items there are, once that is known."""
    born: int = 0
    """Of a loop: how many of them have begun. Its `tally` counts how they have ended."""
    retry_until: datetime | None = None

    @property
    def alive(self) -> bool:
        """Whether something may still become of the step by itself."""
        return self.state in LIVE_STEPS

    @property
    def final(self) -> bool:
        """Whether the step has ended."""
        return self.state in FINISHED_STEPS

    @property
    def failed(self) -> bool:
        """Whether the scope around it must answer for a failure of this step."""
        if self.state in UNDOING:
            return False
        if self.state is StepState.FAILED:
            return self.reason is not Reason.OPTIONAL
        return self.reason is Reason.DISCARDED or (
            self.state is StepState.CANCELLED and self.reason is Reason.FAIL_FAST
        )

    def ended_in(self, tally: Tally) -> Tally:
        """Return the tally of a loop with the way that this instance of its body ended added."""
        return tally._replace(failed=tally.failed + 1) if self.failed else self.counted(tally)

    def counted(self, tally: Tally) -> Tally:  # noqa: PLR0911 - a table, one line each
        """Return `tally` with the way this step ended added."""
        match self.state:
            case StepState.COMPLETED:
                return tally._replace(ok=tally.ok + 1)
            case state if state in UNDOING:
                return tally._replace(ok=tally.ok + 1)
            case StepState.FAILED if self.reason in {Reason.OPTIONAL, Reason.PARTIAL}:
                return tally._replace(ok=tally.ok + 1)
            case StepState.FAILED:
                return tally._replace(failed=tally.failed + 1)
            case StepState.SKIPPED if self.reason in {Reason.SKIPPED_BY_OPERATOR, Reason.LEFT_OUT}:
                return tally._replace(ok=tally.ok + 1)
            case StepState.SKIPPED if self.reason is Reason.DISCARDED:
                return tally._replace(failed=tally.failed + 1)
            case StepState.SKIPPED if self.reason is not Reason.UPSTREAM_FAILED:
                return tally._replace(skipped=tally.skipped + 1)
            case StepState.SKIPPED | StepState.CANCELLED:
                return tally._replace(upstream_failed=tally.upstream_failed + 1)
            case _:
                return tally


@dataclass(frozen=True, slots=True)
class Ending:
    """The end a run is heading for while what still runs in it is let finish.

    `undo`: what it has done is to be undone, or has been; `error` is why.
    """

    status: ExitStatus
    output: Any = None
    error: StepError | None = None
    undo: bool = False


@dataclass(frozen=True, slots=True)
class RunView:
    """A run's row, without the values it carries."""

    id: str
    state: RunState = RunState.PENDING
    ending: Ending | None = None
    environment: str = "default"
    parent: str = ""
    """The run that waits for this one, if it is a child."""
    reason: RunReason | None = None

    @property
    def is_undone(self) -> bool:
        """Whether what the run has done is to be undone, or has been, if only in part."""
        return self.ending is not None and self.ending.undo


@dataclass(frozen=True, slots=True)
class ScopeTally:
    """What the steps of a scope amount to, counted under the scope's lock."""

    alive: int
    failed: int
    first_error: StepError | None = None
    first_failed: str = ""
    needs_person: bool = False
    """Of the root of a run that parks: whether an incident of the run is open."""

    @classmethod
    def of(cls, inside: Iterable[StepView], *, needs_person: bool = False) -> "ScopeTally":
        """Count the steps of a scope, given in the order of their nodes."""
        views = list(inside)
        failed = [view for view in views if view.failed]
        first = next((view for view in failed if view.error is not None), None)
        return cls(
            alive=sum(view.alive for view in views),
            failed=len(failed),
            first_error=first.error if first else None,
            first_failed=first.path if first else "",
            needs_person=needs_person,
        )


@dataclass(frozen=True, slots=True)
class Undoing:
    """How far the compensation of a run has come, read under the run's lock.

    `next` is the step to be undone next, the last one to be completed of those that are left;
    `failed` counts those whose compensation has failed and that nobody has dealt with.
    """

    under_way: bool = False
    next: str = ""
    failed: int = 0
    first_failed: str = ""


class Requirement(NamedTuple):
    """What a slice must hold for an event to be decided."""

    paths: frozenset[str] = frozenset()
    roots: frozenset[str] = frozenset()
    """Names that expressions read, such as `vars`."""
    records: frozenset[str] = frozenset()
    """Steps whose results they read."""
    items: frozenset[str] = frozenset()
    """Instances of the bodies of loops whose item they read."""
    batches: frozenset[str] = frozenset()
    """Loops of which the next items are asked for."""
    gathered: frozenset[str] = frozenset()
    """Loops of which the outputs of all items are asked for."""
    subtrees: frozenset[str] = frozenset()
    """Steps that are asked for with all that is inside them."""
    unfinished: frozenset[str] = frozenset()
    """Steps that are asked for with what is inside them and lives, or has failed."""
    scopes: frozenset[str] = frozenset()
    everything: bool = False
    undoing: bool = False
    """What is to be undone next, with its rows."""
    reopenable: bool = False
    """Everything but the items of loops that ended well, with what is inside them."""

    def __or__(self, other: "Requirement") -> "Requirement":
        if other is NOTHING_MORE:
            return self
        return Requirement._make(map(or_, self, other))

    def near(self, path: str) -> "Requirement":
        """Return what is asked for of nodes as asked for in the iterations of a step."""
        return Requirement(
            _near(self.paths, path),
            self.roots,
            _near(self.records, path),
            _near(self.items, path),
            _near(self.batches, path),
            _near(self.gathered, path),
            _near(self.subtrees, path),
            _near(self.unfinished, path),
            _near(self.scopes, path),
            self.everything,
            self.undoing,
            self.reopenable,
        )


NOTHING_MORE = Requirement()
"""What most expressions ask for."""


def _near(templates: frozenset[str], path: str) -> frozenset[str]:
    if not templates:
        return templates
    return frozenset(located(template, path) for template in templates)


def reading(plan: Plan, reads: Reads, near: str) -> Requirement:
    """Return what must be held so that a step at `near` can read."""
    if not reads.roots and not reads.steps:
        return NOTHING_MORE
    records = frozenset(plan.record(plan.by_id[step], near) for step in reads.steps)
    known = plan.node(near).items
    items = frozenset(plan.path(known[name], near) for name in reads.roots & known.keys())
    roots = reads.roots - known.keys() - OF_LOOPS
    return Requirement(roots=roots, records=records, items=items)


@dataclass(slots=True)
class Slice:
    """What is known of a run. `advance` works on it; a store begins each wave with a new one.

    `roots` holds the values of `input`, `vars`, `env` and `run`; `records` what
    expressions see of a step, by path, None where the step has no row or no result. Of loops,
    `items` holds what instances of the body are for, `batches` the next items, and `gathered`
    the outputs of all, None where they are too many for a value.
    """

    run: RunView
    steps: dict[str, StepView] = field(default_factory=dict)
    roots: dict[str, Any] = field(default_factory=dict)
    elsewhere: dict[str, Any] = field(default_factory=dict)
    """What `env` is for steps that are carried out in another environment, by its name."""
    records: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    items: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, Sequence[Any]] = field(default_factory=dict)
    gathered: dict[str, Sequence[Any] | None] = field(default_factory=dict)
    tallies: dict[str, ScopeTally] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()
    """Scopes of which every step that lives or has failed is in this slice."""
    undoing: Undoing | None = None
    held: Requirement = field(default_factory=Requirement)
    link: Callable[[str, int], str] | None = None
    """Returns the callback URL of an attempt of the step at a path."""

    def tally(self, scope: str) -> ScopeTally:
        """Return what the steps of a scope amount to."""
        if scope not in self.alone:
            return self.tallies[scope]
        return ScopeTally.of(view for view in self.steps.values() if view.scope == scope)

    def covers(self, wanted: Requirement) -> bool:
        """Say whether everything that `wanted` asks for is here, or is known not to exist."""
        return (
            (self.held.everything or self._has_rows(wanted))
            and (not wanted.undoing or self.undoing is not None)
            and (not wanted.scopes or _all_in(wanted.scopes, self.tallies, self.alone))
            and (not wanted.records or _all_in(wanted.records, self.records))
            and (not wanted.items or _all_in(wanted.items, self.items))
            and (not wanted.batches or _all_in(wanted.batches, self.batches))
            and (not wanted.gathered or _all_in(wanted.gathered, self.gathered))
            and (not wanted.roots or _all_in(wanted.roots, self.roots, BUILT_IN_ROOTS))
        )

    def _has_rows(self, wanted: Requirement) -> bool:
        held = self.held
        return (
            not wanted.everything
            and (held.reopenable or not wanted.reopenable)
            and wanted.subtrees <= held.subtrees
            and (not wanted.unfinished or wanted.unfinished <= held.unfinished | held.subtrees)
            and _all_in(wanted.paths, self.steps, held.paths)
        )


def _all_in(names: frozenset[str], *known: Container[str]) -> bool:
    """Say whether each name is known, looking at no more than is asked for."""
    return all(any(name in some for some in known) for name in names)


OF_LOOPS = frozenset({"index", "done"})
"""Names that the row of a loop, or a path, tells."""

BUILT_IN_ROOTS = frozenset({"steps", "error", "secrets"})
"""Names that are no column of the run: they come from the steps, or from the worker."""


def linked_attempt(record: Mapping[str, Any] | None) -> int:
    """Return which attempt of a step its callback URL is for: the one under way, or the next."""
    if record is None:
        return 1
    attempt: int = record["attempt"]
    return attempt + 1 if record["state"] == StepState.PENDING else max(attempt, 1)
