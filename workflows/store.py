"""Rows and engine values: all SQL of the hot path, the only row locks, the only state writes.

`load` takes the locks that a decision needs and returns a Slice; `write` stores a
Decision. Both run in the caller's transaction. Rows are locked in the order of
their nodes, then the run: two transactions that meet wait for each other, and
the rare deadlock between waves is resolved by trying again (`workflows.services.progress`).

The statements are psycopg's own, prepared on the server, and the writes of one
decision travel together. Names of columns are literals; values never are.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

import psycopg
from django.db import connection, transaction
from psycopg.pq import PipelineStatus, TransactionStatus
from uuid_utils.compat import uuid7

from environments.models import queue_name
from workflows.engine.decision import UNSET, AttemptRecord, Decision, Move, RunMove
from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import ROOT, Plan
from workflows.engine.slice import Ending, Requirement, RunView, ScopeTally, Slice, StepView
from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    LIVE_STEPS,
    Reason,
    RunState,
    StepState,
)
from workflows.language.words import ExitStatus

Row = tuple[Any, ...]

BEGINNINGS = frozenset({RunState.PENDING, RunState.FAILED})
"""From these a run begins to use up its time."""

STEP_COLUMNS = (
    "s.path, s.node, s.scope, s.state, s.reason, s.attempt, s.failures, s.losses, s.ok, s.failed,"
    " s.skipped, s.upstream_failed, s.cancel_requested, s.worker, s.wake_at, s.started_at, s.error"
)

LOAD = f"""
    SELECT set_config('orchestrator.actor', %(actor)s, true), r.state, r.ending, e.name,
        {STEP_COLUMNS}
    FROM workflows_run r
    JOIN environments_environment e ON e.id = r.environment_id
    LEFT JOIN LATERAL (
        SELECT * FROM workflows_step
        WHERE run_id = r.id AND path = ANY(%(paths)s)
        ORDER BY node, path
        FOR UPDATE
    ) s ON true
    WHERE r.id = %(run)s
"""  # noqa: S608 - joined from literals of this module

LOAD_INSIDE = f"""
    SELECT {STEP_COLUMNS} FROM workflows_step s
    WHERE s.run_id = %(run)s AND (s.path = ANY(%(paths)s) OR %(root)s
        OR EXISTS (SELECT 1 FROM unnest(%(tops)s::text[]) top WHERE starts_with(s.path, top)))
    ORDER BY s.node, s.path
    FOR UPDATE
"""  # noqa: S608 - joined from literals of this module

LOCK_RUN = "SELECT state, ending FROM workflows_run WHERE id = %s FOR UPDATE"

LOAD_ROOTS = """
    SELECT r.input, r.vars, e.variables, e.name, v.number, r.started_at
    FROM workflows_run r
    JOIN environments_environment e ON e.id = r.environment_id
    JOIN workflows_version v ON v.id = r.version_id
    WHERE r.id = %s
"""

LOAD_RECORDS = """
    SELECT path, state, output, error, attempt FROM workflows_step
    WHERE run_id = %s AND path = ANY(%s)
"""

HAS_LIVE = f"""
    SELECT EXISTS (
        SELECT 1 FROM workflows_step WHERE run_id = %s AND scope = %s
        AND state IN ({", ".join(f"'{state.value}'" for state in sorted(LIVE_STEPS))})
    )
"""  # noqa: S608 - the states are literals, so that the partial index is used

FAILED_INSIDE = """
    SELECT path, error, count(*) OVER () FROM workflows_step
    WHERE run_id = %s AND scope = %s AND (
        (state = 'FAILED' AND reason <> 'optional')
        OR reason = 'discarded'
        OR (state = 'CANCELLED' AND reason = 'fail_fast')
    )
    ORDER BY error IS NULL, node, path
    LIMIT 1
