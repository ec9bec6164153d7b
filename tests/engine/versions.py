"""Have a run in memory go over to another version, as the store does it to a stored one.

`edited` writes the other version, at random; `without` has the run do without all that is asked.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from math import inf
from random import Random
from typing import Any

from tests.engine.builders import Play, plan_from, task
from workflows.engine.advance import advance
from workflows.engine.events import GivenUp, Migrated
from workflows.engine.examined import Examined, Mapped, Standing, Verdict, namesake
from workflows.engine.plan import ASIDE, LOOPS, NO_NODE, ROOT, Plan, matching, renaming
from workflows.engine.preflight import examine
from workflows.engine.simulation import StepRow, Transition
from workflows.engine.slice import Requirement
from workflows.engine.states import Reason, StepState

Document = dict[str, Any]


def standings(run: Play) -> list[Standing]:
    """Count the rows of a run by node and state."""
    first: dict[tuple[Any, ...], str] = {}
    counted: Counter[tuple[Any, ...]] = Counter()
    for path, view in sorted((path, row.view) for path, row in run.rows.items()):
        key = (view.node, view.state, view.reason, view.attempt > (view.state is StepState.QUEUED))
        first.setdefault(key, path)
        counted[key] += 1
    found = [Standing(*key, rows=number, path=first[key]) for key, number in counted.items()]
    return sorted(found, key=lambda one: (one.node, one.state, one.reason or "~", one.is_begun))


def preflight(run: Play, plan: Plan, mapping: Mapped | None = None) -> Examined:
    """Say whether a run can go over, looking at no more rows than the store would."""
    found = examine(
        run.plan,
        plan,
        run=run.run,
        standings=standings(run),
        rows={path: row.view for path, row in run.rows.items() if _matters(run, path)},
        mapping=mapping or {},
    )
    begun = _begun(run)
    taken = [path for path, was in found.names.items() if begun.get(path, {was}) - {was}]
    return replace(found, findings=(*found.findings, *map(namesake, sorted(taken))))


def _begun(run: Play) -> dict[str, set[str]]:
    """Return what is called how now that has begun under a name."""
    begun = {name: set(called) for name, called in run.begun.items()}
    moved = [
        at for at, one in enumerate(run.journal, 1) if one.path == ROOT and one.before == one.after
    ]
    for line in run.journal[max(moved, default=0) :]:
        if line.after == StepState.RUNNING:
            begun.setdefault(line.path, set()).add(line.path)
    return begun


def _matters(run: Play, path: str) -> bool:
    view = run.rows[path].view
    node = run.plan.nodes[view.node]
    reopened = view.state in {StepState.FAILED, StepState.CANCELLED}
    if "[]" not in node.path or view.alive or reopened or view.reason is Reason.REPLAYED:
        return True
    around = run.rows.get(view.scope)
    return not node.is_item and around is not None and around.view.state is not StepState.COMPLETED


def migrate(run: Play, plan: Plan, mapping: Mapped | None = None) -> Examined:
    """Have a run go over if it can, and say what was found."""
    found = preflight(run, plan, mapping)
    if found.verdict is not Verdict.SAFE:
        return found
    held = run.load(Requirement(everything=True))
    given_up = advance(run.plan, held, GivenUp(found.withdrawn), now=run.now, chance=run.chance)
    run.write(given_up, now=run.now)
    _go_over(run, plan, found)
    run.decide(Migrated(found.births))
    return found


def _go_over(run: Play, plan: Plan, found: Examined) -> None:
    run.migrations += 1
    begun = _begun(run)
    old, rows = run.plan, list(run.rows.values())
    run.plan, run.rows = plan, {}
    known = _known_as(old, plan, rows, found, run.migrations)
    for row in rows:
        before, row.view = row.view, _placed(plan, row, known, found)
        into = run.rows if before.node in found.nodes else run.aside
        into[row.view.path] = row
    run.begun = {name: {known.get(one, one) for one in called} for name, called in begun.items()}
    _follow(run, known)
    _rename_lists(run, old, found)
    _number_completions(run)
    run.journal.append(Transition(run.now, ROOT, run.state.value, run.state.value))


def _known_as(
    old: Plan, plan: Plan, rows: list[StepRow], found: Examined, number: int
) -> dict[str, str]:
    """Return what each path is now; that of a row that is kept aside is nobody's else."""
    known = {}
    for view in (row.view for row in rows):
        target = found.nodes.get(view.node)
        aside = f"{view.path}{ASIDE}{number}"
        known[view.path] = aside if target is None else plan.path(target, view.path)
    return known


