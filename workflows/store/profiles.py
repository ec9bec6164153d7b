"""Profiles: who leases which. Whoever leases or hands out holds the row of the pool."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.store.session import cursor

HOLD_POOL = """
    SELECT p.id, p.environment_id, e.name, p.name FROM environments_profilepool p
    JOIN environments_environment e ON e.id = p.environment_id
    WHERE e.name = %s AND p.name = %s
    FOR UPDATE OF p
"""

HOLD_POOL_OF = """
    SELECT p.id, p.environment_id, e.name, p.name FROM environments_profilepool p
    JOIN environments_environment e ON e.id = p.environment_id
    WHERE p.id = %s
    FOR UPDATE OF p
"""

RESERVED = """
    SELECT id FROM environments_profile
    WHERE pool_id = %(pool)s AND run_id = %(run)s AND state = 'LEASED' AND taken_at IS NULL
        AND (path = %(path)s AND attempt = %(attempt)s OR for_run AND path = '')
    ORDER BY path DESC, id LIMIT 1
    FOR UPDATE
"""

FREE = """
    SELECT id FROM environments_profile
    WHERE pool_id = %s AND state = 'FREE'
    ORDER BY saved_at NULLS FIRST, id LIMIT %s
    FOR UPDATE SKIP LOCKED
"""

IDLE = """
    SELECT id, run_id FROM environments_profile
    WHERE pool_id = %s AND state = 'LEASED' AND for_run AND path = ''
    FOR UPDATE SKIP LOCKED
"""

LEASE = """
    UPDATE environments_profile SET
        turn = turn + CASE WHEN state = 'FREE' AND EXISTS (
            SELECT 1 FROM environments_profilepool p WHERE p.id = pool_id AND p.folders = 'empty'
        ) THEN 1 ELSE 0 END,
        state = 'LEASED', run_id = %(run)s, path = %(path)s, attempt = %(attempt)s,
        for_run = for_run AND state = 'LEASED' OR %(for_run)s,
        leased_at = COALESCE(leased_at, %(now)s), taken_at = %(taken_at)s, why = ''
    WHERE id = %(profile)s
"""

LEASED = """
    SELECT f.id, f.name, p.name, e.name, f.context, f.for_run, f.turn, p.folders = 'keep'
    FROM environments_profile f
    JOIN environments_profilepool p ON p.id = f.pool_id
    JOIN environments_environment e ON e.id = p.environment_id
    WHERE f.run_id = %s AND f.path = %s AND f.attempt = %s AND f.state = 'LEASED'
        AND f.taken_at IS NOT NULL
"""

ENDED = "run_id = NULL, path = '', attempt = 0, for_run = false, leased_at = NULL, taken_at = NULL"

MINE = "run_id = %(run)s AND path = %(path)s AND attempt = %(attempt)s AND state = 'LEASED'"

KEEP = f"""
    UPDATE environments_profile
    SET context = COALESCE(%(context)s, context), saved_at = %(now)s,
        path = '', attempt = 0, taken_at = NULL
    WHERE {MINE} AND for_run
    RETURNING pool_id
"""  # noqa: S608 - joined from literals of this module

GIVE_BACK = f"""
    UPDATE environments_profile
    SET context = COALESCE(%(context)s, context), saved_at = %(now)s, state = 'FREE', {ENDED}
    WHERE {MINE} AND NOT for_run
    RETURNING pool_id
"""  # noqa: S608 - as above

TAINT = f"""
    UPDATE environments_profile SET state = 'TAINTED', why = %(why)s, {ENDED}
    WHERE {MINE} AND taken_at IS NOT NULL
    RETURNING pool_id
"""  # noqa: S608 - as above

UNRESERVED = """
    state = CASE WHEN for_run THEN 'LEASED' ELSE 'FREE' END,
    run_id = CASE WHEN for_run THEN run_id END,
    leased_at = CASE WHEN for_run THEN leased_at END,
    path = '', attempt = 0
"""

UNRESERVE = f"""
    UPDATE environments_profile SET {UNRESERVED} WHERE {MINE} AND taken_at IS NULL
"""  # noqa: S608 - as above

RELEASE_RUNS = f"""
    UPDATE environments_profile SET state = 'FREE', {ENDED}
    WHERE id IN (
        SELECT f.id FROM environments_profile f
        WHERE f.run_id IS NOT NULL AND f.for_run AND f.taken_at IS NULL
            AND (%(run)s::uuid IS NULL OR f.run_id = %(run)s) AND NOT EXISTS (
            SELECT 1 FROM workflows_run r WHERE r.id = f.run_id AND r.finished_at IS NULL OFFSET 0
        )
        FOR UPDATE SKIP LOCKED
    )
    RETURNING pool_id