"""

CREATE_RUN = """
    INSERT INTO workflows_run (
        id, workflow_id, version_id, environment_id, state, reason, input, vars,
        idempotency_key, started_by, created_at
    )
    VALUES (%s, %s, %s, %s, 'PENDING', '', %s::jsonb, '{}', %s, %s, %s)
    ON CONFLICT ON CONSTRAINT one_run_for_one_reason DO NOTHING
    RETURNING id
"""

BEAR = """
    INSERT INTO workflows_step (
        id, run_id, path, node, scope, queue, state, reason, attempt, failures, losses,
        ok, failed, skipped, upstream_failed, cancel_requested, worker
    )
    SELECT id, %s, path, node, scope, queue, 'PENDING', '', 0, 0, 0, 0, 0, 0, 0, false, ''
    FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::text[])
        AS born (id, path, node, scope, queue)
"""

MOVE = """
    UPDATE workflows_step SET
        state = %(state)s, reason = %(reason)s, attempt = %(attempt)s, failures = %(failures)s,
        losses = %(losses)s, ok = %(ok)s, failed = %(failed)s, skipped = %(skipped)s,
        upstream_failed = %(upstream_failed)s, cancel_requested = %(cancel_requested)s,
        worker = %(worker)s, wake_at = %(wake_at)s, error = %(error)s::jsonb,
        output = CASE WHEN %(puts)s THEN %(output)s::jsonb ELSE output END,
        arguments = CASE WHEN %(corrects)s THEN %(arguments)s::jsonb ELSE arguments END,
        queued_at = CASE %(stamp)s WHEN 'queued' THEN %(now)s WHEN 'none' THEN NULL
            ELSE queued_at END,
        started_at = CASE %(stamp)s WHEN 'started' THEN %(now)s
            WHEN 'queued' THEN NULL WHEN 'none' THEN NULL ELSE started_at END,
        finished_at = CASE %(stamp)s WHEN 'finished' THEN %(now)s
            WHEN 'queued' THEN NULL WHEN 'none' THEN NULL ELSE finished_at END
    WHERE run_id = %(run)s AND path = %(path)s
"""

MOVE_RUN = """
    UPDATE workflows_run SET
        state = %(state)s, ending = %(ending)s::jsonb, error = %(error)s::jsonb,
        output = CASE WHEN %(puts)s THEN %(output)s::jsonb ELSE output END,
        started_at = COALESCE(started_at, %(now)s),
        deadline_at = CASE WHEN %(final)s THEN NULL ELSE COALESCE(%(deadline)s, deadline_at) END,
        finished_at = CASE WHEN %(final)s THEN %(now)s::timestamptz END
    WHERE id = %(run)s
"""

ASSIGN = "UPDATE workflows_run SET vars = vars || %s::jsonb WHERE id = %s"

RECORD_ATTEMPT = """
    INSERT INTO workflows_attempt
        (id, step_id, run_id, number, "end", worker, error, started_at, finished_at)
    SELECT %s, s.id, s.run_id, %s, %s, %s, %s::jsonb, %s, %s
    FROM workflows_step s WHERE s.run_id = %s AND s.path = %s
"""

KEEP_LATE = """
    UPDATE workflows_attempt SET late = %s::jsonb
    FROM workflows_step s
    WHERE s.run_id = %s AND s.path = %s AND step_id = s.id AND number = %s AND late IS NULL
"""

OPEN_INCIDENT = """
    INSERT INTO workflows_incident (
        id, run_id, step_id, path, attempt, error_class, code, message, details,
        resolution, resolved_by, note, opened_at
    )
    SELECT %s, s.run_id, s.id, s.path, %s, %s, %s, %s, %s::jsonb, '', '', '', %s
    FROM workflows_step s WHERE s.run_id = %s AND s.path = %s
"""

ASKED_TO_STOP = """
    SELECT cancel_requested FROM workflows_step
    WHERE run_id = %s AND path = %s AND attempt = %s AND state = 'RUNNING'
"""

NEXT_QUEUED = """
    SELECT path, attempt FROM workflows_step
    WHERE run_id = %s AND queue = %s AND state = 'QUEUED'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ORDER BY scope, node LIMIT 1
    FOR UPDATE SKIP LOCKED
