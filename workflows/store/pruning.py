"""What leaves the database: finished runs that are old enough, with all that belongs to them.

And what belongs to no run: events, and the rows of tables that only ever grow.

A batch is a transaction: its runs are locked, skipping those that others hold, read if
they are to be kept elsewhere, and removed, children first. Nothing here walks a table:
runs are found by their state and the time in their ids.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.sql import SQL, Composed, Identifier

from workflows.engine.states import RunState
from workflows.models.ids import first_id_of
from workflows.store.session import Row, cursor

OLD = """
    state = %(state)s AND id > %(after)s AND id < %(newest)s AND finished_at < %(before)s
        AND NOT EXISTS (
            SELECT 1 FROM workflows_incident i WHERE i.run_id = r.id AND i.resolution = '' OFFSET 0
        )
"""
"""Ids begin with the time of the start, which bounds the index; the end decides.

OFFSET 0 has incidents looked up run by run: merged, they would be read in the order of
the primary key, and with them every run of other states that is kept.
"""

PERMIT = """
    SELECT set_config('orchestrator.pruning', 'on', true), set_config('enable_seqscan', 'off', true)
"""

HOLD = f"""
    SELECT id FROM workflows_run r WHERE {OLD}
    ORDER BY id LIMIT %(limit)s
    FOR UPDATE OF r SKIP LOCKED
"""  # noqa: S608 - joined from literals of this module

WEIGH = """
    SELECT run_id, count(*) FROM workflows_step WHERE run_id = ANY(%s) GROUP BY run_id
"""

REMOVE = {
    "journal": "DELETE FROM workflows_journal WHERE run_id = ANY(%s)",
    "attempts": """
        DELETE FROM workflows_attempt a USING workflows_step s
        WHERE s.run_id = ANY(%s) AND a.step_id = s.id
    """,
    "incidents": "DELETE FROM workflows_incident WHERE run_id = ANY(%s)",
    "steps": "DELETE FROM workflows_step WHERE run_id = ANY(%s)",
    "runs": "DELETE FROM workflows_run WHERE id = ANY(%s)",
}
"""What a run consists of, in the order it is removed in."""

ALONG = (
    """
        DELETE FROM workflows_vote v USING workflows_wait w
        WHERE w.run_id = ANY(%s) AND v.wait_id = w.id
    """,
    "DELETE FROM workflows_delegation WHERE run_id = ANY(%s)",
    "DELETE FROM workflows_wait WHERE run_id = ANY(%s)",
    "DELETE FROM workflows_parking WHERE run_id = ANY(%s)",
    "DELETE FROM workflows_callback WHERE run_id = ANY(%s)",
    "DELETE FROM workflows_migration WHERE run_id = ANY(%s)",
)
"""What is removed with the steps that it belongs to, and not counted by itself."""

RECORD = """
    INSERT INTO workflows_pruning AS known (
        day, actor, bounds, archive, runs, steps, attempts, journal, incidents, first_at, last_at
    )
    VALUES (
        (%(now)s AT TIME ZONE 'UTC')::date, %(actor)s, %(bounds)s, %(archive)s,
        %(runs)s, %(steps)s, %(attempts)s, %(journal)s, %(incidents)s, %(now)s, %(now)s
    )
    ON CONFLICT ON CONSTRAINT one_line_for_a_day_an_actor_and_its_bounds DO UPDATE SET
        runs = known.runs + excluded.runs,
        steps = known.steps + excluded.steps,
        attempts = known.attempts + excluded.attempts,
        journal = known.journal + excluded.journal,
        incidents = known.incidents + excluded.incidents,
        last_at = excluded.last_at
