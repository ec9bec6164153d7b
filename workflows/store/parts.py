"""A Decision in the words of the database: its parts, each a list of rows for `commit.sql`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from workflows.engine.decision import (
    UNSET,
    AttemptRecord,
    Awaited,
    Closing,
    Decision,
    LateResult,
    Move,
    OpenIncident,
    RunMove,
)
from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import NO_NODE, Plan
from workflows.engine.slice import StepView
from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    UNDONE,
    RunReason,
    RunState,
    StepState,
)
from workflows.store.places import queue_of

Parts = dict[str, list[Any]]
"""What is to be stored of a run, as rows by the part of a decision that they belong to."""

Values = dict[str, Any]

BEGINNINGS = frozenset({RunState.PENDING, RunState.FAILED})
"""From these a run begins to use up its time."""

FIRST_QUEUEING = frozenset({"state", "reason", "attempt", "wake_at"})
"""What a step that is queued as soon as it is born has besides what every newborn has."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created."""

    workflow: UUID
    version: UUID
    environment: UUID
    input: Mapping[str, Any]
    idempotency_key: str | None
    parent: UUID | None = None
    parent_path: str | None = None
    concurrency_key: str | None = None
    waits: RunReason | None = None
    """Why it does not begin at once."""
    forked_from: UUID | None = None
    forked_path: str | None = None


NOT_MOVED: tuple[int, Move, Values] = (
    0,
    Move(StepState.PENDING, StepView("", NO_NODE, ""), frozenset()),
    {},
)
"""What a decision has done so far with a step that it has not moved: in no round, by no move."""


def parts_of(
    plan: Plan, environment: str, decision: Decision, now: datetime, new: NewRun | None
) -> Parts:
    """Return what is to be stored of a decision; the first of a `new` run has its row, too."""
    begins = [move for move in decision.run_moves if _begins(move)]
    ends = [move for move in decision.run_moves if not _begins(move)]
    born = {
        view.path: _birth(plan, environment, view, decision.items.get(view.path))
        for view in decision.born
    }
    parts: Parts = {
        "run": [] if new is None else [_new_run(plan, new, now)],
        "opening": [_run_values(plan, move, now) for move in begins] if new is None else [],
        "attempts": [_attempt_row(record) for record in decision.attempts],
        "rounds": _rounds(decision.moves, born),
        "born": list(born.values()),
        "vars": [[decision.assigned]] if decision.assigned else [],
        "closing": [_run_values(plan, move, now) for move in ends],
        "late": [_late_row(late) for late in decision.late],
        "incidents": [_incident_row(incident) for incident in decision.incidents],
        "waits": [_wait_row(awaited) for awaited in decision.waits],
        "closings": [_closing_row(closing) for closing in decision.closings],
        "settled": [[]] if decision.settled else [],
        "undoable": _undoable(plan, decision) if plan.can_be_undone else [],
    }
    return {part: rows for part, rows in parts.items() if rows}


def _undoable(plan: Plan, decision: Decision) -> list[list[str]]:
    """Return the steps that this completes and that can be undone, in the order of completion."""
    return [
        [move.after.path]
        for move in decision.moves
        if move.after.state is StepState.COMPLETED
        and move.before is not StepState.COMPLETED
        and plan.nodes[move.after.node].undo != NO_NODE
    ]


def _new_run(plan: Plan, new: NewRun, now: datetime) -> list[Any]:
    sla = _time(now + timedelta(seconds=plan.sla)) if plan.sla else None
    fork = [str(new.forked_from) if new.forked_from else None, new.forked_path]
    parent = [str(new.parent) if new.parent else None, new.parent_path]
    more = [*parent, sla, *_place_of(plan, new), *fork]
    while more and more[-1] is None:
        more.pop()
    return [
        str(new.workflow),
        str(new.version),
        str(new.environment),
        new.input,
        new.idempotency_key,
        _time(_deadline(plan, now)) if new.waits is None else None,
        *more,
    ]


def _place_of(plan: Plan, new: NewRun) -> list[Any]:
    """Return by which key the run is one of how many, and why it waits for a place."""
    if plan.concurrency is None or new.concurrency_key is None:
        return [None, None, None]
    return [new.concurrency_key, plan.concurrency.limit, new.waits]


def _birth(plan: Plan, environment: str, view: StepView, item: Any) -> list[Any]:
    queue = queue_of(plan.nodes[view.node], environment)
    return [str(uuid7()), view.path, view.node, view.scope, queue, item]