"""

QUEUED = """
    SELECT path, node, scope, attempt FROM workflows_step
    WHERE run_id = %s AND state = 'QUEUED'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ORDER BY scope, node
"""

CORRECTED = "SELECT arguments FROM workflows_step WHERE run_id = %s AND path = %s"

DUE_STEPS = """
    SELECT run_id, path, state, attempt FROM workflows_step
    WHERE wake_at <= %s AND state = ANY(%s) ORDER BY wake_at LIMIT %s
"""

DUE_RUNS = """
    SELECT id FROM workflows_run
    WHERE deadline_at <= %s AND state = 'RUNNING' ORDER BY deadline_at LIMIT %s
"""

POSTPONE_QUEUED = """
    UPDATE workflows_step SET wake_at = %s
    WHERE id IN (
        SELECT s.id FROM workflows_step s JOIN workflows_run r ON r.id = s.run_id
        WHERE s.wake_at <= %s AND s.state = 'QUEUED' AND r.state = 'RUNNING'
        ORDER BY s.wake_at LIMIT %s
        FOR UPDATE OF s SKIP LOCKED
    )
    RETURNING run_id, (SELECT version_id FROM workflows_run WHERE id = run_id), path, attempt, queue
"""

UNJOINED_SCOPES = """
    SELECT s.run_id, s.path FROM workflows_run r
    JOIN workflows_step s ON s.run_id = r.id AND s.state = 'WAITING' AND s.reason = 'children'
    WHERE r.state IN ('RUNNING', 'CANCELLING') AND s.started_at < %s
        AND NOT EXISTS (
            SELECT 1 FROM workflows_step c WHERE c.run_id = s.run_id AND c.scope = s.path
            AND c.state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
        )
    LIMIT %s
"""

UNFINISHED_RUNS = """
    SELECT r.id FROM workflows_run r
    WHERE r.state IN ('RUNNING', 'CANCELLING') AND r.created_at < %s
        AND NOT EXISTS (
            SELECT 1 FROM workflows_step c WHERE c.run_id = r.id
            AND c.state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
        )
    LIMIT %s
"""

RENEW = """
    UPDATE workflows_step s SET wake_at = %s
    FROM workflows_run r
    WHERE s.run_id = %s AND s.path = %s AND s.attempt = %s AND s.state = 'RUNNING'
        AND r.id = s.run_id
    RETURNING s.cancel_requested
"""


def session() -> psycopg.Connection[Row]:
    """Return the connection of the current transaction."""
    connection.ensure_connection()
    return cast("psycopg.Connection[Row]", connection.connection)


@contextmanager
def flight() -> Iterator[None]:
    """Hold a transaction whose BEGIN and COMMIT travel with its first and last statements.

    Inside it only this module may speak to the database: the connection is in psycopg's
    pipeline mode. Inside a transaction of Django's it is a savepoint of that.
    """
    if connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    conn = session()
    try:
        with conn.pipeline():
            cursor().execute("BEGIN")
            yield
            cursor().execute("COMMIT")
    finally:
        if not conn.closed and conn.info.transaction_status is not TransactionStatus.IDLE:
            conn.execute("ROLLBACK")


def is_lost() -> bool:
    """Say whether the connection is gone and no transaction of the caller's goes with it."""
    conn = connection.connection
    return conn is not None and conn.broken and not connection.in_atomic_block


def cursor() -> psycopg.Cursor[Row]:
    """Return a cursor that sends values apart from the statement."""
    return psycopg.Cursor(session())


