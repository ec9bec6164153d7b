"""The steps of a document as a graph of nodes, however wrong the document is.

The checks work on this and not on a Spec, so that a wrong key in one step hides
nothing that is wrong in another. What does not have the right shape is left
out here; `checks.shape` says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from workflows.language.catalog import TaskCatalog
from workflows.language.document import Document, Node, Report
from workflows.language.spec import KIND_KEYS
from workflows.language.syntax import Template
from workflows.language.words import StepKind

LOOPS = (StepKind.FOREACH, StepKind.REPEAT)
_HOLDERS = frozenset({"parallel", "first", "states", "steps", "switch", "catch"})


class Role(StrEnum):
    """What a sequence of steps is to its owner."""

    ROOT = "root"
    BODY = "body"
    BRANCHES = "branches"
    STATES = "states"
    CASE = "case"
    CATCH = "catch"


@dataclass(slots=True, eq=False)
class Scope:
    """A sequence of steps, and the step it belongs to. `cyclic`: its order makes no sense."""

    node: Node
    path: str
    role: Role
    owner: "Step | None"
    steps: list["Step"] = field(default_factory=list)
    cyclic: bool = False


@dataclass(slots=True, eq=False)
class Step:
    """A step as written.

    `needs` and `before` are found by `checks.graph`: the steps of the scope that
    it follows directly, and, as bits at their positions, those that it follows
    at all.
    """

    node: Node
    path: str
    position: int
    scope: Scope
    id: str
    kind: StepKind | None
    scopes: list[Scope] = field(default_factory=list)
    needs: list["Step"] = field(default_factory=list)
    before: int = 0

    def follows(self, other: "Step") -> bool:
        """Tell whether this step comes after `other`, a step of the same scope."""
        return bool(self.before >> other.position & 1)

    def owners(self) -> Iterator["Step"]:
        """Yield the step that this one is inside of, and so on outwards."""
        step = self.scope.owner
        while step is not None:
            yield step
            step = step.scope.owner


@dataclass(frozen=True, slots=True)
class Place:
    """A value that may hold expressions, and the names that are known to them.

    `own`: it is evaluated when the body of its step is done.
    """

    node: Node
    path: str
    step: Step | None
    names: frozenset[str]
    own: bool = False
    is_condition: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """One text with expressions in it."""

    node: Node
    path: str
    place: Place
    template: Template


@dataclass(slots=True)
class Outline:
    """Everything the checks look at, and the report they write to.

    `reads` is found by `checks.names`.
    """

    document: Document
    report: Report
    catalog: TaskCatalog | None
    scopes: list[Scope] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    by_id: dict[str, Step] = field(default_factory=dict)
    reads: list["Read"] = field(default_factory=list)

    @property
    def root(self) -> Node:
        """The document's mapping."""
        return self.document.root


def outline(document: Document, report: Report, catalog: TaskCatalog | None) -> Outline:
    """Find the steps of the document."""
    found = Outline(document, report, catalog)
    steps = document.root.get("steps")
    if steps is not None:
        _read_scope(found, Scope(steps, "steps", Role.ROOT, owner=None))
    return found


def _read_scope(found: Outline, scope: Scope) -> None:
    found.scopes.append(scope)
    for index, node in enumerate(scope.node.items or ()):
        if node.fields is None:
            continue
        identifier = node.value.get("id")
        step = Step(
            node=node,
            path=f"{scope.path}[{index}]",
            position=len(scope.steps),
            scope=scope,
            id=identifier if isinstance(identifier, str) else "",
            kind=kind_of(node),
        )
        scope.steps.append(step)
        found.steps.append(step)
        if step.id:
            found.by_id.setdefault(step.id, step)
        for inner in _inner_scopes(step):
            step.scopes.append(inner)
            _read_scope(found, inner)


def kinds_of(node: Node) -> list[str]:
    """Return the kind keys of a step that have a value; a loop's `steps` is its body."""
    value = node.value
    given = [key for key in KIND_KEYS if key in value and value[key] is not None]
    if "steps" in given and ("foreach" in given or "repeat" in given):
        given.remove("steps")
    return given


def kind_of(node: Node) -> StepKind | None:
    """Return the kind of the step, if it has exactly one."""
    given = kinds_of(node)
    return KIND_KEYS[given[0]] if len(given) == 1 else None


def _inner_scopes(step: Step) -> Iterator[Scope]:
    if _HOLDERS.isdisjoint(step.node.value):
        return
    for key, role in (
        ("parallel", Role.BRANCHES),
        ("first", Role.BRANCHES),
        ("states", Role.STATES),
        ("steps", Role.BODY),
    ):
        node = step.node.get(key)
        if node is not None and node.items is not None:
            yield Scope(node, f"{step.path}.{key}", role, step)
    for key, role in (("switch", Role.CASE), ("catch", Role.CATCH)):
        holder = step.node.get(key)
        for index, part in enumerate((holder.items if holder else None) or ()):
            node = part.get("steps")
            if node is not None and node.items is not None:
                yield Scope(node, f"{step.path}.{key}[{index}].steps", role, step)
