"""Rows of events, and of the steps that wait for one: who finds whom, and by which index.

An event and a waiting step find each other by the type and, where the step's `match` has an
equality that can be told ahead, by the key of that (`workflows.language.correlation`).
Pages are small and bounded by ids, so that nothing is held in memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.store.session import Row, cursor

NOBODY = UUID(int=0)
NO_KEY = ""
"""The key of a waiting step whose `match` has to be asked of every event of the type."""

EVENT = "e.id, e.type, e.source, e.given_id, e.envelope, e.received_at, e.handed_to"

INSERT = """
    INSERT INTO workflows_receivedevent
        (id, source, given_id, type, subject, envelope, received_at, received_by, wake_at)
    SELECT (e ->> 0)::uuid, e ->> 1, e ->> 2, e ->> 3, e ->> 4, e -> 5, %(now)s, %(by)s, %(now)s
    FROM jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY known(e, n) ORDER BY n
    ON CONFLICT ON CONSTRAINT an_event_is_received_once DO NOTHING
"""

KNOWN = """
    SELECT e.id, e.received_at FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY a(source, id, n)
    JOIN workflows_receivedevent e ON e.source = a.source AND e.given_id = a.id
    ORDER BY a.n
"""

TAKE = f"""
    UPDATE workflows_receivedevent e SET wake_at = %s
    WHERE id IN (
        SELECT id FROM workflows_receivedevent WHERE wake_at <= %s
        ORDER BY wake_at, id LIMIT %s FOR UPDATE SKIP LOCKED
    )
    RETURNING {EVENT}
"""  # noqa: S608 - joined from literals of this module

FIND = f"SELECT {EVENT} FROM workflows_receivedevent e WHERE id = %s"  # noqa: S608 - as above

HANDED = """
    UPDATE workflows_receivedevent SET wake_at = %s, handed_to = COALESCE(%s, handed_to)
    WHERE id = ANY(%s) AND wake_at IS NOT NULL
"""

NEWEST = """
    SELECT asked, e.received_at FROM unnest(%s::text[]) asked
    CROSS JOIN LATERAL (
        SELECT received_at FROM workflows_receivedevent
        WHERE type = asked ORDER BY received_at DESC LIMIT 1
    ) e
"""

# A loose index scan: character 31 ends the field of a key (`correlation.SEPARATOR`), and a space
# in its place comes after every key with that field.
FIELDS = """
    WITH RECURSIVE found AS (
        (
            SELECT key FROM workflows_wait
            WHERE kind = 'event' AND closed_at IS NULL AND name = %(type)s AND key > ''
            ORDER BY key LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT w.key FROM workflows_wait w
            WHERE w.kind = 'event' AND w.closed_at IS NULL AND w.name = %(type)s
                AND w.key > split_part(found.key, chr(31), 1) || ' '
            ORDER BY w.key LIMIT 1
        )
        FROM found WHERE found.key IS NOT NULL
    )
    SELECT key FROM found WHERE key IS NOT NULL
"""

# Each run is looked up by itself: statistics of a quiet moment would have all runs read.
WAITING = """
    w.id, w.run_id, (SELECT version_id FROM workflows_run WHERE id = w.run_id), w.path, w.attempt,
    w.request, w.opened_at, (SELECT workflow_id FROM workflows_run WHERE id = w.run_id),
    w.name, w.key, w.sought_at IS NOT NULL
"""

PAGE_OF_WAITING = f"""
    SELECT {WAITING} FROM unnest(%(keys)s::text[]) asked
    CROSS JOIN LATERAL (
        SELECT * FROM workflows_wait
        WHERE kind = 'event' AND closed_at IS NULL AND name = %(type)s AND key = asked
            AND id > %(after)s
        ORDER BY id LIMIT %(limit)s
    ) w
    ORDER BY w.id LIMIT %(limit)s
"""  # noqa: S608 - joined from literals of this module

UNSOUGHT = f"""
    SELECT {WAITING} FROM workflows_wait w
    WHERE w.kind = 'event' AND w.closed_at IS NULL AND w.sought_at IS NULL AND w.id > %s
    ORDER BY w.id LIMIT %s