def _placed(plan: Plan, row: StepRow, known: Mapping[str, str], found: Examined) -> Any:
    path = known[row.view.path]
    if row.view.node not in found.nodes:
        return row.view._replace(path=path, scope=ASIDE)
    target = plan.nodes[found.nodes[row.view.node]]
    return row.view._replace(node=target.index, path=path, scope=plan.path(target.scope, path))


def _follow(run: Play, known: Mapping[str, str]) -> None:
    """Give what bears the path of a step the path that this has now."""
    run.charged = {known.get(path, path) for path in run.charged}
    run.waits = {
        (known.get(path, path), number): replace(one, path=known.get(path, path))
        for (path, number), one in run.waits.items()
    }
    run.attempts = [
        replace(one, step=one.step._replace(path=known.get(one.step.path, one.step.path)))
        for one in run.attempts
    ]
    run.incidents = [replace(one, path=known.get(one.path, one.path)) for one in run.incidents]
    run.late = [replace(one, path=known.get(one.path, one.path)) for one in run.late]


def _rename_lists(run: Play, old: Plan, found: Examined) -> None:
    """Have a loop that goes through the outputs of another one find them."""
    for row in run.rows.values():
        if run.plan.nodes[row.view.node].kind in LOOPS and isinstance(row.items, dict):
            for before, after in found.nodes.items():
                was, becomes = old.nodes[before].path, run.plan.nodes[after].path
                if re.match(matching(was), row.items["of"]):
                    row.items = {"of": re.sub(matching(was), renaming(becomes), row.items["of"])}
                    break


def _number_completions(run: Play) -> None:
    """Have just those steps be among what is to be undone that the new version can undo."""
    done = []
    for row in run.rows.values():
        if run.plan.nodes[row.view.node].undo == NO_NODE:
            row.completion = 0
        elif row.view.state is StepState.COMPLETED:
            done.append(row)
    if any(not row.completion for row in done):
        done.sort(key=lambda row: (row.finished_at, row.completion or inf, row.view.node))
        for row in done:
            run.completions += 1
            row.completion = run.completions


def edited(
    document: Document, chance: Random, names: Iterator[int]
) -> tuple[Document, dict[str, str]]:
    """Return another version of a document, and the new paths of steps that it has by other names.

    It has more steps, fewer, others to follow, other arguments and limits.
    """
    editor = _Editor(chance, names)
    known = deepcopy(document)
    editor.edit(known["steps"])
    known = editor.without_the_gone(known)
    old, new = _compiled(document), _compiled(known)
    return known, {
        old.by_id[before].path: new.by_id[after].path for before, after in editor.renamed.items()
    }


def _compiled(document: Document) -> Plan:
    return plan_from(*document["steps"], **{k: v for k, v in document.items() if k != "steps"})