"""  # noqa: S608 - as above

AT_WORK = """
    EXISTS (
        SELECT 1 FROM workflows_step s
        WHERE s.run_id = f.run_id AND s.path = f.path
            AND s.state = 'RUNNING' AND s.attempt = f.attempt OFFSET 0
    )
"""

ON_ITS_WAY = """
    EXISTS (
        SELECT 1 FROM workflows_step s JOIN workflows_run r ON r.id = s.run_id
        WHERE s.run_id = f.run_id AND s.path = f.path AND r.state = 'RUNNING'
            AND (s.state = 'QUEUED' AND s.attempt = f.attempt
                OR s.state = 'RETRYING' AND s.attempt = f.attempt - 1)
        OFFSET 0
    )
"""

ABANDONED = f"""
    SELECT f.run_id, f.path, f.attempt FROM environments_profile f
    WHERE f.run_id IS NOT NULL AND f.path <> '' AND f.taken_at < %s AND NOT {AT_WORK}
"""  # noqa: S608 - as above

GIVE_UP_RESERVATIONS = f"""
    UPDATE environments_profile SET {UNRESERVED} WHERE id IN (
        SELECT f.id FROM environments_profile f
        WHERE f.run_id IS NOT NULL AND f.path <> '' AND f.taken_at IS NULL AND NOT {ON_ITS_WAY}
        FOR UPDATE SKIP LOCKED
    )
    RETURNING pool_id
"""  # noqa: S608 - as above

POOLS_TO_HAND_OUT = """
    SELECT DISTINCT f.pool_id FROM environments_profile f
    JOIN environments_profilepool p ON p.id = f.pool_id
    WHERE (f.state = 'FREE' OR f.state = 'LEASED' AND f.for_run AND f.path = '') AND EXISTS (
        SELECT 1 FROM workflows_parking w
        WHERE w.environment_id = p.environment_id AND w.gate = 'profile' AND w.name = p.name
            AND w.until IS NULL OFFSET 0
    )
"""

PARKED = """
    SELECT id, run_id, path, attempt FROM workflows_parking WHERE id = ANY(%s) ORDER BY id
"""


MAKE = """
    INSERT INTO environments_profile
        (pool_id, name, context, state, path, attempt, for_run, why)
    VALUES (%s, %s, %s, 'FREE', '', 0, false, '')
    ON CONFLICT ON CONSTRAINT a_profile_has_its_name_in_its_pool DO NOTHING
    RETURNING id
"""

REPLACE = "UPDATE environments_profile SET context = %s, saved_at = %s WHERE id = %s"

HOLD = "SELECT pool_id, name, state FROM environments_profile WHERE id = %s FOR UPDATE"

SEALED = """
    SELECT f.id, e.name, f.context FROM environments_profile f
    JOIN environments_profilepool p ON p.id = f.pool_id
    JOIN environments_environment e ON e.id = p.environment_id
    WHERE f.id > %s AND f.context <> ''
    ORDER BY f.id LIMIT %s
    FOR UPDATE OF f
"""

RESEAL = "UPDATE environments_profile SET context = %s WHERE id = %s"

TURN = "UPDATE environments_profile SET turn = turn + 1 WHERE id = %s"

MOVE = "UPDATE environments_profile SET state = %s, why = %s WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Held:
    """A profile whose row is held."""

    pool: int
    name: str
    state: str


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool whose row is held."""

    id: int
    environment_id: UUID
    environment: str
    name: str

    @property
    def gate(self) -> dict[str, Any]:
        """Where steps wait for its profiles, as statements about gates name it."""
        return {"environment": self.environment_id, "gate": "profile", "name": self.name}


@dataclass(frozen=True, slots=True)
class Leased:
    """A profile that an attempt has, its context sealed."""

    id: int
    name: str
    pool: str
    environment: str
    sealed: str
    for_run: bool
    turn: int
    keeps_folder: bool


def hold_pool(environment: str, name: str) -> Pool | None:
    """Lock and return a pool of an environment."""
    row = cursor().execute(HOLD_POOL, (environment, name)).fetchone()
    return None if row is None else Pool(*row)


def hold_pool_of(pool: int) -> Pool | None:
    """Lock and return a pool."""
    row = cursor().execute(HOLD_POOL_OF, (pool,)).fetchone()
    return None if row is None else Pool(*row)


def reserved(pool: Pool, run_id: UUID, path: str, attempt: int) -> int | None:
    """Return the profile that is kept for an attempt, or for its run and not in use."""
    values = {"pool": pool.id, "run": run_id, "path": path, "attempt": attempt}
    row = cursor().execute(RESERVED, values).fetchone()
    return None if row is None else int(row[0])


