"""Callbacks that have come: those that are kept for a step, and those that nobody has delivered."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.engine.states import Reason
from workflows.store.session import Row, cursor

KEPT = """
    SELECT id, path, attempt, body FROM workflows_callback c
    JOIN unnest(%s::text[], %s::int[]) AS wanted (path, attempt) USING (path, attempt)
    WHERE c.run_id = %s AND c.delivered_at IS NULL
"""

# The body is the output of the step from now on.
DELIVERED = """
    UPDATE workflows_callback SET delivered_at = %s, body = NULL WHERE id = ANY(%s)
"""

WAITED_FOR = f"""
    SELECT c.run_id, c.path, c.attempt FROM workflows_callback c
    JOIN workflows_wait w ON w.run_id = c.run_id AND w.path = c.path AND w.attempt = c.attempt
    WHERE c.delivered_at IS NULL AND w.closed_at IS NULL AND w.kind = '{Reason.CALLBACK.value}'
    ORDER BY c.id LIMIT %s
"""  # noqa: S608 - a word of ours, no input


@dataclass(frozen=True, slots=True)
class KeptCallback:
    """A callback that waits for its step."""

    id: UUID
    path: str
    attempt: int
    body: Any


def kept_callbacks(run_id: UUID, waits: Sequence[tuple[str, int]]) -> list[KeptCallback]:
    """Return what has come for attempts of steps and has not been delivered."""
    paths, attempts = zip(*waits, strict=True)
    values = (list(paths), list(attempts), run_id)
    rows: list[Row] = cursor().execute(KEPT, values).fetchall()
    return [
        KeptCallback(identity, path, attempt, None if body is None else json.loads(body))
        for identity, path, attempt, body in rows
    ]


def mark_delivered(callbacks: Sequence[UUID], *, at: datetime) -> None:
    """Have callbacks be delivered."""
    cursor().execute(DELIVERED, (at, list(callbacks)))


def waited_for(*, limit: int) -> list[tuple[UUID, str, int]]:
    """Return run, path and attempt of callbacks that a step waits for and nobody has delivered."""
    return cursor().execute(WAITED_FOR, (limit,)).fetchall()