"""  # noqa: S608 - joined from literals of this module

SOUGHT = "UPDATE workflows_wait SET sought_at = %s WHERE id = ANY(%s)"

PAGE_OF_EVENTS = f"""
    SELECT {EVENT} FROM workflows_receivedevent e
    WHERE e.type = %(type)s AND (e.received_at, e.id) > (%(last)s, %(after)s)
        AND (%(least)s::jsonb IS NULL OR e.envelope @> %(least)s::jsonb)
        AND NOT EXISTS (
            SELECT 1 FROM workflows_eventeffect f
            WHERE f.run_id = %(run)s AND f.event_id = e.id AND f.at <= %(opened)s
        )
    ORDER BY e.received_at, e.id LIMIT %(limit)s
"""  # noqa: S608 - joined from literals of this module

TAKEN = """
    SELECT EXISTS (
        SELECT 1 FROM workflows_eventeffect
        WHERE run_id = %(run)s AND event_id = %(event)s AND at <= %(opened)s
    ) OR EXISTS (
        SELECT 1 FROM workflows_run WHERE id = %(run)s AND idempotency_key = %(key)s
    )
"""

WOKE = """
    INSERT INTO workflows_eventeffect
        (id, event_id, kind, workflow_id, run_id, wait_id, path, reason, at, by)
    VALUES (%s, %s, 'woke', %s, %s, %s, %s, '', %s, %s)
    ON CONFLICT DO NOTHING
"""

STARTED = """
    INSERT INTO workflows_eventeffect AS known
        (id, event_id, kind, workflow_id, run_id, path, reason, at, by)
    VALUES (%(id)s, %(event)s, %(kind)s, %(workflow)s, %(run)s, '', %(reason)s, %(at)s, %(by)s)
    ON CONFLICT (event_id, workflow_id) WHERE kind <> 'woke' DO UPDATE SET
        kind = excluded.kind, run_id = excluded.run_id, reason = excluded.reason,
        at = excluded.at, by = excluded.by
    WHERE known.kind = 'refused'
"""

HAS_TO_DO = """
    SELECT EXISTS (SELECT 1 FROM workflows_receivedevent WHERE wake_at <= %s) OR EXISTS (
        SELECT 1 FROM workflows_wait
        WHERE kind = 'event' AND closed_at IS NULL AND sought_at IS NULL
    )