def load(run_id: UUID, plan: Plan, wanted: Requirement, *, actor: str) -> Slice:
    """Lock and read what a decision needs; the transaction's changes are `actor`'s.

    Raises LookupError when there is no such run.
    """
    cur = cursor()
    paths = sorted(wanted.paths)
    values = {"actor": actor, "run": run_id, "paths": paths}
    rows = cur.execute(LOAD, values, prepare=True).fetchall()
    if not rows:
        raise LookupError(f"there is no run {run_id}")
    _, state, ending, environment = rows[0][:4]
    steps = [_step(row[4:]) for row in rows if row[4] is not None]
    if wanted.subtrees or wanted.everything:
        steps = _load_inside(cur, run_id, wanted)
    if ROOT in wanted.scopes or wanted.subtrees or wanted.everything:
        state, ending = cur.execute(LOCK_RUN, (run_id,), prepare=True).fetchall()[0]
    held = Slice(
        run=RunView(str(run_id), RunState(state), _ending(ending), environment),
        steps={view.path: view for view in steps},
        held=wanted,
    )
    if wanted.reads.roots or wanted.reads.steps:
        read(cur, run_id, plan, held, wanted)
    for scope in wanted.scopes:
        held.tallies[scope] = _tally(cur, run_id, scope)
    return held


def _load_inside(cur: psycopg.Cursor[Row], run_id: UUID, wanted: Requirement) -> list[StepView]:
    tops = [f"{top}." for top in wanted.subtrees if top != ROOT]
    values = {
        "run": run_id,
        "paths": sorted(wanted.paths | wanted.subtrees),
        "root": wanted.everything or ROOT in wanted.subtrees,
        "tops": tops,
    }
    return [_step(row) for row in cur.execute(LOAD_INSIDE, values).fetchall()]


def read(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, held: Slice, wanted: Requirement
) -> None:
    """Read the values that expressions name."""
    if wanted.reads.roots & {"input", "vars", "env", "run"}:
        row = cur.execute(LOAD_ROOTS, (run_id,), prepare=True).fetchall()[0]
        given, variables, env, environment, number, started_at = row
        held.roots = {
            "input": json.loads(given),
            "vars": json.loads(variables),
            "env": json.loads(env),
            "run": {
                "id": str(run_id),
                "workflow": plan.workflow,
                "version": number,
                "environment": environment,
                "started_at": started_at.isoformat() if started_at else None,
            },
        }
    if wanted.reads.steps:
        ids = {plan.by_id[step].path: step for step in wanted.reads.steps}
        rows = cur.execute(LOAD_RECORDS, (run_id, list(ids)), prepare=True).fetchall()
        held.records = dict.fromkeys(wanted.reads.steps)
        for path, state, output, error, attempt in rows:
            held.records[ids[path]] = {
                "state": state,
                "output": _parsed(output),
                "error": _parsed(error),
                "attempt": attempt,
            }


def _tally(cur: psycopg.Cursor[Row], run_id: UUID, scope: str) -> ScopeTally:
    if cur.execute(HAS_LIVE, (run_id, scope), prepare=True).fetchall()[0][0]:
        return ScopeTally(alive=1, failed=0)
    rows = cur.execute(FAILED_INSIDE, (run_id, scope), prepare=True).fetchall()
    if not rows:
        return ScopeTally(alive=0, failed=0)
    path, error, failed = rows[0]
    return ScopeTally(0, failed, StepError.from_dict(json.loads(error)) if error else None, path)


def _step(row: Row) -> StepView:
    return StepView(
        path=row[0],
        node=row[1],
        scope=row[2],
        state=StepState(row[3]),
        reason=Reason(row[4]) if row[4] else None,
        attempt=row[5],
        failures=row[6],
        losses=row[7],
        tally=Tally(row[8], row[9], row[10], row[11]),
        cancel_requested=row[12],
        worker=row[13],
        wake_at=row[14],
        started_at=row[15],
        error=StepError.from_dict(json.loads(row[16])) if row[16] else None,
    )


def _ending(value: str | None) -> Ending | None:
    if value is None:
        return None
    found = json.loads(value)
    error = StepError.from_dict(found["error"]) if found["error"] else None
    return Ending(ExitStatus(found["status"]), found["output"], error)


def _parsed(value: str | None) -> Any:
    return None if value is None else json.loads(value)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _error(error: StepError | None) -> str | None:
    return None if error is None else _json(error.as_dict())


