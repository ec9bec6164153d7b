"""Gates: the rows of circuit breakers, and of the attempts that are parked before a gate.

Whoever decides about a breaker holds its row, and takes it before any row of a step.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.engine.breaker import Answer, Breaker, BreakerState, Rule, answer_of
from workflows.engine.events import StepError
from workflows.engine.states import RunState, StepState
from workflows.store.session import Row, cursor

IS_SHUT = """
    SELECT 1 FROM workflows_breaker b
    JOIN environments_environment e ON e.id = b.environment_id
    WHERE e.name = %s AND b.name = %s AND (b.state <> 'CLOSED' OR b.ramp IS NOT NULL)
"""

COLUMNS = (
    "b.id, b.environment_id, e.name, b.name, b.state, b.failures, b.cooling, b.since, b.trial_at,"
    " b.trial, b.ramp, b.held, b.why, b.wake_at,"
    " b.threshold, b.window, b.cool_down, b.longest_cool_down"
)

BREAKERS = f"""
    SELECT {COLUMNS} FROM workflows_breaker b
    JOIN environments_environment e ON e.id = b.environment_id
"""  # noqa: S608 - joined from literals of this module

HOLD_NAMED = f"{BREAKERS} WHERE e.name = %s AND b.name = %s FOR UPDATE OF b"

HOLD_DUE = (
    f"{BREAKERS} WHERE b.wake_at <= %s ORDER BY b.wake_at LIMIT 1 FOR UPDATE OF b SKIP LOCKED"
)

MAKE = """
    INSERT INTO workflows_breaker (
        environment_id, name, threshold, "window", cool_down, longest_cool_down,
        state, failures, cooling, held, why
    )
    SELECT id, %s, %s, %s, %s, %s, 'CLOSED', '{}', 0, false, ''
    FROM environments_environment WHERE name = %s
    ON CONFLICT ON CONSTRAINT one_breaker_for_a_guard_in_an_environment DO NOTHING
"""

SAVE = """
    UPDATE workflows_breaker SET
        state = %s, failures = %s, cooling = %s, since = %s, trial_at = %s, trial = %s, ramp = %s,
        held = %s, why = %s, wake_at = %s
    WHERE id = %s
"""

PARK = """
    INSERT INTO workflows_parking
        (run_id, path, attempt, environment_id, gate, name, since, until)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    RETURNING id
"""

LONGER = """
    retry_until = s.retry_until
        + CASE g.gate WHEN 'guard' THEN %(now)s - g.since ELSE interval '0' END
"""
"""The time in which a step may be retried stands still while it is parked before its guard."""

UNPARK = f"""
    WITH gone AS (
        UPDATE workflows_parking SET until = %(now)s
        WHERE run_id = %(run)s AND path = %(path)s AND until IS NULL
        RETURNING run_id, path, gate, since
    )
    UPDATE workflows_step s SET {LONGER} FROM gone g WHERE s.run_id = g.run_id AND s.path = g.path
"""  # noqa: S608 - joined from literals of this module

PERMIT = """
    SELECT id FROM (
        SELECT id, attempt, until FROM workflows_parking
        WHERE run_id = %s AND path = %s AND gate = %s ORDER BY id DESC LIMIT 1
    ) newest
    WHERE attempt = %s AND until IS NOT NULL
"""

AT_THE_GATE = "p.environment_id = %(environment)s AND p.gate = %(gate)s AND p.name = %(name)s"

PARKED = "s.state = 'RETRYING' AND s.attempt = p.attempt - 1"

WAITING = f"""
    SELECT p.id FROM workflows_parking p
    JOIN workflows_step s ON s.run_id = p.run_id AND s.path = p.path
    WHERE {AT_THE_GATE} AND p.until IS NULL AND {PARKED} AND (
        %(paused)s OR EXISTS (
            SELECT 1 FROM workflows_run r WHERE r.id = p.run_id AND r.state = 'RUNNING' OFFSET 0
        )
    )
    ORDER BY p.id LIMIT %(limit)s
"""  # noqa: S608 - joined from literals of this module

TIDY = f"""
    UPDATE workflows_parking SET until = gone.at FROM (
        SELECT p.id, greatest(p.since, COALESCE(s.finished_at, s.queued_at, %(now)s)) AS at
        FROM workflows_parking p
        LEFT JOIN workflows_step s ON s.run_id = p.run_id AND s.path = p.path
        WHERE {AT_THE_GATE} AND p.until IS NULL AND ({PARKED}) IS NOT TRUE
        ORDER BY p.id LIMIT 1000
        FOR UPDATE OF p SKIP LOCKED
    ) gone
    WHERE workflows_parking.id = gone.id