"""


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is handed out; `handed_to` is whom it was offered to last."""

    id: UUID
    type: str
    source: str
    given_id: str
    envelope: Mapping[str, Any]
    received_at: datetime
    handed_to: UUID | None


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that waits for an event, what it asks of it, and whether early ones were looked at."""

    id: UUID
    run: UUID
    version: UUID
    path: str
    attempt: int
    request: Mapping[str, Any]
    opened_at: datetime
    workflow: UUID
    type: str
    key: str
    is_sought: bool


def insert_events(
    rows: Sequence[tuple[UUID, Mapping[str, Any]]], *, now: datetime, by: str
) -> list[tuple[UUID, datetime]]:
    """Store events, each under the id that comes with it, but for those that are known already.

    Return the id and the time of each as it is stored.
    """
    events = [
        [str(id_), one["source"], one["id"], one["type"], one.get("subject") or "", one]
        for id_, one in rows
    ]
    cur = cursor()
    cur.execute(INSERT, {"now": now, "by": by, "events": json.dumps(events, ensure_ascii=False)})
    asked = ([one["source"] for _, one in rows], [one["id"] for _, one in rows])
    return cur.execute(KNOWN, asked).fetchall()


def take_events(*, now: datetime, until: datetime, limit: int) -> list[StoredEvent]:
    """Take the events that have waited longest to be handed out, in the order they came in.

    Others leave them alone `until`.
    """
    found = map(_event, cursor().execute(TAKE, (until, now, limit)).fetchall())
    return sorted(found, key=lambda event: (event.received_at, event.id))


def stored_event(event: UUID) -> StoredEvent | None:
    """Return an event."""
    row = cursor().execute(FIND, (event,)).fetchone()
    return None if row is None else _event(row)


def events_were_handed(
    events: Sequence[UUID], *, again_at: datetime | None, to: UUID | None = None
) -> None:
    """Note how far events were handed out; those are done with at which nobody looks again."""
    if events:
        cursor().execute(HANDED, (again_at, to, list(events)))


def newest_events(types: Sequence[str]) -> dict[str, datetime]:
    """Return when the last event of each type came, where any did."""
    return dict(cursor().execute(NEWEST, (list(types),)).fetchall())


def fields_waited_for(event_type: str) -> list[str]:
    """Return a key for each field of events of the type by which somebody waits."""
    return [row[0] for row in cursor().execute(FIELDS, {"type": event_type})]


def page_of_waiting(
    event_type: str, *, keys: Sequence[str], after: UUID, limit: int
) -> list[WaitingStep]:
    """Return steps that wait for events of the type with one of the keys, in order of their ids."""
    values = {"type": event_type, "keys": list(keys), "after": after, "limit": limit}
    return [_waiting(row) for row in cursor().execute(PAGE_OF_WAITING, values).fetchall()]


def unsought(*, after: UUID, limit: int) -> list[WaitingStep]:
    """Return steps that wait for an event and for which nobody has looked at early ones yet."""
    return [_waiting(row) for row in cursor().execute(UNSOUGHT, (after, limit)).fetchall()]


def were_sought(waits: Sequence[UUID], *, now: datetime | None) -> None:
    """Note that early events were looked at for waiting steps, or that they have to be again."""
    if waits:
        cursor().execute(SOUGHT, (now, list(waits)))


def page_of_events(
    step: WaitingStep,
    *,
    since: datetime,
    least: Mapping[str, Any] | None,
    after: StoredEvent | None,
    limit: int,
) -> list[StoredEvent]:
    """Return events of the type that a step waits for, from `since` on, the oldest first.

    Those behind one of them; with `least`, those alone that contain it; none that its run took.
    """
    values = {
        "type": step.type,
        "run": step.run,
        "opened": step.opened_at,
        "least": None if least is None else json.dumps(least, ensure_ascii=False),
        "last": since if after is None else after.received_at,
        "after": NOBODY if after is None else after.id,
        "limit": limit,
    }
    return [_event(row) for row in cursor().execute(PAGE_OF_EVENTS, values).fetchall()]


def has_taken(run: UUID, event: UUID, *, key: str, before: datetime) -> bool:
    """Say whether an event has started the run, or has woken a step of it before that."""
    values = {"run": run, "event": event, "key": key, "opened": before}
    return bool(cursor().execute(TAKEN, values).fetchall()[0][0])


def note_woken(effect: UUID, event: UUID, step: WaitingStep, *, at: datetime, by: str) -> None:
    """Note that an event has woken a step."""
    values = (effect, event, step.workflow, step.run, step.id, step.path, at, by)
    cursor().execute(WOKE, values)


def note_start(  # noqa: PLR0913 - the columns of a row
    effect: UUID,
    event: UUID,
    workflow: UUID,
    *,
    run: UUID | None,
    reason: str,
    at: datetime,
    by: str,
) -> None:
    """Note that an event has started a run of a workflow, or why not; a refusal may be replaced."""
    values = {
        "id": effect,
        "event": event,
        "kind": "refused" if run is None else "started",
        "workflow": workflow,
        "run": run,
        "reason": reason,
        "at": at,
        "by": by,
    }
    cursor().execute(STARTED, values)


def has_events_to_hand_out(*, now: datetime) -> bool:
    """Say whether an event is to be handed out, or early ones are to be looked at."""
    return bool(cursor().execute(HAS_TO_DO, (now,)).fetchall()[0][0])


def _event(row: Row) -> StoredEvent:
    id_, type_, source, given_id, envelope, received_at, handed_to = row
    return StoredEvent(id_, type_, source, given_id, _parsed(envelope), received_at, handed_to)


def _waiting(row: Row) -> WaitingStep:
    id_, run, version, path, attempt, request, *more = row
    return WaitingStep(id_, run, version, path, attempt, _parsed(request), *more)


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