def write(run_id: UUID, plan: Plan, environment: str, decision: Decision, *, now: datetime) -> None:
    """Store a decision: what is born, then every move in its order, in one round trip."""
    with _together():
        cur = cursor()
        if decision.born:
            _bear(cur, run_id, plan, environment, decision.born)
        for record in decision.attempts:
            cur.execute(RECORD_ATTEMPT, _attempt_values(run_id, record, now), prepare=True)
        for move in decision.moves:
            cur.execute(MOVE, _move_values(run_id, move, now), prepare=True)
        for run_move in decision.run_moves:
            cur.execute(MOVE_RUN, _run_values(run_id, plan, run_move, now), prepare=True)
        if decision.assigned:
            cur.execute(ASSIGN, (_json(decision.assigned), run_id), prepare=True)
        for late in decision.late:
            kept = _json({"output": late.output, "error": late.error and late.error.as_dict()})
            cur.execute(KEEP_LATE, (kept, run_id, late.path, late.attempt))
        for incident in decision.incidents:
            error = incident.error
            cur.execute(
                OPEN_INCIDENT,
                (
                    uuid7(),
                    incident.attempt,
                    error.error_class.value,
                    error.code,
                    error.message,
                    _json(dict(error.details)),
                    now,
                    run_id,
                    incident.path,
                ),
            )


def _together() -> AbstractContextManager[object]:
    """Let statements travel together, if they do not already: leaving a pipeline waits."""
    conn = session()
    if conn.info.pipeline_status is PipelineStatus.OFF:
        return conn.pipeline()
    return nullcontext()


def _bear(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, environment: str, born: Iterable[StepView]
) -> None:
    rows = [
        (
            uuid7(),
            view.path,
            view.node,
            view.scope,
            queue_name(environment, plan.nodes[view.node].queue_class),
        )
        for view in born
    ]
    ids, paths, nodes, scopes, queues = (list(column) for column in zip(*rows, strict=True))
    cur.execute(BEAR, (run_id, ids, paths, nodes, scopes, queues), prepare=True)


def _attempt_values(run_id: UUID, record: AttemptRecord, now: datetime) -> Row:
    step = record.step
    return (
        uuid7(),
        step.attempt,
        record.end.value,
        step.worker,
        _error(record.error),
        step.started_at,
        now,
        run_id,
        step.path,
    )


def _move_values(run_id: UUID, move: Move, now: datetime) -> Mapping[str, Any]:
    view = move.after
    return {
        "run": run_id,
        "path": view.path,
        "state": view.state.value,
        "reason": view.reason.value if view.reason else "",
        "attempt": view.attempt,
        "failures": view.failures,
        "losses": view.losses,
        "ok": view.tally.ok,
        "failed": view.tally.failed,
        "skipped": view.tally.skipped,
        "upstream_failed": view.tally.upstream_failed,
        "cancel_requested": view.cancel_requested,
        "worker": view.worker,
        "wake_at": view.wake_at,
        "error": _error(view.error),
        "puts": move.output is not UNSET,
        "output": None if move.output is UNSET else _json(move.output),
        "corrects": move.arguments is not UNSET,
        "arguments": None if move.arguments is UNSET else _json(move.arguments),
        "stamp": _stamp(move),
        "now": now,
    }


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


def _run_values(run_id: UUID, plan: Plan, move: RunMove, now: datetime) -> Mapping[str, Any]:
    ending = move.after.ending
    begins = move.after.state is RunState.RUNNING and move.before in BEGINNINGS
    return {
        "run": run_id,
        "state": move.after.state.value,
        "ending": None
        if ending is None
        else _json(
            {
                "status": ending.status.value,
                "output": ending.output,
                "error": ending.error and ending.error.as_dict(),
            }
        ),
        "error": _error(move.error),
        "puts": move.output is not UNSET,
        "output": None if move.output is UNSET else _json(move.output),
        "final": move.after.state in FINISHED_RUNS,
        "deadline": now + timedelta(seconds=plan.timeout) if begins and plan.timeout else None,
        "now": now,
    }


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created."""

    id: UUID
    workflow: UUID
    version: UUID
    environment: UUID
    input: Mapping[str, Any]
    idempotency_key: str | None
    started_by: str


def act_as(actor: str) -> None:
    """Have the changes of this transaction be `actor`'s in the journal."""
    cursor().execute("SELECT set_config('orchestrator.actor', %s, true)", (actor,), prepare=True)


