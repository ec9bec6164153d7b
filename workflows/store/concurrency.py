"""Places: how many runs of a workflow with the same key there are, and who waits to be one.

Whoever decides about a key holds its lock, and counts only once he has it: a statement sees
what was committed before it began. The lock ends with the transaction.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from workflows.engine.states import PLACE_HOLDERS, Due, RunState
from workflows.store.session import cursor

Key = tuple[UUID, str]
"""A workflow, and a key of its runs."""

_HOLDERS = ", ".join(f"'{state.value}'" for state in sorted(PLACE_HOLDERS))

# A child run that waits for a place is in nobody's way while its parent is paused.
_IS_HELD_BACK = """
    r.parent_id IS NOT NULL AND EXISTS (
        SELECT 1 FROM workflows_wait h
        WHERE h.child_id = r.id AND h.closed_at IS NULL AND h.due IN ('hold', 'held') OFFSET 0
    )
"""

# OFFSET 0 keeps the order in which the locks are taken: two who want the same can wait.
HOLD = """
    SELECT pg_advisory_xact_lock(lock) FROM (
        SELECT DISTINCT hashtextextended(workflow || ' ' || key, 0) AS lock
        FROM unnest(%s::uuid[], %s::text[]) wanted (workflow, key) ORDER BY lock OFFSET 0
    ) locks
"""

COUNT = f"""
    SELECT w.workflow, w.key,
        (
            SELECT count(*) FROM workflows_run r
            WHERE r.workflow_id = w.workflow AND r.concurrency_key = w.key
                AND r.state IN ({_HOLDERS})
        ),
        EXISTS (
            SELECT 1 FROM workflows_run r
            WHERE r.workflow_id = w.workflow AND r.concurrency_key = w.key AND r.state = 'PENDING'
                AND NOT ({_IS_HELD_BACK})
        )
    FROM unnest(%s::uuid[], %s::text[]) w (workflow, key)
"""  # noqa: S608 - the states are literals, so that the partial index is used

HOLD_RUN = "SELECT state FROM workflows_run WHERE id = %s FOR UPDATE"

KEY_OF = "SELECT workflow_id, concurrency_key FROM workflows_run WHERE id = %s"

FIRST_WAITING = f"""
    SELECT id, concurrency_limit FROM workflows_run r
    WHERE workflow_id = %s AND concurrency_key = %s AND state = 'PENDING'
        AND NOT ({_IS_HELD_BACK})
    ORDER BY created_at, id LIMIT %s
"""  # noqa: S608 - joined from literals of this module

NEWEST_WAITING = """
    SELECT id, concurrency_limit, reason, started_by FROM workflows_run
    WHERE workflow_id = %s AND concurrency_key = %s AND state = 'PENDING'
    ORDER BY created_at DESC, id DESC LIMIT 1
"""

SUPERSEDED = f"""
    SELECT id FROM (
        SELECT id, state FROM workflows_run
        WHERE workflow_id = %(workflow)s AND concurrency_key = %(key)s
            AND (state = 'PENDING' OR state IN ({_HOLDERS}))
            AND state NOT IN ('CANCELLING', 'COMPENSATING')
        ORDER BY created_at DESC, id DESC OFFSET %(limit)s
    ) older
    LIMIT %(batch)s
"""  # noqa: S608 - as above

HOLDER = f"""
    SELECT id FROM workflows_run
    WHERE workflow_id = %s AND concurrency_key = %s AND id <> %s AND state IN ({_HOLDERS}) LIMIT 1