class _Editor:
    """Changes the steps of a document, and knows what it has done to their names."""

    def __init__(self, chance: Random, names: Iterator[int]) -> None:
        self.chance = chance
        self.names = names
        self.renamed: dict[str, str] = {}
        self.gone: set[str] = set()
        self.free: list[str] = []
        """Names that steps had and have no more, which others may be given."""

    def edit(self, steps: list[Document]) -> None:
        for step in list(steps):
            for inside in (*_lists(step), *(one["steps"] for one in step.get("catch", ()))):
                self.edit(inside)
            if self.chance.random() < 0.1 and len(steps) > 1:
                self.drop(steps, step)
            else:
                self.change(steps, step)
        while self.chance.random() < 0.4:
            self.add(steps)

    def drop(self, steps: list[Document], step: Document) -> None:
        steps.remove(step)
        for other in steps:
            _forget(other, step["id"])
        gone = set(_names_in(step))
        self.gone |= gone - set(self.renamed.values())
        self.gone |= {before for before, after in self.renamed.items() if after in gone}
        for before in [before for before, after in self.renamed.items() if after in gone]:
            del self.renamed[before]
        self.free.append(step["id"])

    def change(self, steps: list[Document], step: Document) -> None:
        if self.chance.random() < 0.1:
            self.rename(steps, step)
        if "uses" in step and self.chance.random() < 0.2:
            step["with"] = {"message": f"edited {next(self.names)}"}
        if "retry" in step and self.chance.random() < 0.1:
            step["retry"]["max_attempts"] = self.chance.randint(1, 3)
        if self.chance.random() < 0.05:
            step["optional"] = not step.get("optional", False)
        if self.chance.random() < 0.1 and not {"set", "exit"} & step.keys():
            if "compensate" in step:
                del step["compensate"]
            else:
                step["compensate"] = {"uses": "log", "retry": {"max_attempts": 1}}

    def rename(self, steps: list[Document], step: Document) -> None:
        before, after = step["id"], f"r{next(self.names)}"
        for other in steps:
            if before in other.get("needs", ()):
                other["needs"] = [after if one == before else one for one in other["needs"]]
        step["id"] = after
        self.renamed[before] = after
        self.free.append(before)

    def add(self, steps: list[Document]) -> None:
        place = self.chance.randint(0, len(steps))
        name = f"n{next(self.names)}"
        if self.free and self.chance.random() < 0.3:
            name = self.free.pop()
        added = task(name, needs=[one["id"] for one in steps[:place]][-2:])
        if place < len(steps) and "needs" in steps[place] and self.chance.random() < 0.5:
            steps[place]["needs"] = [*steps[place]["needs"], added["id"]]
        steps.insert(place, added)

    def without_the_gone(self, known: Any) -> Any:
        """Return the document with what reads steps reading them by the names that they have."""
        match known:
            case dict():
                return {key: self.without_the_gone(value) for key, value in known.items()}
            case list():
                return [self.without_the_gone(value) for value in known]
            case str() if known.startswith("${{ steps."):
                name = known.removeprefix("${{ steps.").split(".")[0]
                if name in self.gone:
                    return "of a step that is gone"
                return known.replace(f"steps.{name}.", f"steps.{self.renamed.get(name, name)}.")
            case _:
                return known


def _names_in(step: Document) -> Iterator[str]:
    yield step["id"]
    for inside in (*_lists(step), *(one["steps"] for one in step.get("catch", ()))):
        for one in inside:
            yield from _names_in(one)


def _lists(step: Document) -> list[list[Document]]:
    cases = [one["steps"] for one in step.get("switch", ())]
    return [*cases, *(step[kind] for kind in ("steps", "parallel") if kind in step)]


def _forget(step: Document, gone: str) -> None:
    if gone not in step.get("needs", ()):
        return
    step["needs"] = [one for one in step["needs"] if one != gone]
    if not step["needs"] or isinstance(step.get("join"), dict):
        step.pop("join", None)
        step.pop("losers", None)


def without(
    run: Play, plan: Plan, renamed: Mapping[str, str] | None = None
) -> dict[str, str | None]:
    """Have the run do without all that a preflight asks about, but for what has another name."""
    mapping: dict[str, str | None] = dict(renamed or {})
    for _ in range(50):
        found = preflight(run, plan, mapping)
        if found.verdict is not Verdict.NEEDS_MAPPING:
            break
        mapping |= {one.path: None for one in found.findings if one.verdict is found.verdict}
    return mapping