def free(pool: Pool, *, limit: int) -> list[int]:
    """Lock and return profiles that nobody has, the one that has rested longest first."""
    return [row[0] for row in cursor().execute(FREE, (pool.id, limit)).fetchall()]


def idle(pool: Pool) -> list[tuple[int, UUID]]:
    """Lock and return the profiles that runs keep and no step uses, and these runs."""
    return cursor().execute(IDLE, (pool.id,)).fetchall()


def lease(  # noqa: PLR0913 - the facts of a lease, named
    profile: int,
    run_id: UUID,
    path: str,
    attempt: int,
    *,
    for_run: bool = False,
    taken: bool = False,
    now: datetime,
) -> None:
    """Keep a profile for an attempt; `taken`, its worker has it."""
    values = {
        "profile": profile,
        "run": run_id,
        "path": path,
        "attempt": attempt,
        "for_run": for_run,
        "now": now,
        "taken_at": now if taken else None,
    }
    cursor().execute(LEASE, values)


def leased(run_id: UUID, path: str, attempt: int) -> Leased | None:
    """Return the profile that an attempt has."""
    row = cursor().execute(LEASED, (run_id, path, attempt)).fetchone()
    return None if row is None else Leased(*row)


def give_back(
    run_id: UUID, path: str, attempt: int, *, context: str | None, now: datetime
) -> int | None:
    """Take the profile of an attempt back, with its context sealed anew; return its pool.

    One that the run keeps stays with it. None when the attempt has no profile any more.
    """
    values = {"run": run_id, "path": path, "attempt": attempt, "context": context, "now": now}
    for statement in (KEEP, GIVE_BACK):
        row = cursor().execute(statement, values).fetchone()
        if row is not None:
            return int(row[0])
    return None


def taint(run_id: UUID, path: str, attempt: int, *, why: str) -> bool:
    """Have nobody use a profile until a person has looked at it."""
    values = {"run": run_id, "path": path, "attempt": attempt, "why": why}
    return cursor().execute(TAINT, values).fetchone() is not None


def unreserve(run_id: UUID, path: str, attempt: int) -> None:
    """Have others lease the profile that was kept for an attempt."""
    cursor().execute(UNRESERVE, {"run": run_id, "path": path, "attempt": attempt})


def release_runs(run_id: UUID | None = None) -> list[int]:
    """Take back what runs have kept that have ended, all or one; return the pools."""
    return [row[0] for row in cursor().execute(RELEASE_RUNS, {"run": run_id}).fetchall()]


def abandoned(*, before: datetime) -> list[tuple[UUID, str, int]]:
    """Return the run, path and attempt of those that have a profile and are not at work."""
    return cursor().execute(ABANDONED, (before,)).fetchall()


def give_up_reservations() -> list[int]:
    """Have others lease what is kept for attempts that do not come; return the pools."""
    return [row[0] for row in cursor().execute(GIVE_UP_RESERVATIONS).fetchall()]


def pools_to_hand_out() -> list[int]:
    """Return the pools that have profiles for which steps wait."""
    return [row[0] for row in cursor().execute(POOLS_TO_HAND_OUT).fetchall()]


def parked(parkings: Sequence[int]) -> list[tuple[int, UUID, str, int]]:
    """Return parkings: id, run, path and attempt."""
    return cursor().execute(PARKED, (list(parkings),)).fetchall()


def make(pool: int, name: str, sealed: str) -> int | None:
    """Bring a profile into being, free; None when its name is taken."""
    row = cursor().execute(MAKE, (pool, name, sealed)).fetchone()
    return None if row is None else int(row[0])


def replace(profile: int, sealed: str, *, now: datetime) -> None:
    """Store another context."""
    cursor().execute(REPLACE, (sealed, now, profile))


def hold(profile: int) -> Held | None:
    """Lock and return a profile."""
    row = cursor().execute(HOLD, (profile,)).fetchone()
    return None if row is None else Held(*row)


def sealed(*, after: int, limit: int) -> list[tuple[int, str, str]]:
    """Lock and return profiles behind an id: id, environment and what is sealed."""
    return cursor().execute(SEALED, (after, limit)).fetchall()


def reseal(profile: int, context: str) -> None:
    """Store the same context, sealed under another key."""
    cursor().execute(RESEAL, (context, profile))


def turn(profile: int) -> None:
    """Have a profile that nobody has begin with an empty folder."""
    cursor().execute(TURN, (profile,))


def move(profile: int, state: str, why: str) -> None:
    """Move a profile that nobody has to another state."""
    cursor().execute(MOVE, (state, why, profile))