"""  # noqa: S608 - joined from literals of this module

LET_GO = f"""
    WITH gone AS (
        UPDATE workflows_parking SET until = %(now)s WHERE id = ANY(%(ids)s)
        RETURNING run_id, path, attempt, gate, since
    )
    UPDATE workflows_step s SET wake_at = %(now)s, {LONGER} FROM gone g
    WHERE s.run_id = g.run_id AND s.path = g.path
        AND s.state = 'RETRYING' AND s.attempt = g.attempt - 1
"""  # noqa: S608 - joined from literals of this module

UNDER_WAY = f"""
    SELECT count(*) FROM workflows_parking p
    JOIN workflows_step s ON s.run_id = p.run_id AND s.path = p.path
    JOIN workflows_run r ON r.id = p.run_id AND r.state = 'RUNNING'
    WHERE {AT_THE_GATE} AND p.until >= %(since)s
        AND (s.state IN ('QUEUED', 'RUNNING') AND s.attempt = p.attempt OR {PARKED})
"""  # noqa: S608 - joined from literals of this module

TRIAL = """
    SELECT p.attempt, s.state, s.attempt, r.state, a."end", a.error
    FROM workflows_parking p
    JOIN workflows_run r ON r.id = p.run_id
    JOIN workflows_step s ON s.run_id = p.run_id AND s.path = p.path
    LEFT JOIN workflows_attempt a ON a.step_id = s.id AND a.number = p.attempt
    WHERE p.id = %s AND NOT EXISTS (
        SELECT 1 FROM workflows_parking q
        WHERE q.run_id = p.run_id AND q.path = p.path AND q.id > p.id AND q.until IS NULL
    )
"""

STOPPED = """
    SELECT COALESCE(sum(upper(span) - lower(span)), interval '0'), COALESCE(bool_or(open), false)
    FROM (
        SELECT unnest(range_agg(tstzrange(since, till))) AS span, bool_or(is_open) AS open
        FROM (
            SELECT greatest(p.since, %(begun)s) AS since,
                COALESCE(p.until, s.finished_at, %(now)s) AS till,
                p.until IS NULL AND s.state = 'RETRYING' AS is_open
            FROM workflows_parking p
            JOIN workflows_step s ON s.run_id = p.run_id AND s.path = p.path
            WHERE p.run_id = %(run)s AND p.gate = 'guard' AND p.since <= %(now)s
                AND (%(scope)s = '' OR starts_with(p.path, %(scope)s || '.')
                    OR starts_with(p.path, %(scope)s || '['))
        ) parked
        WHERE since < till
    ) spans
"""

SCOPE_BEGAN = """
    SELECT started_at FROM workflows_step
    WHERE run_id = %s AND path = %s AND state = 'WAITING' AND reason = 'children'
"""

RUN_BEGAN = """
    SELECT max(at) FROM workflows_journal
    WHERE run_id = %s AND path = '' AND after = 'RUNNING' AND before <> 'PAUSED'
"""

POSTPONE_SCOPE = """
    UPDATE workflows_step SET wake_at = %(to)s
    WHERE run_id = %(run)s AND path = %(scope)s AND state = 'WAITING' AND wake_at <= %(now)s
