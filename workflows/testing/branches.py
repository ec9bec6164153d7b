"""The branches of a definition, where they stand in its text, and which of them a run has taken.

A branch is one of the ways that a run may go at a place: a step that is reached, a condition
that is true or false, a case, a fallback path, a loop of no, one or many rounds, a partial join
that is or is not met, a wait that is answered or is not.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from workflows.engine.plan import NO_NODE, Node, Plan
from workflows.engine.simulation import Simulation
from workflows.engine.states import Reason, StepState
from workflows.language.document import Node as Place
from workflows.language.document import Report
from workflows.language.outline import Outline, Step, outline
from workflows.language.reader import parse
from workflows.language.words import Join, StepKind
from workflows.testing.stage import Line

RUNS, UNDONE = "runs", "is undone"
ANSWERED, UNANSWERED = "is answered", "is not answered"
LOOPS = frozenset({StepKind.FOREACH, StepKind.REPEAT})
OUTSIDE = frozenset({StepKind.APPROVAL, StepKind.CALLBACK, StepKind.EVENT, StepKind.WORKFLOW})
REFUSING = frozenset({StepKind.APPROVAL, StepKind.WORKFLOW})
"""Kinds of steps that may be answered badly, also without a limit of time."""
MOST_SHOWN = 40

Key = tuple[str, str]
"""The path of a step in the definition, and which way was gone there."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way that a run may go, and its place in the text."""

    line: int
    column: int
    path: str
    what: str

    @property
    def key(self) -> Key:
        """What it is looked up by."""
        return self.path, self.what


@lru_cache
def digest(text: str) -> str:
    """Return what tells one definition from another, whatever its comments and its layout."""
    document = parse(text, Report(""))
    value = document.root.value if document else None
    return sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def branches_of(plan: Plan, text: str, source: str) -> tuple[Branch, ...]:
    """Return every branch of a definition, in the order of its text."""
    report = Report(source)
    document = parse(text, report)
    if document is None:
        return ()
    written = outline(document, report, None)
    found = [branch for node in plan.nodes[1:] for branch in _of(plan, node, written)]
    return tuple(sorted(found, key=lambda one: (one.line, one.column)))


def taken_by(run: Simulation, lines: Iterable[Line]) -> set[Key]:
    """Return the branches that a run has taken."""
    plan = run.plan
    ways: set[Key] = set()
    for line in lines:
        if line.path and not line.act:
            node = plan.node(line.path)
            ways |= set(_ways(plan, node, line))
    for path, row in run.rows.items():
        node = plan.nodes[row.view.node]
        if row.view.state is StepState.COMPLETED:
            ways |= {(node.path, way) for way in _ends(run, node, path)}
    return ways | set(_next_visits(run))


def _of(plan: Plan, node: Node, written: Outline) -> Iterator[Branch]:
    step = written.by_id.get(node.id)
    if step is None:
        return
    for what, (line, column) in _places(plan, node, step):
        yield Branch(line, column, node.path, what)


def _places(plan: Plan, node: Node, step: Step) -> Iterator[tuple[str, tuple[int, int]]]:
    here = step.node.line, step.node.column
    yield RUNS, here
    if isinstance(node.when, str):
        yield "when is true", step.node.key_place("when")
        yield "when is false", step.node.key_place("when")
    if node.kind is StepKind.SWITCH:
        yield from _cases(node, step)
    if node.exit is not None and isinstance(node.exit.when, str):
        yield "leaves", step.node.key_place("exit")
        yield "does not leave", step.node.key_place("exit")
    if node.kind in LOOPS:
        place = step.node.key_place(node.kind.value)
        fewest = 0 if node.kind is StepKind.FOREACH else 1
        yield from ((_rounds(node, count), place) for count in range(fewest, 3))
    yield from _ends_of(plan, node, step)
    yield from _catches(node, step)


