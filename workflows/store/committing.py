"""A Decision becomes rows, in one statement: the function `workflows_commit` of the migrations.

The only place that changes the state of a run or a step. A decision can be made
ahead, upon what was seen without a lock: then `commit` is told what it expects, and
stores all or nothing. So a step that meets nobody costs one round trip, and one that
meets somebody is decided again under the locks.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from environments.models import queue_name
from workflows.engine.decision import (
    UNSET,
    AttemptRecord,
    Decision,
    LateResult,
    Move,
    OpenIncident,
    RunMove,
)
from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import Plan
from workflows.engine.slice import StepView
from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    Reason,
    RunState,
    StepState,
)
from workflows.store.session import cursor

BEGINNINGS = frozenset({RunState.PENDING, RunState.FAILED})
"""From these a run begins to use up its time."""

Values = dict[str, Any]

FIRST_QUEUEING = frozenset({"state", "reason", "attempt", "wake_at"})
"""What a step that is queued as soon as it is born has besides what every newborn has."""

COMMIT = "SELECT workflows_commit(%s, %s, %s, %s::jsonb, %s::jsonb, %s::jsonb)"

COMMIT_ALL = """
    SELECT workflows_commit(
        (c ->> 0)::uuid, c ->> 1, (c ->> 2)::timestamptz,
        NULLIF(c -> 3, 'null'), c -> 4, NULLIF(c -> 5, 'null')
    )
    FROM jsonb_array_elements(%s::jsonb) c
