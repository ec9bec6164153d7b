"""Rows by themselves: what is created, queued, due, renewed; no decision is stored here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState
from workflows.store.session import Row, cursor

VERSION = """
    SELECT v.id, e.id, e.name, e.state, e.classes, e.admits
    FROM workflows_workflow w JOIN workflows_version v ON v.workflow_id = w.id
    LEFT JOIN environments_environment e ON e.name = %s
    WHERE w.name = %s AND v.number = COALESCE(%s, v.number) ORDER BY v.number DESC LIMIT 1
"""

PLAN = "SELECT plan FROM workflows_version WHERE id = %s"

ENVIRONMENT = """
    SELECT id, name, state, classes, admits FROM environments_environment WHERE name = %s
"""

NEXT_QUEUED = """
    SELECT path, attempt FROM workflows_step
    WHERE run_id = %s AND scope = %s AND node > %s AND queue = %s AND state = 'QUEUED'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ORDER BY node LIMIT 1
    FOR UPDATE SKIP LOCKED
"""

ALL_QUEUED = """
    SELECT path, attempt FROM workflows_step
    WHERE run_id = %s AND scope = %s AND node > %s AND queue = %s AND state = 'QUEUED'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ORDER BY node LIMIT %s
    FOR UPDATE SKIP LOCKED
"""

ASKED_TO_STOP = """
    SELECT cancel_requested FROM workflows_step
    WHERE run_id = %s AND path = %s AND attempt = %s AND state = 'RUNNING'
"""

QUEUED = """
    SELECT path, node, scope, attempt FROM workflows_step
    WHERE run_id = %s AND state = 'QUEUED'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ORDER BY scope, node
"""

WHY_QUEUED = """
    SELECT reason FROM workflows_step
    WHERE run_id = %s AND path = %s AND attempt = %s AND state = 'QUEUED'
"""

CORRECTED = "SELECT arguments FROM workflows_step WHERE run_id = %s AND path = %s"

DUE_STEPS = """
    SELECT run_id, path, state, attempt FROM workflows_step
    WHERE wake_at <= %s AND state = ANY(%s) ORDER BY wake_at LIMIT %s
"""

OVERDUE = """
    SELECT EXISTS (
        SELECT 1 FROM workflows_step s
        WHERE s.wake_at <= %(now)s AND (
            s.state IN ('RUNNING', 'RETRYING', 'WAITING')
            OR s.state = 'QUEUED' AND EXISTS (
                SELECT 1 FROM workflows_run r
                WHERE r.id = s.run_id AND r.state IN ('RUNNING', 'COMPENSATING')
            )
        )
    ) OR EXISTS (
        SELECT 1 FROM workflows_run WHERE deadline_at <= %(now)s AND state = 'RUNNING'
    ) OR EXISTS (
        SELECT 1 FROM workflows_breaker WHERE wake_at <= %(now)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_receivedevent WHERE wake_at <= %(now)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_wait WHERE kind = 'event' AND closed_at IS NULL
            AND sought_at IS NULL AND opened_at <= %(now)s
    )
"""

ANY_DUE = """
    SELECT EXISTS (
        SELECT 1 FROM workflows_step WHERE wake_at <= %(now)s AND state IN ('RETRYING', 'WAITING')
    ) OR EXISTS (
        SELECT 1 FROM workflows_run WHERE deadline_at <= %(now)s AND state = 'RUNNING'
    ) OR EXISTS (
        SELECT 1 FROM workflows_breaker WHERE wake_at <= %(now)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_run WHERE sla_at <= %(now)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_receivedevent WHERE wake_at <= %(now)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_wait
        WHERE kind = 'event' AND closed_at IS NULL AND sought_at IS NULL
    )
