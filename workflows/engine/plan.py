"""A Plan: a definition compiled into what the engine walks on.

Nodes lie in one tuple, in document order, and name each other by index; node 0
is the run's root scope. A plan is stored with its version as JSON and never
changes: a run is pinned to it.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from workflows.language.spec import RetryPolicy
from workflows.language.words import (
    ConcurrencyPolicy,
    ExitStatus,
    Join,
    Losers,
    OnFailure,
    OnItemFailure,
    OnTimeout,
    StepKind,
)

Part = TypeVar("Part")

ROOT = ""
NO_NODE = -1
NO_LONGER = 2**31 - 1
"""The node of a row whose step the version that its run went over to does not have."""

LOOPS = frozenset({StepKind.FOREACH, StepKind.REPEAT, StepKind.STATES})
"""The scopes whose body is done many times."""

SCOPES = LOOPS | {StepKind.STEPS, StepKind.PARALLEL, StepKind.FIRST, StepKind.SWITCH}
"""The kinds that do nothing themselves: what is inside of them does."""

_NUMBERS = re.compile(r"(?<!\.catch)\[(\d*)\]")
NUMBERED = re.compile(r"(?<!\.catch)\[\d+\]")
"""The numbers of iterations in a path; those of fallback paths are part of the name."""

PATHS_IN_MIND = 4_096
"""Of how many steps in loops a process remembers what their paths say: a step asks many times."""


@dataclass(frozen=True)
class Reads:
    """What an expression needs to know: names such as `vars`, and ids of steps."""

    roots: frozenset[str] = frozenset()
    steps: frozenset[str] = frozenset()

    def __or__(self, other: "Reads") -> "Reads":
        return Reads(self.roots | other.roots, self.steps | other.steps)


NOTHING = Reads()
"""What most steps read."""


@dataclass(frozen=True)
class Case:
    """One branch of a switch; `when` is None for `else`."""

    when: str | bool | None
    children: tuple[int, ...]


@dataclass(frozen=True)
class Transition:
    """Where a state goes if `when` holds; `to` is the node, or NO_NODE for the end."""

    when: str | bool | None
    to: int


@dataclass(frozen=True)
class Handler:
    """A fallback path: the errors it is for (none: any) and the node that carries it out."""

    on: tuple[str, ...]
    node: int


@dataclass(frozen=True)
class Exit:
    """How an `exit` step ends the run, if `when` holds."""

    when: str | bool | None
    status: ExitStatus
    output: Any


@dataclass(frozen=True)
class Pause:
    """How long a `wait` step waits: for a time, in seconds or as an expression, or until one."""

    duration: float | str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Listening:
    """The event that an `event` step waits for, which may have come `since` so many seconds."""

    type: str
    match: str | bool | None = None
    since: float | None = None


@dataclass(frozen=True)
class Child:
    """What a `workflow` step runs: the newest version, unless it names one."""

    workflow: str
    version: int | None = None


@dataclass(frozen=True)
class Approval:
    """Whom an `approval` step asks, what, and what it does when nobody decides in time."""

    group: str
    title: str = ""
    description: str = ""
    message: str = ""
    approvals: int = 1
    on_timeout: OnTimeout = OnTimeout.FAIL
    escalate_to: str | None = None
    form: Mapping[str, Any] | None = None
    allow_self: bool = False


@dataclass(frozen=True)
class Concurrency:
    """How many runs with the same key there may be at a time, and what becomes of others."""

    key: str
    limit: int
    policy: ConcurrencyPolicy


@dataclass(frozen=True)
class Node:
    """A step of the definition, or one fallback path of a step.

    Its `path` is that of its rows, but for the numbers of iterations: `pack[].scan` is what
    `pack[3].scan` is an instance of.
    """

    index: int
    id: str
    path: str
    kind: StepKind
    scope: int
    needs: tuple[int, ...] = ()
    needed_by: tuple[int, ...] = ()
    join: Join = Join.NONE_FAILED
    at_least: int = 0
    losers: tuple[int, ...] = ()
    """The nodes to be cancelled once the partial join has what it waits for."""
    when: str | bool | None = None
    children: tuple[int, ...] = ()
    cases: tuple[Case, ...] = ()
    handlers: tuple[Handler, ...] = ()
    handles: int = NO_NODE
    """For a fallback path: the node whose failure it makes good."""
    undo: int = NO_NODE
    """The node that undoes what the step has done, if the run is compensated."""
    irreversible: bool = False
    """Whether the definition says that what the step does cannot be undone."""
    undoes: int = NO_NODE
    """For a compensation: the node that it undoes."""
    uses: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    queue_class: str = "default"
    environment: str = ""
    """Where the step is carried out, if not in the environment of its run."""
    timeout: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    optional: bool = False
    idempotent: bool | None = None
    """Whether it may follow itself in doubt; None: as its task type says."""
    guard: str = ""
    """The dependency whose circuit breaker is asked before an attempt, and hears how it ended."""
    pool: str = ""
    """The pool of which the step leases a profile."""
    keeps_profile: bool = False
    """Whether the run keeps the profile until it ends."""
    fail_fast: bool = False
    assigns: Mapping[str, Any] | None = None
    exit: Exit | None = None
    pause: Pause | None = None
    listening: Listening | None = None
    child: Child | None = None
    approval: Approval | None = None
    patience: float | None = None
    """Seconds that it waits for what comes from outside."""
    output: Any = None
    inline: Reads = NOTHING
    """What is read when the step is reached: `when`, cases, `set` and `exit`."""
    call: Reads = NOTHING
    """What the worker reads to fill in `arguments`."""
    yields: Reads = NOTHING
    """What is read when the step ends: `output`, and the outputs that a scope collects."""
    over: Any = None
    """What a foreach goes through: a list, or an expression for one or for how many."""
    source: int = 0
    """The loop whose items' outputs those are, if they are: its rows are gone through then."""
    max_parallel: int = 1
    on_item_failure: OnItemFailure = OnItemFailure.STOP
    stragglers: Losers = Losers.FINISH
    until: str | bool | None = None
    until_reads: Reads = NOTHING
    """What `until` reads of the item that has ended."""
    every: float | None = None
    max_times: int | None = None
    transitions: tuple[Transition, ...] = ()
    """Of a state: where it goes when it has ended; none: the end of its scope."""
    transition_reads: Reads = NOTHING
    is_item: bool = False
    """Whether it is the body of a loop, and its instances have numbers."""
    items: Mapping[str, int] = field(default_factory=dict)
    """What expressions call the items of the loops around it, and the nodes those belong to."""
    caught: int = NO_NODE
    """Inside a fallback path: the node whose failure expressions call `error`."""


