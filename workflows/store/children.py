"""The waits for child runs: which have something due, and that it is done. See `Due`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.engine.states import Due, RunState
from workflows.store.session import cursor

# A run that is paused starts nothing, and has nothing go on.
_IS_DUE = """
    w.due IS NOT NULL AND w.due <> 'held' AND (w.due NOT IN ('start', 'replay') OR EXISTS (
        SELECT 1 FROM workflows_run r WHERE r.id = w.run_id AND r.state = 'RUNNING' OFFSET 0
    ))
"""

DUE = f"""
    SELECT w.id, w.run_id, w.path, w.attempt, w.name, w.request, w.due, w.child_id,
        w.closed_at, w.answered_by
    FROM workflows_wait w WHERE w.run_id = %s AND w.id > %s AND {_IS_DUE}
    ORDER BY w.id LIMIT %s
"""  # noqa: S608 - joined from literals of this module

PARENTS = f"""
    SELECT DISTINCT w.run_id FROM workflows_wait w WHERE {_IS_DUE} LIMIT %s
"""  # noqa: S608 - joined from literals of this module

LOCK_BEGINNINGS = """
    SELECT 1 FROM workflows_wait
    WHERE run_id = %s AND closed_at IS NULL AND due IN ('start', 'replay') ORDER BY id FOR UPDATE
"""

LOCK = "SELECT 1 FROM workflows_wait WHERE id = %s FOR UPDATE"

LINK = """
    UPDATE workflows_wait w SET child_id = %s, due = %s
    WHERE id = %s AND due = 'start' AND closed_at IS NULL AND EXISTS (
        SELECT 1 FROM workflows_run r WHERE r.id = w.run_id AND r.state = 'RUNNING' OFFSET 0
    )
    RETURNING id
"""

SEEN_TO = "UPDATE workflows_wait SET due = %s WHERE id = %s AND due = %s RETURNING id"

HOLD = """
    UPDATE workflows_wait
    SET due = 'hold', request = request || jsonb_build_object('by', %s::text)
    WHERE run_id = %s AND child_id IS NOT NULL AND closed_at IS NULL AND due IS NULL
"""

HOLD_ONE = """
    UPDATE workflows_wait w SET due = 'hold'
    FROM workflows_run r
    WHERE w.id = %s AND w.due IS NULL AND w.closed_at IS NULL
        AND r.id = w.run_id AND r.state = 'PAUSED'
"""

RELEASE = """
    UPDATE workflows_wait
    SET due = 'release', request = request || jsonb_build_object('by', %s::text)
    WHERE run_id = %s AND due IN ('hold', 'held')
"""

START_ANEW = "UPDATE workflows_wait SET child_id = NULL, due = 'start' WHERE id = %s AND due = %s"

PREVIOUS = """
    SELECT child_id FROM workflows_wait
    WHERE run_id = %s AND path = %s AND attempt < %s AND child_id IS NOT NULL
    ORDER BY attempt DESC LIMIT 1
"""

HOLD_RUN = "SELECT state, error FROM workflows_run WHERE id = %s FOR UPDATE"

LEVEL = """
    WITH RECURSIVE up (id, above, level) AS (
        SELECT id, parent_id, 0 FROM workflows_run WHERE id = %s
        UNION ALL
        SELECT r.id, r.parent_id, level + 1 FROM workflows_run r JOIN up ON r.id = above
        WHERE level < %s
    )
    SELECT max(level) FROM up
"""


@dataclass(frozen=True, slots=True)
class ChildWait:
    """A wait for a child run about which something is due."""

    id: UUID
    run: UUID
    path: str
    attempt: int
    workflow: str
    request: Mapping[str, Any]
    due: Due
    child: UUID | None
    closed_at: datetime | None
    closed_by: str


def due_children(run_id: UUID, *, after: UUID, limit: int) -> list[ChildWait]:
    """Return waits of a run for child runs about which something is due, behind `after`."""
    rows = cursor().execute(DUE, (run_id, after, limit)).fetchall()
    return [_child_wait(*row) for row in rows]


def _child_wait(*row: Any) -> ChildWait:
    wait, run, path, attempt, workflow, request, due, *rest = row
    facts = json.loads(request), Due(due)
    return ChildWait(wait, run, path, attempt, workflow, *facts, *rest)


def parents_of_due(limit: int) -> list[UUID]:
    """Return runs about whose child runs something is due."""
    return [row[0] for row in cursor().execute(PARENTS, (limit,)).fetchall()]


def link_child(wait: UUID, child: UUID, due: Due | None = None) -> bool:
    """Say which run a wait is for; False when it has one, is closed, or its run is paused.

    Whoever pauses the run locks the waits of which this is one (`hold_children`): so either sees
    what the other has done.
    """
    cursor().execute(LOCK, (wait,))
    return bool(cursor().execute(LINK, (child, due.value if due else None, wait)).fetchall())


def seen_to(wait: UUID, due: Due, *, then: Due | None = None) -> bool:
    """Note that what was due is done; False when something else has come to be due since."""
    values = (then.value if then else None, wait, due.value)
    return bool(cursor().execute(SEEN_TO, values).fetchall())


def replayed(wait: UUID) -> None:
    """Note that a child run goes on; have it held if the run that waits for it is paused by now."""
    cursor().execute(SEEN_TO, (None, wait, Due.REPLAY.value))
    cursor().execute(HOLD_ONE, (wait,))


def hold_children(run_id: UUID, *, by: str) -> None:
    """Have the child runs that steps of a run wait for be paused with it.

    Those that are about to be linked, or to go on, are waited for.
    """
    cursor().execute(LOCK_BEGINNINGS, (run_id,)).fetchall()
    cursor().execute(HOLD, (by, run_id))


def release_children(run_id: UUID, *, by: str) -> None:
    """Have the child runs go on that were paused with a run, or were about to be."""
    cursor().execute(RELEASE, (by, run_id))


def start_anew(wait: UUID, due: Due) -> None:
    """Have another run be started for a wait, unless something else has come to be due since."""
    cursor().execute(START_ANEW, (wait, due.value))


def previous_child(run_id: UUID, path: str, attempt: int) -> UUID | None:
    """Return the child run that the step has waited for before."""
    row = cursor().execute(PREVIOUS, (run_id, path, attempt)).fetchone()
    return None if row is None else row[0]


def level_of(run_id: UUID, *, most: int) -> int:
    """Return how many runs there are above a run, looking no higher than `most`."""
    row = cursor().execute(LEVEL, (run_id, most)).fetchone()
    return 0 if row is None or row[0] is None else int(row[0])


def hold_run(run_id: UUID) -> tuple[RunState, Mapping[str, Any] | None] | None:
    """Keep a run's row from changing until the transaction ends; return its state and error."""
    row = cursor().execute(HOLD_RUN, (run_id,)).fetchone()
    return None if row is None else (RunState(row[0]), json.loads(row[1]) if row[1] else None)