"""

RECORD_BREACHES = """
    UPDATE workflows_run SET sla_breached_at = sla_at, sla_at = NULL
    WHERE id IN (
        SELECT id FROM workflows_run WHERE sla_at <= %s
        ORDER BY sla_at LIMIT %s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, (SELECT name FROM workflows_workflow WHERE id = workflow_id), state, created_at
"""

DUE_RUNS = """
    SELECT id FROM workflows_run
    WHERE deadline_at <= %s AND state = 'RUNNING' ORDER BY deadline_at LIMIT %s
"""

POSTPONE_QUEUED = """
    UPDATE workflows_step SET wake_at = %s
    WHERE id IN (
        SELECT s.id FROM workflows_step s
        WHERE s.wake_at <= %s AND s.state = 'QUEUED' AND EXISTS (
            SELECT 1 FROM workflows_run r
            WHERE r.id = s.run_id AND r.state IN ('RUNNING', 'COMPENSATING') OFFSET 0
        )
        ORDER BY s.wake_at LIMIT %s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING
        run_id, (SELECT version_id FROM workflows_run WHERE id = run_id), path, attempt, queue,
        scope
"""

MAKE_DUE = """
    UPDATE workflows_step s SET wake_at = s.queued_at
    FROM unnest(%s::uuid[], %s::text[], %s::int[]) AS unsent (run, path, attempt)
    WHERE s.run_id = unsent.run AND s.path = unsent.path AND s.attempt = unsent.attempt
        AND s.state = 'QUEUED'
"""

MAKE_FAN_DUE = """
    UPDATE workflows_step SET wake_at = queued_at
    WHERE id IN (
        SELECT id FROM workflows_step
        WHERE run_id = %s AND scope = %s AND state = 'QUEUED'
            AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
        ORDER BY node LIMIT %s
        FOR UPDATE SKIP LOCKED
    )
"""

CONNECTED_SINCE = """
    SELECT min(backend_start) FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend'
"""

EXPIRED_LEASES = """
    SELECT run_id, (SELECT version_id FROM workflows_run WHERE id = run_id), path,
        COALESCE(started_at <= %(since)s AND %(now)s < %(since)s + %(lease)s, false) AS spared
    FROM workflows_step WHERE wake_at <= %(now)s AND state = 'RUNNING'
    ORDER BY spared, wake_at LIMIT %(limit)s
"""

HELD_BY = """
    SELECT path, node, scope, attempt, reason FROM workflows_step
    WHERE run_id = %(run)s AND worker = %(worker)s AND state = 'RUNNING'
        AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
        AND (%(path)s::text IS NULL OR path = %(path)s)
        -- Why it was queued, and so whether its probe is to be asked, is forgotten by a cancel.
        AND NOT (cancel_requested AND attempt > 1)
    ORDER BY node
"""

HOLD_STEP = "SELECT 1 FROM workflows_step WHERE run_id = %s AND path = %s FOR UPDATE"

ENDED_BY = """
    SELECT 1 FROM workflows_step s JOIN workflows_attempt a ON a.step_id = s.id
    WHERE s.run_id = %s AND s.path = %s AND a.number = %s AND a.worker = %s
        AND a."end" <> 'lost'
"""

HOLD_EXPIRED = """
    SELECT path, attempt, wake_at - started_at FROM workflows_step
    WHERE run_id = %s AND path = ANY(%s) AND state = 'RUNNING' AND wake_at <= %s
        AND starts_with(worker, %s)
    ORDER BY node, path
    FOR UPDATE SKIP LOCKED
"""

RUNNING_OF = """
    SELECT run_id, (SELECT version_id FROM workflows_run WHERE id = run_id), path
    FROM workflows_step
    WHERE wake_at <= %s AND state = 'RUNNING' AND starts_with(worker, %s)
"""

# OFFSET 0 has the rows of each live run looked up by themselves. Statistics of a quiet moment say
# that nothing lives, and joined, all that lives would then be compared with all that lives.
UNJOINED_SCOPES = """
    SELECT r.id, s.path FROM workflows_run r
    CROSS JOIN LATERAL (
        SELECT path FROM workflows_step
        WHERE run_id = r.id AND state = 'WAITING' AND (reason = 'children' OR cancel_requested)
            AND started_at < %s
        OFFSET 0
    ) s
    WHERE r.state IN ('RUNNING', 'CANCELLING')
        AND NOT EXISTS (
            SELECT 1 FROM workflows_step c WHERE c.run_id = r.id AND c.scope = s.path
            AND c.state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
            OFFSET 0
        )
    LIMIT %s
"""

UNFINISHED_RUNS = """
    SELECT r.id FROM workflows_run r
    WHERE r.state IN ('RUNNING', 'CANCELLING', 'COMPENSATING')
        AND r.created_at < %s AND r.reason <> 'parked'
        AND NOT EXISTS (
            SELECT 1 FROM workflows_step c WHERE c.run_id = r.id
            AND c.state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
            OFFSET 0
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


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A queued attempt whose message was not heeded in time."""

    run: UUID
    version: UUID
    path: str
    attempt: int
    queue: str
    scope: str


EnvironmentRow = tuple[UUID, str, str, list[str], list[str]]
"""The id, name, state, classes and admissions of an environment as they are now."""


def version_of(
    workflow: str, number: int | None, environment: str
) -> tuple[UUID, EnvironmentRow | None] | None:
    """Return the version of a workflow with that number, or the newest; and an environment."""
    values = (environment, workflow, number)
    row = cursor().execute(VERSION, values, prepare=True).fetchone()
    return None if row is None else (row[0], _environment(row[1:]) if row[1] else None)


def plan_text(version: UUID) -> bytes:
    """Return the plan of a version as it is stored. Raises LookupError when there is none."""
    row = cursor().execute(PLAN, (version,)).fetchone()
    if row is None:
        raise LookupError(f"there is no version {version}")
    return bytes(row[0])


def environment_named(name: str) -> EnvironmentRow | None:
    """Return an environment."""
    row = cursor().execute(ENVIRONMENT, (name,), prepare=True).fetchone()
    return None if row is None else _environment(row)


def _environment(row: Row) -> EnvironmentRow:
    return row[0], row[1], row[2], json.loads(row[3]), json.loads(row[4])


def next_queued(run_id: UUID, scope: str, queue: str, *, after: int) -> tuple[str, int] | None:
    """Lock and return a queued step of a scope that no other worker is taking.

    The search begins behind the node `after`, past what has been taken already, and comes
    round to the beginning.
    """
    for node in (after, -1) if after >= 0 else (-1,):
        values = (run_id, scope, node, queue)
        rows = cursor().execute(NEXT_QUEUED, values, prepare=True).fetchall()
        if rows:
            return rows[0]
    return None


def all_queued(
    run_id: UUID, scope: str, queue: str, *, after: int, limit: int
) -> list[tuple[str, int]]:
    """Lock and return some queued steps of a scope that no other worker is taking.

    The search begins behind the node `after`, as `next_queued` does.
    """
    for node in (after, -1) if after >= 0 else (-1,):
        values = (run_id, scope, node, queue, limit)
        rows = cursor().execute(ALL_QUEUED, values, prepare=True).fetchall()
        if rows:
            return rows
    return []


def renew(run_id: UUID, path: str, attempt: int, *, until: datetime) -> bool | None:
    """Renew a lease: None when the attempt is no longer the step's own, else whether to stop."""
    row = cursor().execute(RENEW, (until, run_id, path, attempt)).fetchone()
    return None if row is None else bool(row[0])


def held_by(run_id: UUID, worker: str, path: str | None = None) -> StepView | None:
    """Return the step of a run, or the one at `path`, that a worker has claimed and not ended.

    With a `path`, whoever is changing that step at the moment is waited for first.
    """
    if path is not None:
        cursor().execute(HOLD_STEP, (run_id, path))
    return next(iter(all_held_by(run_id, worker, path)), None)


def all_held_by(run_id: UUID, worker: str, path: str | None = None) -> list[StepView]:
    """Return the steps of a run that a worker has claimed and not ended."""
    values = {"run": run_id, "worker": worker, "path": path}
    return [
        StepView(
            found,
            node,
            scope,
            StepState.RUNNING,
            attempt,
            reason=Reason(reason) if reason else None,
            worker=worker,
        )
        for found, node, scope, attempt, reason in cursor().execute(HELD_BY, values)
    ]


def has_ended_by(run_id: UUID, path: str, attempt: int, worker: str) -> bool:
    """Say whether a worker has ended its attempt, once nobody is changing the step any more."""
    cursor().execute(HOLD_STEP, (run_id, path))
    return bool(cursor().execute(ENDED_BY, (run_id, path, attempt, worker)).fetchall())


def connected_since() -> datetime:
    """Return since when somebody has been connected to the database without a break."""
    found: datetime = cursor().execute(CONNECTED_SINCE).fetchall()[0][0]
    return found


def expired_leases(
    *, now: datetime, since: datetime | None, lease: timedelta, limit: int
) -> list[tuple[UUID, UUID, str, bool]]:
    """Return the run, version and path of steps whose lease has expired, and whether to spare it.

    The lease of an attempt that began before `since`, when everybody was cut off, is spared until
    a lease's time has passed since then.
    """
    values = {"now": now, "since": since, "lease": lease, "limit": limit}
    return cursor().execute(EXPIRED_LEASES, values).fetchall()


def hold_expired(
    run_id: UUID, paths: Sequence[str], *, until: datetime, worker: str = ""
) -> list[tuple[str, int, timedelta]]:
    """Lock what still runs of the steps, if its lease still ends by `until`.

    Return the path, the attempt, and how long after its start the lease ends; but not of what
    somebody else is at, nor of what a worker does whose name does not begin with `worker`.
    """
    values = (run_id, list(paths), until, worker)
    return cursor().execute(HOLD_EXPIRED, values, prepare=True).fetchall()


def running_of(worker: str, *, until: datetime) -> list[tuple[UUID, UUID, str]]:
    """Return run, version and path of what workers do whose names begin so.

    Their leases end by `until`: that is how they are found without looking at every step.
    """
    return cursor().execute(RUNNING_OF, (until, worker)).fetchall()


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


def why_queued(run_id: UUID, path: str, attempt: int) -> Reason | None:
    """Return why an attempt is queued. That never changes while it is."""
    row = cursor().execute(WHY_QUEUED, (run_id, path, attempt), prepare=True).fetchone()
    return None if row is None or not row[0] else Reason(row[0])


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


def is_overdue(before: datetime) -> bool:
    """Say whether something was due before that, and nobody has done it."""
    row = cursor().execute(OVERDUE, {"now": before}).fetchone()
    return row is not None and bool(row[0])


def any_due(*, now: datetime) -> bool:
    """Say whether a time is up, a run is late, a guard lets steps go, or an event is to be seen."""
    row = cursor().execute(ANY_DUE, {"now": now}).fetchone()
    return row is not None and bool(row[0])


def due_runs(*, now: datetime, limit: int) -> list[UUID]:
    """Return the runs that have used up their time."""
    return [row[0] for row in cursor().execute(DUE_RUNS, (now, limit)).fetchall()]


def record_breaches(*, now: datetime, limit: int) -> list[tuple[UUID, str, str, datetime]]:
    """Note which runs have not ended by their SLA: the run, workflow, state and creation time."""
    return cursor().execute(RECORD_BREACHES, (now, limit)).fetchall()


def postpone_queued(*, now: datetime, until: datetime, limit: int) -> list[Unclaimed]:
    """Take the queued steps that nobody has claimed in time; the next look at them is `until`."""
    rows = cursor().execute(POSTPONE_QUEUED, (until, now, limit)).fetchall()
    return [Unclaimed(*row) for row in rows]


def make_due(
    *, steps: Sequence[tuple[UUID, str, int]], fans: Sequence[tuple[UUID, str, int]]
) -> None:
    """Have the next sweep look at queued attempts, and at as many of each scope as it has takers.

    Their time is that of their queueing: it has passed, and says since when they wait.
    """
    if steps:
        runs, paths, attempts = zip(*steps, strict=True)
        cursor().execute(MAKE_DUE, (list(runs), list(paths), list(attempts)))
    for fan in fans:
        cursor().execute(MAKE_FAN_DUE, fan)


def unjoined_scopes(*, older_than: datetime, limit: int) -> list[tuple[UUID, str]]:
    """Return the scopes that wait for steps of which none lives."""
    return cursor().execute(UNJOINED_SCOPES, (older_than, limit)).fetchall()


def unfinished_runs(*, older_than: datetime, limit: int) -> list[UUID]:
    """Return the live runs of which no step lives."""
    return [row[0] for row in cursor().execute(UNFINISHED_RUNS, (older_than, limit)).fetchall()]