@dataclass(frozen=True)
class Plan:
    """A whole definition, ready to be walked."""

    workflow: str
    environment: str
    nodes: tuple[Node, ...]
    timeout: float | None = None
    sla: float | None = None
    on_failure: OnFailure = OnFailure.FAIL
    concurrency: Concurrency | None = None
    input_schema: Mapping[str, Any] | None = None

    @cached_property
    def by_path(self) -> Mapping[str, Node]:
        """Every node by its path."""
        return {node.path: node for node in self.nodes}

    @cached_property
    def by_id(self) -> Mapping[str, Node]:
        """Every node by its id, which is unique in the document."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def can_be_undone(self) -> bool:
        """Whether any step says what undoes it."""
        return any(node.undo != NO_NODE for node in self.nodes)

    @cached_property
    def queue_classes(self) -> Mapping[str, frozenset[str]]:
        """The classes of workers that the steps ask for, by environment; the run's own is ``."""
        found: dict[str, set[str]] = {"": set()}
        for node in self.nodes:
            if node.kind is StepKind.TASK or node.environment:
                found.setdefault(node.environment, set()).add(node.queue_class)
        return {place: frozenset(classes) for place, classes in found.items()}

    @cached_property
    def has_children(self) -> bool:
        """Whether a step of it may start a child run."""
        return any(node.kind is StepKind.WORKFLOW for node in self.nodes)

    @cached_property
    def elsewhere(self) -> frozenset[str]:
        """The environments that steps are sent to."""
        return frozenset(self.queue_classes) - {""}

    @cached_property
    def has_profiles(self) -> bool:
        """Whether steps lease profiles."""
        return any(node.pool for node in self.nodes)

    @cached_property
    def guards(self) -> frozenset[str]:
        """The dependencies that have a guard."""
        return frozenset(node.guard for node in self.nodes if node.guard)

    @cached_property
    def has_loops(self) -> bool:
        """Whether a step may be done many times."""
        return any(node.kind in LOOPS for node in self.nodes)

    @cached_property
    def memory(self) -> dict[Hashable, Any]:
        """What was found out about the plan once and need not be found out again."""
        return {}

    @cached_property
    def in_items(self) -> tuple[tuple[int, str], ...]:
        """Nodes that are, or are inside of, an item of a `foreach`, and how its path looks."""
        loops = [node for node in self.nodes if node.kind is StepKind.FOREACH]
        bodies = [self.nodes[loop.children[0]].path for loop in loops]
        return tuple(
            (node.index, "^" + re.escape(body).replace(r"\[\]", r"\[[0-9]+\]"))
            for body in bodies
            for node in self.nodes
            if is_inside(node.path, body)
        )

    @property
    def root(self) -> Node:
        """The scope that is the run itself."""
        return self.nodes[0]

    def node(self, path: str) -> Node:
        """Return the node that the step at `path` is an instance of."""
        found = self.by_path.get(path)
        return self.by_path[template_of(path)] if found is None else found

    def path(self, node: Node | int, near: str) -> str:
        """Return the path of the instance of a node that is in the iterations of `near`.

        `near` is the path of a step that is inside every loop that the node is inside of.
        """
        known = self.nodes[node] if isinstance(node, int) else node
        return located(known.path, near)

    def record(self, node: Node, near: str) -> str:
        """Return the path of the instance of a node whose result a step at `near` reads.

        It is in the same iterations. Of a state, and of what is inside one, it is the latest
        visit's, told by `*`; but what is inside the state that reads is this visit's.
        """
        if "[]" not in node.path:
            return node.path
        mine, others = self._rounds(node), self._rounds(self.node(near))
        shared = 0
        while shared < min(len(mine), len(others)) and mine[shared] == others[shared]:
            shared += 1
        numbers = [*numbers_of(near)[:shared], *"*" * (len(mine) - shared)]
        return _numbered(node.path, numbers)

    def _rounds(self, node: Node) -> tuple[int, ...]:
        """Return the bodies of loops that a node is inside of, or is, the outermost first."""
        key = ("rounds", node.index)
        if key not in self.memory:
            around = (*reversed(self.ancestors(node)), node)
            self.memory[key] = tuple(one.index for one in around if one.is_item)
        found: tuple[int, ...] = self.memory[key]
        return found

    def ancestors(self, node: Node) -> tuple[Node, ...]:
        """Return the scopes around `node`, the nearest first, the root last."""
        found = []
        while node.scope != NO_NODE:
            node = self.nodes[node.scope]
            found.append(node)
        return tuple(found)