def _rounds(moves: list[Move], born: dict[str, list[str | int | None]]) -> list[list[Values]]:
    """Return the moves so that none of a round is of the same step: a round is one UPDATE.

    A step that is born and queued at once is born queued; one that is queued and begun at
    once makes both moves in one. The journal has a line for each all the same.
    """
    rounds: list[list[Values]] = []
    last: dict[str, tuple[int, Move, Values]] = {}
    for move in moves:
        path = move.after.path
        turn, before, known = last.get(path, NOT_MOVED)
        if not turn and path in born and _is_first_queueing(move):
            born[path].append(_time(move.after.wake_at))
            continue
        values = _move_values(move)
        if known.get("stamp") == "queued" and _passes_through(before, move):
            known.update(values, stamp="queued and started")
            continue
        last[path] = turn + 1, move, values
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(values)
    return rounds


def _is_first_queueing(move: Move) -> bool:
    return (
        move.before is StepState.PENDING
        and move.after.state is StepState.QUEUED
        and move.after.attempt == 1
        and move.changed <= FIRST_QUEUEING
        and move.after.reason is None
    )


def _passes_through(before: Move, move: Move) -> bool:
    return before.before is StepState.PENDING and move.after.state is StepState.RUNNING


def _move_values(move: Move) -> Values:
    view = move.after
    values: Values = {"path": view.path}
    for name in move.changed & _FIELDS.keys():
        values[name] = _FIELDS[name](view)
    if move.output is not UNSET:
        values["output"] = move.output
    if move.arguments is not UNSET:
        values["arguments"] = move.arguments
    if move.items is not UNSET:
        values["item"] = move.items
    if stamp := _stamp(move):
        values["stamp"] = stamp
    return values


def _tally_values(tally: Tally) -> list[int]:
    return [tally.ok, tally.failed, tally.skipped, tally.upstream_failed]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


_FIELDS: Mapping[str, Callable[[StepView], Any]] = {
    "state": lambda view: view.state,
    "reason": lambda view: view.reason or "",
    "attempt": lambda view: view.attempt,
    "failures": lambda view: view.failures,
    "losses": lambda view: view.losses,
    "tally": lambda view: _tally_values(view.tally),
    "error": lambda view: _error(view.error),
    "cancel_requested": lambda view: view.cancel_requested,
    "worker": lambda view: view.worker,
    "wake_at": lambda view: _time(view.wake_at),
    "total": lambda view: view.total,
    "born": lambda view: view.born,
    "retry_until": lambda view: _time(view.retry_until),
}
"""How a field of a view is stored; the times of a step are the time of the decision."""


def _attempt_row(record: AttemptRecord) -> list[Any]:
    step = record.step
    return [str(uuid7()), step.path, step.attempt, record.end, _error(record.error)]


def _late_row(late: LateResult) -> list[Any]:
    return [late.path, late.attempt, {"output": late.output, "error": _error(late.error)}]


def _incident_row(incident: OpenIncident) -> list[Any]:
    return [str(uuid7()), incident.path, incident.attempt, _error(incident.error)]


def _wait_row(awaited: Awaited) -> list[Any]:
    place = [str(uuid7()), awaited.path, awaited.attempt]
    return [*place, awaited.kind, awaited.name, awaited.request]


def _closing_row(closing: Closing) -> list[Any]:
    return [closing.path, closing.attempt, closing.end, closing.answer]


def _error(error: StepError | None) -> dict[str, Any] | None:
    return None if error is None else error.as_dict()


def _begins(move: RunMove) -> bool:
    return move.after.state is RunState.RUNNING and move.before in BEGINNINGS


def _run_values(plan: Plan, move: RunMove, now: datetime) -> dict[str, Any]:
    ending = move.after.ending
    late = _deadline(plan, now) if _begins(move) else None
    values: dict[str, Any] = {
        "state": move.after.state,
        "reason": move.after.reason or "",
        "error": _error(move.error),
        "ending": None,
        "final": move.after.state in FINISHED_RUNS,
        "deadline": _time(late),
    }
    if plan.sla and _begins(move):
        values["sla"] = plan.sla
    if ending is not None:
        error = _error(ending.error)
        values["ending"] = {"status": ending.status, "output": ending.output, "error": error}
        if ending.undo:
            values["ending"]["undo"] = True
    if move.output is not UNSET:
        values["output"] = move.output
    return values


def _deadline(plan: Plan, now: datetime) -> datetime | None:
    return now + timedelta(seconds=plan.timeout) if plan.timeout else None


def _stamp(move: Move) -> str:
    if move.before is move.after.state:
        return ""
    match move.after.state:
        case StepState.PENDING:
            return "none"
        case StepState.QUEUED:
            return "queued"
        case StepState.RUNNING:
            return "started"
        case state if state in FINISHED_STEPS - UNDONE:
            return "finished"
        case _:
            return ""