"""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created."""

    workflow: UUID
    version: UUID
    environment: UUID
    input: Mapping[str, Any]
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a decision was made upon without a lock: it is stored only if it still holds.

    The run runs, the steps are as they were, and of the scope `alone`, if one is named, no
    other step lives or has failed; if that is the root, the run is not heading for an end.
    """

    steps: tuple[StepView, ...]
    alone: str | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the next decision will be made upon: the steps, and the scope they may be alone in."""

    paths: tuple[str, ...]
    alone: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen ahead, unlocked."""

    steps: tuple[StepView, ...] = ()
    alone: frozenset[str] = frozenset()


NOT_MOVED: tuple[int, Move, Values] = (
    0,
    Move(StepState.PENDING, StepView("", -1, ""), frozenset()),
    {},
)


@dataclass(frozen=True, slots=True)
class Change:
    """A decision as the database takes it."""

    run: UUID
    actor: str
    now: datetime
    expected: dict[str, str] | None
    decision: dict[str, Any]
    ahead: Ahead | None
    is_answered: bool

    def seen(self, answer: str | None) -> Seen | None:
        """Return what was asked for `ahead`; None when nothing was stored."""
        return None if answer is None else _seen(json.loads(answer), self.ahead)


def change(  # noqa: PLR0913 - the facts of one statement, named
    run_id: UUID,
    plan: Plan,
    environment: str,
    decision: Decision,
    *,
    now: datetime,
    actor: str,
    expected: Expected | None = None,
    ahead: Ahead | None = None,
    new: NewRun | None = None,
) -> Change:
    """Put a decision into the words of the database.

    Without `expected` the caller holds the locks that `load` took, and the transaction. The
    first decision of a `new` run brings its row into being.
    """
    keyed = new is not None and new.idempotency_key is not None
    return Change(
        run_id,
        actor,
        now,
        None if expected is None else _expected(expected),
        _decision(plan, environment, decision, now, new),
        ahead,
        is_answered=keyed or expected is not None or ahead is not None,
    )


def commit(one: Change) -> Seen | None:
    """Store a decision in one statement; None when nothing was stored.

    Then what was expected no longer holds, or there is a run for the same reason already. Where
    neither can be, no answer is waited for.
    """
    values = (
        one.run,
        one.actor,
        one.now,
        None if one.expected is None else _json(one.expected),
        _json(one.decision),
        None if one.ahead is None else _json(_ahead(one.ahead)),
    )
    sent = cursor().execute(COMMIT, values, prepare=True)
    return one.seen(sent.fetchall()[0][0]) if one.is_answered else Seen()


def commit_all(changes: Sequence[Change]) -> list[Seen | None]:
    """Store decisions about different runs in one statement, each as `commit` does."""
    values = [
        [
            str(one.run),
            one.actor,
            one.now.isoformat(),
            one.expected,
            one.decision,
            None if one.ahead is None else _ahead(one.ahead),
        ]
        for one in changes
    ]
    rows = cursor().execute(COMMIT_ALL, (_json(values),), prepare=True).fetchall()
    return [one.seen(answer) for one, (answer,) in zip(changes, rows, strict=True)]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _expected(expected: Expected) -> dict[str, str]:
    """Return what must hold as texts, which the database need only split and compare."""
    paths = " ".join(view.path for view in expected.steps)
    steps = "\n".join(map(_expectation, expected.steps))
    found = {"paths": paths, "steps": steps}
    return found if expected.alone is None else found | {"alone": expected.alone}


def _expectation(view: StepView) -> str:
    facts = f"{view.path} {view.state.value} {view.attempt}"
    if view.state is not StepState.PENDING:
        return facts
    tally = view.tally
    return f"{facts} {tally.ok} {tally.failed} {tally.skipped} {tally.upstream_failed}"


def _ahead(ahead: Ahead) -> dict[str, str]:
    found = {"paths": " ".join(ahead.paths)}
    return found if ahead.alone is None else found | {"alone": ahead.alone}


def _seen(answer: Mapping[str, Any], ahead: Ahead | None) -> Seen:
    steps = tuple(
        StepView(
            path=row[0],
            node=row[1],
            scope=row[2],
            state=StepState(row[3]),
            reason=Reason(row[4]) if row[4] else None,
            attempt=row[5],
            failures=row[6],
            losses=row[7],
            tally=Tally(*row[8:12]),
            worker=row[12],
            error=StepError.from_dict(row[13]) if row[13] else None,
        )
        for row in answer.get("steps") or ()
    )
    alone = ahead.alone if ahead is not None and answer.get("alone") else None
    return Seen(steps, frozenset() if alone is None else frozenset({alone}))


def _decision(
    plan: Plan, environment: str, decision: Decision, now: datetime, new: NewRun | None
) -> dict[str, Any]:
    begins = [move for move in decision.run_moves if _begins(move)]
    ends = [move for move in decision.run_moves if not _begins(move)]
    born = {view.path: _birth(plan, environment, view) for view in decision.born}
    parts: dict[str, Any] = {
        "run": _new_run(plan, new, now) if new is not None else None,
        "opening": [_run_values(plan, move, now) for move in begins] if new is None else None,
        "attempts": [_attempt_values(record) for record in decision.attempts],
        "rounds": _rounds(decision.moves, born),
        "born": list(born.values()),
        "vars": decision.assigned,
        "closing": [_run_values(plan, move, now) for move in ends],
        "late": [_late_values(late) for late in decision.late],
        "incidents": [_incident_values(incident) for incident in decision.incidents],
    }
    return {name: part for name, part in parts.items() if part}


def _new_run(plan: Plan, new: NewRun, now: datetime) -> dict[str, Any]:
    return {
        "workflow": str(new.workflow),
        "version": str(new.version),
        "environment": str(new.environment),
        "input": new.input,
        "key": new.idempotency_key,
        "deadline": _time(_deadline(plan, now)),
    }


def _birth(plan: Plan, environment: str, view: StepView) -> list[str | int | None]:
    queue = queue_name(environment, plan.nodes[view.node].queue_class)
    return [str(uuid7()), view.path, view.node, view.scope, queue]


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
}
"""How a field of a view is stored; the times of a step are the time of the decision."""


def _attempt_values(record: AttemptRecord) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "path": record.step.path,
        "number": record.step.attempt,
        "end": record.end,
        "error": _error(record.error),
    }


def _late_values(late: LateResult) -> dict[str, Any]:
    kept = {"output": late.output, "error": _error(late.error)}
    return {"path": late.path, "attempt": late.attempt, "kept": kept}


def _incident_values(incident: OpenIncident) -> dict[str, Any]:
    return {
        "id": str(uuid7()),
        "path": incident.path,
        "attempt": incident.attempt,
        "error": _error(incident.error),
    }


def _error(error: StepError | None) -> dict[str, Any] | None:
    return None if error is None else error.as_dict()


def _begins(move: RunMove) -> bool:
    return move.after.state is RunState.RUNNING and move.before in BEGINNINGS


def _run_values(plan: Plan, move: RunMove, now: datetime) -> dict[str, Any]:
    ending = move.after.ending
    late = _deadline(plan, now) if _begins(move) else None
    values: dict[str, Any] = {
        "state": move.after.state,
        "error": _error(move.error),
        "ending": None,
        "final": move.after.state in FINISHED_RUNS,
        "deadline": _time(late),
    }
    if ending is not None:
        error = _error(ending.error)
        values["ending"] = {"status": ending.status, "output": ending.output, "error": error}
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
        case state if state in FINISHED_STEPS:
            return "finished"
        case _:
            return ""