def _ends_of(plan: Plan, node: Node, step: Step) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the ways in which a step may begin, end, and lead on."""
    if node.kind in OUTSIDE:
        yield ANSWERED, step.node.key_place(node.kind.value)
        if node.kind in REFUSING or node.patience is not None or node.timeout is not None:
            yield UNANSWERED, step.node.key_place(node.kind.value)
    if plan.nodes[node.scope].kind is StepKind.FIRST:
        yield "wins", (step.node.line, step.node.column)
    for target in dict.fromkeys(one.to for one in node.transitions):
        yield _goes_to(plan, target), step.node.key_place("next")
    if node.join is not Join.NONE_FAILED and node.join is not Join.ALWAYS and node.needs:
        yield "join is met", step.node.key_place("join")
        yield "join is not met", step.node.key_place("join")
    if node.undo != NO_NODE:
        yield UNDONE, step.node.key_place("compensate")
    if node.optional:
        yield "fails, and counts as done", step.node.key_place("optional")


def _cases(node: Node, step: Step) -> Iterator[tuple[str, tuple[int, int]]]:
    holder = step.node.get("switch")
    for number, case in enumerate(node.cases):
        place = _item(holder, number, step.node)
        yield _case(node, number), place
        if case.when is None:
            return
    yield "no case", step.node.key_place("switch")


def _catches(node: Node, step: Step) -> Iterator[tuple[str, tuple[int, int]]]:
    holder = step.node.get("catch")
    for number, handler in enumerate(node.handlers):
        yield _catch(number, handler.on), _item(holder, number, step.node)
    if node.handlers:
        yield "needs no catch", step.node.key_place("catch")


def _item(holder: Place | None, number: int, otherwise: Place) -> tuple[int, int]:
    items = holder.items if holder is not None else None
    place = items[number] if items is not None and number < len(items) else otherwise
    return place.line, place.column


def _case(node: Node, number: int) -> str:
    when = node.cases[number].when
    return "else" if when is None else f"case {_short(str(when))}"


def _catch(number: int, on: tuple[str, ...]) -> str:
    return f"catch[{number}] for {', '.join(on) or 'any error'}"


def _rounds(node: Node, count: int) -> str:
    word = "item" if node.kind is StepKind.FOREACH else "round"
    return f"no {word}" if count == 0 else f"one {word}" if count == 1 else f"many {word}s"


def _ways(plan: Plan, node: Node, line: Line) -> Iterator[Key]:
    """Yield which ways were gone when a step moved on."""
    match line.before, line.after, line.reason:
        case _, StepState.SKIPPED, Reason.WHEN:
            left = node.exit is not None and node.when is None
            yield node.path, "does not leave" if left else "when is false"
        case _, StepState.SKIPPED, Reason.NO_CASE:
            yield from ((node.path, way) for way in (RUNS, "when is true", "no case"))
        case _, StepState.SKIPPED, Reason.UPSTREAM_FAILED | Reason.UPSTREAM_SKIPPED:
            yield node.path, "join is not met"
        case StepState.PENDING, StepState.QUEUED, _:
            yield from ((node.path, way) for way in (RUNS, "when is true", "join is met"))
            yield from _around(plan, node)
        case _, StepState.COMPLETED, _:
            yield from ((node.path, way) for way in ("leaves", ANSWERED, "wins"))
        case _, StepState.COMPENSATED, _:
            yield node.path, UNDONE
        case _, StepState.FAILED, Reason.OPTIONAL:
            yield node.path, "fails, and counts as done"
    if node.kind in OUTSIDE and line.error is not None:
        yield node.path, UNANSWERED


def _around(plan: Plan, node: Node) -> Iterator[Key]:
    """Yield which way the step around one that begins has gone."""
    owner = plan.nodes[node.scope]
    for number, handler in enumerate(owner.handlers):
        if handler.node == node.index:
            yield owner.path, _catch(number, handler.on)
    for number, case in enumerate(owner.cases):
        if node.index in case.children:
            yield owner.path, _case(owner, number)


def _ends(run: Simulation, node: Node, path: str) -> Iterator[str]:
    """Yield which ways a step that is completed had gone by then."""
    if node.handlers and not any(
        f"{path}.catch[{n}]" in run.rows for n in range(len(node.handlers))
    ):
        yield "needs no catch"
    if node.kind in LOOPS:
        rounds = {
            found[1] for one in run.rows if (found := re.match(rf"{re.escape(path)}\[(\d+)\]", one))
        }
        yield _rounds(node, len(rounds))


def _next_visits(run: Simulation) -> Iterator[Key]:
    """Yield where states went when they had ended."""
    for path, row in run.rows.items():
        state = run.plan.nodes[row.view.node]
        if not state.transitions:
            continue
        block, number = path.rpartition(".")[0].rsplit("[", 1)
        following = f"{block}[{int(number[:-1]) + 1}]."
        targets = {one.to for one in state.transitions}
        for target in targets:
            name = run.plan.nodes[target].id if target != NO_NODE else None
            ended = row.view.final and not any(one.startswith(following) for one in run.rows)
            if f"{following}{name}" in run.rows or (name is None and ended):
                yield state.path, _goes_to(run.plan, target)


def _goes_to(plan: Plan, target: int) -> str:
    return "goes to the end" if target == NO_NODE else f"goes to {plan.nodes[target].id}"


def _short(text: str) -> str:
    bare = " ".join(text.removeprefix("${{").removesuffix("}}").split())
    return bare if len(bare) <= MOST_SHOWN else f"{bare[: MOST_SHOWN - 3]}..."
