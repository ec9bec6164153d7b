"""A run in memory: its rows, what can be read of them, and what a decision writes.

What the store is in a database this is without one: `load` meets a requirement, `write` stores a
decision. The stored run and the simulated one are held against each other in tests.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from workflows.engine.compensating import BELOW
from workflows.engine.decision import UNSET, Awaited, Decision
from workflows.engine.events import StepError
from workflows.engine.plan import ROOT, Plan, is_inside, latest
from workflows.engine.slice import (
    Requirement,
    RunView,
    ScopeTally,
    Slice,
    StepView,
    Undoing,
)
from workflows.engine.states import (
    FINISHED_RUNS,
    HANDS_ON,
    TO_BE_UNDONE,
    UNDONE,
    Reason,
    RunState,
    StepState,
)
from workflows.language.words import OnFailure, StepKind


@dataclass(slots=True)
class StepRow:
    """All that a simulated run knows of a step."""

    view: StepView
    output: Any = None
    arguments: Mapping[str, Any] | None = None
    item: Any = None
    items: Any = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    completion: int = 0
    """The place of its completion among those of all steps that can be undone."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A line of the journal; the run's own have an empty path."""

    at: datetime
    path: str
    before: str
    after: str


@dataclass(slots=True)
class Simulation:
    """A run in memory: its rows and its journal."""

    plan: Plan
    input: Mapping[str, Any]
    started_at: datetime
    run: RunView = field(default_factory=lambda: RunView(id="simulation"))
    output: Any = None
    error: StepError | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What expressions read of the run instead of what is so in a simulation, such as its id."""
    rows: dict[str, StepRow] = field(default_factory=dict)
    waits: dict[tuple[str, int], Awaited] = field(default_factory=dict)
    """What is waited for from outside, by path and attempt."""
    journal: list[Transition] = field(default_factory=list)
    charged: set[str] = field(default_factory=set)
    """The steps that an incident was opened for."""
    completions: int = 0

    @property
    def undone(self) -> list[str]:
        """The steps that were undone, in the order in which they were."""
        undone = StepState.COMPENSATED
        return [line.path for line in self.journal if line.path and line.after == undone]

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self.run.state

    def states(self) -> dict[str, StepState]:
        """Return the state of every step by path."""
        return {path: row.view.state for path, row in self.rows.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the run with the keys that a stored run has in the API."""
        return {
            "id": self.run.id,
            "workflow": self.plan.workflow,
            "version": None,
            "environment": self.plan.environment,
            "state": self.state.value,
            "reason": self.run.reason.value if self.run.reason else None,
            "input": dict(self.input),
            "output": self.output,
            "error": self.error.as_dict() if self.error else None,
            "created_at": _iso(self.started_at),
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "late_since": None,
            "parent": None,
            "waits_for": None,
            "forked_from": None,
            "migrations": [],
            "steps": [_step_dict(row) for row in self._ordered()],
        }

    def _ordered(self) -> list[StepRow]:
        return sorted(self.rows.values(), key=lambda row: row.view.node)

    def load(self, wanted: Requirement) -> Slice:
        """Return the slice that meets the requirement."""
        paths = self.rows.keys() if wanted.everything else set(wanted.paths)
        for top in wanted.subtrees:
            inside = (path for path in self.rows if is_inside(path, top))
            paths = {*paths, *inside}
        for top in wanted.unfinished:
            inside = (path for path in self.rows if is_inside(path, top))
            paths = {*paths, *(path for path in inside if self._is_unfinished(path, top))}
        if wanted.reopenable:
            paths = {*paths, *(path for path in self.rows if self._is_reopenable(path))}
        undoing = self._undoing() if wanted.undoing else None
        if undoing is not None and undoing.next:
            paths = {*paths, undoing.next, undoing.next + BELOW}
        return Slice(
            run=self.run,
            undoing=undoing,
            steps={path: self.rows[path].view for path in paths if path in self.rows},
            roots={
                "input": self.input,
                "vars": self.variables,
                "env": self.environment,
                "run": self._run_names(),
            },
            records={path: self._record(path) for path in wanted.records},
            items={path: self.rows[path].item for path in wanted.items if path in self.rows},
            batches={path: self._batch(path) for path in wanted.batches},
            gathered={path: self._gathered(path) for path in wanted.gathered},
            tallies={scope: self._tally(scope) for scope in wanted.scopes},
            held=wanted,
            link=lambda path, attempt: f"https://callback.invalid/{path}/{attempt}",
        )

    def _undoing(self) -> Undoing:
        undos = [row.view for row in self.rows.values() if row.view.path.endswith(BELOW)]
        live = [view for view in undos if view.alive and self.plan.nodes[view.node].undoes > 0]
        done = [row for row in self.rows.values() if row.completion]
        left = [row for row in done if row.view.state in TO_BE_UNDONE]
        failed = [
            row
            for row in done
            if row.view.state is StepState.COMPENSATION_FAILED
            and row.view.reason is not Reason.DISCARDED
        ]
        return Undoing(
            under_way=any(view.state is not StepState.PENDING for view in live),
            next=_last_completed(left),
            failed=len(failed),
            first_failed=_last_completed(failed),
        )

    def _run_names(self) -> dict[str, Any]:
        return {
            "id": self.run.id,
            "workflow": self.plan.workflow,
            "version": 0,
            "environment": self.plan.environment,
            "started_at": _iso(self.started_at),
            **self.facts,
        }

    def _record(self, path: str) -> Mapping[str, Any] | None:
        if "*" in path:
            wanted = latest(path)
            path = next((one for one in reversed(self.rows) if wanted.fullmatch(one)), path)
        row = self.rows.get(path)
        if row is None:
            return None
        error = row.view.error
        return {
            "state": row.view.state.value,
            "output": row.output,
            "error": error.as_dict() if error else None,
            "attempt": row.view.attempt,
        }

    def _is_reopenable(self, path: str) -> bool:
        """Say whether a step is in no item of a loop that ended well."""
        index = self.rows[path].view.node
        around = [re.match(item, path) for node, item in self.plan.in_items if node == index]
        items = [self.rows.get(found.group()) for found in around if found]
        return not any(item and item.view.state is StepState.COMPLETED for item in items)

    def _is_unfinished(self, path: str, top: str) -> bool:
        view = self.rows[path].view
        return path == top or view.alive or view.failed or view.state is StepState.FAILED

    def _batch(self, path: str) -> Sequence[Any]:
        """Return the next items of a loop."""
        row = self.rows[path]
        first, node = row.view.born, self.plan.nodes[row.view.node]
        last = min(first + node.max_parallel, row.view.total or 0)
        if isinstance(row.items, list):
            return row.items[first:last]
        if row.items is None:
            return range(first, last)
        return self._outputs(row.items["of"], range(first, last))

    def _gathered(self, path: str) -> Sequence[Any]:
        born = self.rows[path].view.born
        if self.plan.node(path).kind is not StepKind.FOREACH:
            nodes = self.plan.nodes
            rounds = [row for row in self.rows.values() if row.view.scope == path]
            return [row.output for row in rounds if nodes[row.view.node].is_item][born - 1 :]
        return self._outputs(path, range(born))

    def _outputs(self, path: str, numbers: range) -> list[Any]:
        """Return the outputs of some items of a loop."""
        body = self.plan.nodes[self.plan.node(path).children[0]]
        found = (self.rows[self.plan.path(body, f"{path}[{number}]")] for number in numbers)
        return [row.output if row.view.state in HANDS_ON else None for row in found]

    def _tally(self, scope: str) -> ScopeTally:
        inside = [row.view for row in self.rows.values() if row.view.scope == scope]
        inside.sort(key=lambda view: view.node)
        return ScopeTally.of(inside, needs_person=scope == ROOT and self._needs_person())

    def _needs_person(self) -> bool:
        return self.plan.on_failure is OnFailure.PARK and bool(self.to_replay)

    @property
    def to_replay(self) -> list[str]:
        """The steps that have failed and still need a person, in the order of their rows."""
        return [path for path in self.rows if path in self.charged and self._is_open(path)]

    def _is_open(self, path: str) -> bool:
        """Say whether a step that failed still needs a person, who may have settled a scope."""
        view = self.rows[path].view
        if view.state is not StepState.FAILED:
            return False
        while view.scope != ROOT:
            view = self.rows[view.scope].view
            if view.reason in {Reason.SKIPPED_BY_OPERATOR, Reason.DISCARDED}:
                return False
        return True

    def write(self, decision: Decision, *, now: datetime) -> None:
        """Store what was decided."""
        for view in decision.born:
            self.rows[view.path] = StepRow(view, item=decision.items.get(view.path))
        for move in decision.moves:
            row = self.rows[move.after.path]
            row.view = move.after
            if move.output is not UNSET:
                row.output = move.output
            if move.arguments is not UNSET:
                row.arguments = move.arguments
            if move.items is not UNSET:
                row.items = move.items
            if move.before is not move.after.state:
                self._stamp(row, now)
                self.journal.append(
                    Transition(now, move.after.path, move.before.value, move.after.state.value)
                )
        for run_move in decision.run_moves:
            self.run = run_move.after
            if run_move.output is not UNSET:
                self.output = run_move.output
            self.error = run_move.error
            self.finished_at = now if run_move.after.state in FINISHED_RUNS else None
            if run_move.before is not run_move.after.state:
                self.journal.append(
                    Transition(now, ROOT, run_move.before.value, run_move.after.state.value)
                )
        self.variables.update(decision.assigned)
        self.charged.update(incident.path for incident in decision.incidents)
        self._write_waits(decision)

    def _write_waits(self, decision: Decision) -> None:
        for awaited in decision.waits:
            self.waits[awaited.path, awaited.attempt] = awaited
        for closing in decision.closings:
            del self.waits[closing.path, closing.attempt]

    def _stamp(self, row: StepRow, now: datetime) -> None:
        match row.view.state:
            case StepState.PENDING:
                row.queued_at = row.started_at = row.finished_at = None
            case StepState.QUEUED:
                row.queued_at, row.started_at, row.finished_at = now, None, None
            case StepState.RUNNING:
                row.started_at = now
            case _ if row.view.final and row.view.state not in UNDONE:
                row.finished_at = now
        if row.view.state is StepState.COMPLETED and self.plan.nodes[row.view.node].undo > 0:
            self.completions += 1
            row.completion = self.completions


def _last_completed(rows: Sequence[StepRow]) -> str:
    """Return the path of the step that was completed last; nothing if there is none."""
    last = max(rows, key=lambda row: row.completion, default=None)
    return "" if last is None else last.view.path


def _step_dict(row: StepRow) -> dict[str, Any]:
    view = row.view
    return {
        "path": view.path,
        "state": view.state.value,
        "reason": view.reason.value if view.reason else None,
        "attempt": view.attempt,
        "output": row.output,
        "error": view.error.as_dict() if view.error else None,
        "queued_at": _iso(row.queued_at),
        "started_at": _iso(row.started_at),
        "finished_at": _iso(row.finished_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