"""

READ = {
    "run": """
        SELECT r.id, to_jsonb(r) || jsonb_build_object(
            'workflow', w.name, 'version', v.number, 'environment', e.name
        )
        FROM workflows_run r
        JOIN workflows_workflow w ON w.id = r.workflow_id
        JOIN workflows_version v ON v.id = r.version_id
        JOIN environments_environment e ON e.id = r.environment_id
        WHERE r.id = ANY(%s)
    """,
    "steps": """
        SELECT run_id, to_jsonb(s) FROM workflows_step s
        WHERE run_id = ANY(%s) ORDER BY run_id, node, path
    """,
    "attempts": """
        SELECT s.run_id, to_jsonb(a) FROM workflows_attempt a
        JOIN workflows_step s ON s.id = a.step_id
        WHERE s.run_id = ANY(%s) ORDER BY s.run_id, s.node, s.path, a.number
    """,
    "waits": """
        SELECT run_id, to_jsonb(w) FROM workflows_wait w
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
    "votes": """
        SELECT w.run_id, to_jsonb(v) FROM workflows_vote v
        JOIN workflows_wait w ON w.id = v.wait_id
        WHERE w.run_id = ANY(%s) ORDER BY w.run_id, v.id
    """,
    "delegations": """
        SELECT run_id, to_jsonb(d) FROM workflows_delegation d
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
    "callbacks": """
        SELECT run_id, to_jsonb(c) FROM workflows_callback c
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
    "incidents": """
        SELECT run_id, to_jsonb(i) FROM workflows_incident i
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
    "parkings": """
        SELECT run_id, to_jsonb(p) FROM workflows_parking p
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
    "migrations": """
        SELECT run_id, to_jsonb(m) FROM workflows_migration m
        WHERE run_id = ANY(%s) ORDER BY run_id, number
    """,
    "journal": """
        SELECT run_id, to_jsonb(j) FROM workflows_journal j
        WHERE run_id = ANY(%s) ORDER BY run_id, id
    """,
}
"""Every column of every row, and the names that the ids of the run stand for."""

FORECAST = f"""
    WITH gone AS MATERIALIZED (SELECT id FROM workflows_run r WHERE {OLD})
    SELECT
        (SELECT count(*) FROM gone),
        (SELECT count(*) FROM workflows_step WHERE run_id IN (SELECT id FROM gone)),
        (SELECT count(*) FROM workflows_attempt WHERE run_id IN (SELECT id FROM gone)),
        (SELECT count(*) FROM workflows_journal WHERE run_id IN (SELECT id FROM gone)),
        (SELECT count(*) FROM workflows_incident WHERE run_id IN (SELECT id FROM gone))
"""  # noqa: S608 - joined from literals of this module

BYTES_OF_A_ROW = """
    SELECT pg_total_relation_size(oid) / greatest(reltuples, 1) FROM pg_class
    JOIN unnest(%s::regclass[]) WITH ORDINALITY AS asked(oid, place) USING (oid)
    ORDER BY place
"""

REMOVE_EVENTS = """
    WITH old AS (
        SELECT id FROM workflows_receivedevent
        WHERE received_at < %s AND wake_at IS NULL
        ORDER BY received_at LIMIT %s
        FOR UPDATE SKIP LOCKED
    ), forgotten AS (
        DELETE FROM workflows_eventeffect WHERE event_id IN (SELECT id FROM old)
    )
    DELETE FROM workflows_receivedevent WHERE id IN (SELECT id FROM old)
"""

REMOVE_LINES = """
    DELETE FROM {table} WHERE {key} IN (
        SELECT first.key FROM (
            SELECT {key} AS key, {at} AS at FROM {table} ORDER BY {key} LIMIT %s
        ) AS first
        WHERE first.at < %s
    )
"""
"""Keys grow with time, so only the first rows are looked at, whether they are old enough or not."""

REMOVE_EXPIRED = """
    DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {at} < %s LIMIT %s)
"""

REMOVE_DELEGATIONS = """
    DELETE FROM workflows_delegation WHERE id IN (
        SELECT id FROM workflows_delegation WHERE run_id IS NULL AND ends_at < %s LIMIT %s
    )
"""

FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of each table."""

    runs: int = 0
    steps: int = 0
    attempts: int = 0
    journal: int = 0
    incidents: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def permit_pruning() -> None:
    """Let the journal go with its runs, in this transaction alone; and have no table walked."""
    cursor().execute(PERMIT)


def hold_old_runs(
    state: RunState, *, before: datetime, after: UUID = FIRST, limit: int
) -> list[UUID]:
    """Lock and return runs that ended in `state` before a time and need nobody, oldest first."""
    values = {**_old(state, before), "after": after, "limit": limit}
    return [row[0] for row in cursor().execute(HOLD, values).fetchall()]


def steps_of(runs: Sequence[UUID]) -> dict[UUID, int]:
    """Return how many steps each run has; a run without steps is left out."""
    return dict(cursor().execute(WEIGH, (list(runs),)).fetchall())


def read_runs(runs: Sequence[UUID]) -> dict[UUID, str]:
    """Return each run as JSON with all that will be gone with it: every column of every row."""
    found: dict[UUID, dict[str, list[str]]] = {run: {part: [] for part in READ} for run in runs}
    for part, statement in READ.items():
        for run, row in cursor().execute(statement, (list(runs),)):
            found[run][part].append(row)
    return {run: _line(parts) for run, parts in found.items()}


def remove_runs(runs: Sequence[UUID]) -> Counts:
    """Remove the runs and all that belongs to them, and return how much that was."""
    cur = cursor()
    for sql in ALONG:
        cur.execute(sql, (list(runs),))
    return Counts(
        **{part: cur.execute(sql, (list(runs),)).rowcount for part, sql in REMOVE.items()}
    )


def record_pruning(counts: Counts, *, now: datetime, actor: str, bounds: str, archive: str) -> None:
    """Add to the actor's line of today what this transaction removes."""
    facts = {"now": now, "actor": actor, "bounds": bounds, "archive": archive}
    numbers = {name: getattr(counts, name) for name in REMOVE}
    cursor().execute(RECORD, facts | numbers)


def count_old_runs(state: RunState, *, before: datetime) -> Counts:
    """Return what would be removed. Reads much: for a person who asked."""
    row = cursor().execute(FORECAST, {**_old(state, before), "after": FIRST}).fetchone()
    return Counts(*row) if row else Counts()


def bytes_of(counts: Counts) -> int:
    """Return about how many bytes the rows and their index entries occupy."""
    tables = [f"workflows_{table}" for table in ("run", "step", "attempt", "journal", "incident")]
    rows: list[Row] = cursor().execute(BYTES_OF_A_ROW, (tables,)).fetchall()
    return int(sum(n * row[0] for n, row in zip(astuple(counts), rows, strict=True)))


def remove_events(*, before: datetime, limit: int) -> int:
    """Remove the oldest events that came before a time and are handed out, with what they did."""
    return cursor().execute(REMOVE_EVENTS, (before, limit)).rowcount


def remove_lines(table: str, key: str, at: str, *, before: datetime, limit: int) -> int:
    """Remove the first rows of a table whose keys grow with time, if they are from before."""
    statement = _about(REMOVE_LINES, table=table, key=key, at=at)
    return cursor().execute(statement, (limit, before)).rowcount


def remove_expired(table: str, key: str, at: str, *, now: datetime, limit: int) -> int:
    """Remove rows of a table whose time is over."""
    statement = _about(REMOVE_EXPIRED, table=table, key=key, at=at)
    return cursor().execute(statement, (now, limit)).rowcount


def remove_delegations(*, before: datetime, limit: int) -> int:
    """Remove what handed all votes on for a span of time that ended before a time."""
    permit_pruning()
    return cursor().execute(REMOVE_DELEGATIONS, (before, limit)).rowcount


def _about(statement: LiteralString, **names: str) -> Composed:
    return SQL(statement).format(**{word: Identifier(name) for word, name in names.items()})


def _old(state: RunState, before: datetime) -> dict[str, Any]:
    return {"state": state.value, "before": before, "newest": first_id_of(before)}


def _line(parts: dict[str, list[str]]) -> str:
    [run] = parts.pop("run")
    lists = (f'"{part}": [{", ".join(rows)}]' for part, rows in parts.items())
    return f'{{"run": {run}, {", ".join(lists)}}}'