"""  # noqa: S608 - as above

# One look at each key that somebody waits for, however many wait for it.
LEFT_BEHIND = f"""
    WITH RECURSIVE keys AS (
        (
            SELECT workflow_id, concurrency_key FROM workflows_run
            WHERE state = 'PENDING' AND concurrency_key IS NOT NULL
            ORDER BY workflow_id, concurrency_key LIMIT 1
        )
        UNION ALL
        SELECT following.* FROM keys k CROSS JOIN LATERAL (
            SELECT workflow_id, concurrency_key FROM workflows_run
            WHERE state = 'PENDING' AND concurrency_key IS NOT NULL
                AND (workflow_id, concurrency_key) > (k.workflow_id, k.concurrency_key)
            ORDER BY workflow_id, concurrency_key LIMIT 1
        ) following
    )
    SELECT k.workflow_id, k.concurrency_key FROM keys k
    CROSS JOIN LATERAL (
        SELECT created_at, concurrency_limit FROM workflows_run r
        WHERE workflow_id = k.workflow_id AND concurrency_key = k.concurrency_key
            AND state = 'PENDING' AND NOT ({_IS_HELD_BACK})
        ORDER BY created_at, id LIMIT 1
    ) first
    CROSS JOIN LATERAL (
        SELECT reason, concurrency_limit FROM workflows_run
        WHERE workflow_id = k.workflow_id AND concurrency_key = k.concurrency_key
            AND state = 'PENDING'
        ORDER BY created_at DESC, id DESC LIMIT 1
    ) newest
    WHERE first.created_at < %s AND (
        (
            SELECT count(*) FROM workflows_run
            WHERE workflow_id = k.workflow_id AND concurrency_key = k.concurrency_key
                AND state IN ({_HOLDERS})
        ) < first.concurrency_limit
        OR newest.reason = 'replacing' AND EXISTS (
            SELECT 1 FROM workflows_run
            WHERE workflow_id = k.workflow_id AND concurrency_key = k.concurrency_key
                AND (state = 'PENDING' OR state IN ({_HOLDERS}))
                AND state NOT IN ('CANCELLING', 'COMPENSATING')
            OFFSET newest.concurrency_limit
        )
    )
    LIMIT %s
"""  # noqa: S608 - as above

WAIT_FOR = """
    SELECT due FROM workflows_wait WHERE child_id = %s AND closed_at IS NULL FOR UPDATE
"""


@dataclass(slots=True)
class Occupancy:
    """How many runs hold a place of a key, and whether another waits for one."""

    held: int
    is_waited_for: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest of the runs that wait for a place."""

    id: UUID
    limit: int
    reason: str
    started_by: str


def hold_places(keys: Collection[Key]) -> dict[Key, Occupancy]:
    """Lock keys until the transaction ends, and return how they stand."""
    workflows, names = zip(*sorted(set(keys), key=str), strict=True)
    values = (list(workflows), list(names))
    cursor().execute(HOLD, values, prepare=True).fetchall()
    rows = cursor().execute(COUNT, values, prepare=True).fetchall()
    return {(workflow, key): Occupancy(held, waited) for workflow, key, held, waited in rows}


def key_of(run_id: UUID) -> Key | None:
    """Return the key of a run; None when its workflow has as many as it may get."""
    row = cursor().execute(KEY_OF, (run_id,)).fetchone()
    return None if row is None or row[1] is None else (row[0], row[1])


def first_waiting(key: Key, *, limit: int) -> list[tuple[UUID, int]]:
    """Return who waits for a place, in the order of creation, each with how many there may be."""
    return cursor().execute(FIRST_WAITING, (*key, limit)).fetchall()


def newest_waiting(key: Key) -> Newest | None:
    """Return the newest run that waits for a place."""
    row = cursor().execute(NEWEST_WAITING, key).fetchone()
    return None if row is None else Newest(*row)


def superseded(key: Key, *, limit: int, batch: int) -> list[UUID]:
    """Return the runs of a key that are older than its newest `limit` and nobody is ending."""
    values = {"workflow": key[0], "key": key[1], "limit": limit, "batch": batch}
    return [row[0] for row in cursor().execute(SUPERSEDED, values).fetchall()]


def other_holder(key: Key, run_id: UUID) -> UUID | None:
    """Return another run that holds a place of the key."""
    row = cursor().execute(HOLDER, (*key, run_id)).fetchone()
    return None if row is None else row[0]


def is_waiting(run_id: UUID) -> bool:
    """Lock a run and say whether it has yet to begin."""
    [(state,)] = cursor().execute(HOLD_RUN, (run_id,)).fetchall()
    return bool(state == RunState.PENDING)


def is_held_back(run_id: UUID) -> bool:
    """Say whether a child run that has yet to begin is not to, for its parent is paused.

    Locks the wait for it: whoever pauses the parent at this moment finds it begun, or held back.
    """
    found = cursor().execute(WAIT_FOR, (run_id,)).fetchall()
    return any(due in {Due.HOLD, Due.HELD} for (due,) in found)


def left_behind(*, older_than: datetime, limit: int) -> list[Key]:
    """Return the keys that have a free place, or somebody to end, although somebody waits."""
    return cursor().execute(LEFT_BEHIND, (older_than, limit)).fetchall()