def required(part: Part | None, node: Node) -> Part:
    """Return the part of a definition that makes a step what it is.

    Raises AssertionError when the plan has lost it, as only a damaged one can have.
    """
    if part is None:
        raise AssertionError(f"the {node.kind.value} step {node.path} has lost its definition")
    return part


@lru_cache(maxsize=PATHS_IN_MIND)
def numbers_of(path: str) -> tuple[str, ...]:
    """Return the numbers of the iterations that a path is in, the outermost first."""
    return tuple(_NUMBERS.findall(path))


ASIDE = "~"
"""The scope of rows of NO_LONGER, and what is put between their path and a number."""


def is_inside(path: str, top: str) -> bool:
    """Say whether the step at `path` is the one at `top`, or is somewhere in it."""
    return top in {ROOT, path} or path.startswith((f"{top}.", f"{top}["))


def number_of(path: str, depth: int = -1) -> int:
    """Return the number of an iteration in a path: the last, or that at a depth."""
    return int(numbers_of(path)[depth])


@lru_cache(maxsize=PATHS_IN_MIND)
def template_of(path: str) -> str:
    """Return the path of the node that the step at `path` is an instance of."""
    return NUMBERED.sub("[]", path) if "[" in path else path


def located(template: str, near: str) -> str:
    """Return a node's path with the numbers of the iterations that `near` is in."""
    return _numbered(template, numbers_of(near)) if "[]" in template else template


def _numbered(template: str, numbers: Sequence[str]) -> str:
    first, *parts = template.split("[]")
    found = zip(numbers, parts, strict=False)
    return first + "".join(f"[{number}]{part}" for number, part in found)


def latest(path: str) -> re.Pattern[str]:
    """Return what the paths look like that `*` stands in, in place of numbers."""
    return re.compile(re.escape(path).replace(r"\*", r"\d+"))


def matching(template: str) -> str:
    """Return the regular expression of the paths of a node's rows; each number is a group."""
    return "^" + re.escape(template).replace(r"\[\]", r"\[(\d+)\]") + "$"


def renaming(template: str) -> str:
    """Return a node's path with the groups of `matching` for its numbers, as PostgreSQL has them.

    Both are to be in as many loops.
    """
    first, *parts = template.split("[]")
    return first + "".join(f"[\\{number}]{part}" for number, part in enumerate(parts, 1))


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)


def dump_plan(plan: Plan) -> bytes:
    """Return the plan as JSON, as it is stored with its version."""
    return _ADAPTER.dump_json(plan, exclude_defaults=True)


def load_plan(text: bytes | str) -> Plan:
    """Read a plan as `dump_plan` wrote it."""
    return _ADAPTER.validate_json(text)