def lock_run(run_id: UUID) -> None:
    """Keep the run's row from changing until the transaction ends."""
    cursor().execute(LOCK_RUN, (run_id,), prepare=True)


def create_run(new: NewRun, *, now: datetime) -> bool:
    """Create a run, pending; False when its workflow has one with the same idempotency key.

    Without a key there is nothing to wait for: the answer is known.
    """
    values = (
        new.id,
        new.workflow,
        new.version,
        new.environment,
        _json(dict(new.input)),
        new.idempotency_key,
        new.started_by,
        now,
    )
    created = cursor().execute(CREATE_RUN, values, prepare=True)
    return new.idempotency_key is None or created.fetchone() is not None


def next_queued(run_id: UUID, queue: str) -> tuple[str, int] | None:
    """Lock and return the first queued step of a run that no other worker is taking."""
    rows = cursor().execute(NEXT_QUEUED, (run_id, queue), prepare=True).fetchall()
    return rows[0] if rows else None


def renew(run_id: UUID, path: str, attempt: int, *, until: datetime) -> bool | None:
    """Renew a lease: None when the attempt is no longer the step's own, else whether to stop."""
    row = cursor().execute(RENEW, (until, run_id, path, attempt)).fetchone()
    return None if row is None else bool(row[0])


def cancel_requested(run_id: UUID, path: str, attempt: int) -> bool | None:
    """Say whether a running attempt is to stop; None when it is no longer the step's own."""
    row = cursor().execute(ASKED_TO_STOP, (run_id, path, attempt)).fetchone()
    return None if row is None else bool(row[0])


def queued(run_id: UUID) -> list[StepView]:
    """Return the queued steps of a run."""
    rows = cursor().execute(QUEUED, (run_id,)).fetchall()
    return [
        StepView(path, node, scope, StepState.QUEUED, attempt)
        for path, node, scope, attempt in rows
    ]


def corrected_arguments(run_id: UUID, path: str) -> Mapping[str, Any] | None:
    """Return the arguments that a person gave a step when replaying it."""
    row = cursor().execute(CORRECTED, (run_id, path)).fetchone()
    return None if row is None or row[0] is None else cast("Mapping[str, Any]", json.loads(row[0]))


def due_steps(
    *states: StepState, now: datetime, limit: int
) -> list[tuple[UUID, str, StepState, int]]:
    """Return the run, path, state and attempt of steps in `states` whose time has come."""
    names = [state.value for state in states]
    rows = cursor().execute(DUE_STEPS, (now, names, limit)).fetchall()
    return [(run, path, StepState(state), attempt) for run, path, state, attempt in rows]


def due_runs(*, now: datetime, limit: int) -> list[UUID]:
    """Return the runs that have used up their time."""
    return [row[0] for row in cursor().execute(DUE_RUNS, (now, limit)).fetchall()]


def postpone_queued(
    *, now: datetime, until: datetime, limit: int
) -> list[tuple[UUID, UUID, str, int, str]]:
    """Take the queued steps that nobody has claimed in time; the next look at them is `until`."""
    return cursor().execute(POSTPONE_QUEUED, (until, now, limit)).fetchall()


def unjoined_scopes(*, older_than: datetime, limit: int) -> list[tuple[UUID, str]]:
    """Return the scopes that wait for steps of which none lives."""
    return cursor().execute(UNJOINED_SCOPES, (older_than, limit)).fetchall()


def unfinished_runs(*, older_than: datetime, limit: int) -> list[UUID]:
    """Return the live runs of which no step lives."""
    return [row[0] for row in cursor().execute(UNFINISHED_RUNS, (older_than, limit)).fetchall()]
