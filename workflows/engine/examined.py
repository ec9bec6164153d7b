"""What is known of a run that is to go over to another version, and what an examination says of it.

Values only; `workflows.engine.preflight` examines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from workflows.engine.events import Birth
from workflows.engine.plan import Plan
from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState

Mapped = Mapping[str, str | None]
"""What has become of steps, by their paths without numbers; None: the run does without it."""

IN_FLIGHT = frozenset({StepState.QUEUED, StepState.RUNNING, StepState.RETRYING, StepState.WAITING})


class Verdict(StrEnum):
    """Whether a run can go over."""

    SAFE = "SAFE"
    NEEDS_MAPPING = "NEEDS_MAPPING"
    """An operator must say what has become of steps, or that the run does without them."""
    BLOCKED = "BLOCKED"


_WORST = (Verdict.SAFE, Verdict.NEEDS_MAPPING, Verdict.BLOCKED)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know about a migration: where, what, and what can be done about it."""

    verdict: Verdict
    path: str
    what: str
    do: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it as JSON takes it."""
        return {
            "verdict": self.verdict.value,
            "path": self.path,
            "what": self.what,
            "do": self.do,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """How many steps of a node are in a state, and the path of one of them."""

    node: int
    state: StepState
    reason: Reason | None
    is_begun: bool
    """Whether there was an attempt at them, not only the number of one to come."""
    rows: int
    path: str

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was done for the step, so that nothing is lost with it."""
        if self.state in {StepState.SKIPPED, StepState.CANCELLED}:
            return not self.is_begun and self.reason is not Reason.SKIPPED_BY_OPERATOR
        return self.state is StepState.PENDING

    @property
    def is_in_flight(self) -> bool:
        """Whether work of it is under way."""
        return self.state in IN_FLIGHT

    @property
    def named(self) -> str:
        """Return the path, and how many others are like it."""
        return self.path if self.rows == 1 else f"{self.path} and {self.rows - 1:,} more like it"


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of an examination: the findings, and how the run's rows go over."""

    findings: tuple[Finding, ...] = ()
    nodes: Mapping[int, int] = field(default_factory=dict)
    """What each node of the old version that has rows is in the new one."""
    retired: frozenset[int] = frozenset()
    """The nodes that are none any more; their rows are kept aside."""
    withdrawn: tuple[str, ...] = ()
    """The steps of those that must be ended first."""
    births: tuple[Birth, ...] = ()
    placed: Mapping[str, StepView] = field(default_factory=dict)
    """The rows that were given, as they are in the new version."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Under which paths steps are to go on, or to begin, that had another: that, or nothing."""

    @property
    def verdict(self) -> Verdict:
        """Return the worst that was found."""
        found = {finding.verdict for finding in self.findings}
        return next(one for one in reversed(_WORST) if one in found or one is Verdict.SAFE)


def told(path: str, what: str) -> Finding:
    """Return something that stands in nobody's way."""
    return Finding(Verdict.SAFE, path, what)


def unmapped(path: str, what: str, do: str) -> Finding:
    """Return something that only an operator can know."""
    return Finding(Verdict.NEEDS_MAPPING, path, what, do)


def blocked(path: str, what: str, do: str = "") -> Finding:
    """Return something that stands in the way."""
    return Finding(Verdict.BLOCKED, path, what, do)


def namesake(path: str) -> Finding:
    """Return that a name cannot be had, for another step of the run has begun under it."""
    return blocked(
        path,
        f"another step of the run has begun as {path}, and its late result or its idempotency key"
        " would be taken for that of this one",
        "Give the step of the new version a name that no step of the run had.",
    )


def renamings(old: Plan, new: Plan, nodes: Mapping[int, int]) -> Iterator[tuple[int, str, str]]:
    """Yield the nodes whose rows get other paths: by number, the old path and the new one."""
    for before, after in nodes.items():
        was, becomes = old.nodes[before].path, new.nodes[after].path
        if was != becomes:
            yield before, was, becomes