"""

POSTPONE_RUN = """
    UPDATE workflows_run SET deadline_at = %(to)s
    WHERE id = %(run)s AND state = 'RUNNING' AND deadline_at <= %(now)s
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A breaker whose row is held: where it is, and where it stands."""

    id: int
    environment_id: UUID
    environment: str
    name: str
    breaker: Breaker

    @property
    def gate(self) -> dict[str, Any]:
        """The gate, as statements name it."""
        return {"environment": self.environment_id, "gate": "guard", "name": self.name}


def is_shut(environment: str, guard: str) -> bool:
    """Say whether steps with this guard must be asked whether they may pass."""
    return cursor().execute(IS_SHUT, (environment, guard), prepare=True).fetchone() is not None


def hold_breaker(environment: str, guard: str) -> Held | None:
    """Lock and return a breaker."""
    row = cursor().execute(HOLD_NAMED, (environment, guard)).fetchone()
    return None if row is None else _held(row)


def make_breaker(environment: str, guard: str) -> None:
    """Bring a breaker into being, closed, with the usual settings, unless there is one."""
    rule = Rule()
    values = (guard, rule.threshold, rule.window, rule.cool_down, rule.longest_cool_down)
    cursor().execute(MAKE, (*values, environment))


def hold_due_breaker(*, now: datetime) -> Held | None:
    """Lock and return a breaker that somebody must look at, and that nobody else is at."""
    row = cursor().execute(HOLD_DUE, (now,)).fetchone()
    return None if row is None else _held(row)


def save_breaker(held: Held, breaker: Breaker) -> None:
    """Store where a breaker stands now, if that is elsewhere."""
    if breaker == held.breaker:
        return
    values = (
        breaker.state.value,
        list(breaker.failures),
        breaker.cool_down,
        breaker.since,
        breaker.trial_at,
        breaker.trial,
        breaker.ramp,
        breaker.held,
        breaker.why,
        breaker.wake_at,
        held.id,
    )
    cursor().execute(SAVE, values)


def park(  # noqa: PLR0913 - the facts of a row, named
    run_id: UUID,
    path: str,
    attempt: int,
    *,
    environment_id: UUID,
    gate: str,
    name: str,
    since: datetime,
    until: datetime | None = None,
) -> int:
    """Write down that an attempt is parked; with `until`, that it was let go at once."""
    values = (run_id, path, attempt, environment_id, gate, name, since, until)
    return int(cursor().execute(PARK, values).fetchall()[0][0])


def unpark(run_id: UUID, path: str, *, now: datetime) -> None:
    """Write down that a step is parked no more."""
    cursor().execute(UNPARK, {"now": now, "run": run_id, "path": path})


def permit_of(run_id: UUID, path: str, attempt: int, *, gate: str) -> int | None:
    """Return the parking by which an attempt has been let go, None when it has not."""
    row = cursor().execute(PERMIT, (run_id, path, gate, attempt)).fetchone()
    return None if row is None else int(row[0])


def waiting(gate: dict[str, Any], *, limit: int, paused: bool = True) -> list[int]:
    """Return the parkings before a gate in their order; those of paused runs if asked for."""
    values = {**gate, "limit": limit, "paused": paused}
    return [row[0] for row in cursor().execute(WAITING, values).fetchall()]


def tidy(gate: dict[str, Any], *, now: datetime) -> None:
    """End the parkings of steps that wait no more: they were cancelled, or found another way."""
    cursor().execute(TIDY, {**gate, "now": now})


def let_go(parkings: Sequence[int], *, now: datetime) -> None:
    """Have parked steps go on: they are due now."""
    if parkings:
        cursor().execute(LET_GO, {"ids": list(parkings), "now": now})


def under_way(gate: dict[str, Any], *, since: datetime) -> int:
    """Return how many steps have been let go since then and have not ended their attempt."""
    return int(cursor().execute(UNDER_WAY, {**gate, "since": since}).fetchall()[0][0])


def answer_of_trial(parking: int) -> Answer:
    """Return what the trial says of the dependency: its rows know, whoever was killed."""
    row = cursor().execute(TRIAL, (parking,)).fetchone()
    if row is None:
        return Answer.NEVER
    number, state, attempt, run_state, end, error = row
    match end:
        case "completed":
            return Answer.WELL
        case "failed":
            return answer_of(StepError.from_dict(json.loads(error))) if error else Answer.BADLY
        case "lost" | "cancelled":
            return Answer.NEVER
    if state == StepState.RUNNING and attempt == number:
        return Answer.NONE_YET
    is_coming = state == StepState.QUEUED and attempt == number
    is_let_go = state == StepState.RETRYING and attempt == number - 1
    waits = (is_coming or is_let_go) and run_state == RunState.RUNNING
    return Answer.NONE_YET if waits else Answer.NEVER


def clock_of(run_id: UUID, scope: str, *, now: datetime) -> tuple[datetime, float, bool] | None:
    """Return how the clock of a scope or the run stands; None when it has none any more.

    That is: when it began, for how many seconds it stood still since because something in it was
    parked before its guard, and whether it does so now.
    """
    began = (
        cursor().execute(SCOPE_BEGAN, (run_id, scope))
        if scope
        else cursor().execute(RUN_BEGAN, (run_id,))
    ).fetchone()
    if began is None or began[0] is None:
        return None
    values = {"run": run_id, "scope": scope, "begun": began[0], "now": now}
    [(stopped, is_open)] = cursor().execute(STOPPED, values).fetchall()
    return began[0], stopped.total_seconds(), is_open


def postpone(run_id: UUID, scope: str, *, to: datetime, now: datetime) -> None:
    """Have the time of a scope or the run be up later."""
    values = {"run": run_id, "scope": scope, "to": to, "now": now}
    cursor().execute(POSTPONE_SCOPE if scope else POSTPONE_RUN, values)


def _held(row: Row) -> Held:
    return Held(
        id=row[0],
        environment_id=row[1],
        environment=row[2],
        name=row[3],
        breaker=Breaker(
            state=BreakerState(row[4]),
            failures=tuple(row[5]),
            cool_down=row[6],
            since=row[7],
            trial_at=row[8],
            trial=row[9],
            ramp=row[10],
            held=row[11],
            why=row[12],
            wake_at=row[13],
            rule=Rule(*row[14:18]),
        ),
    )
