"""Rows that a fork takes over: copied as they are, with a line in the journal, never done again."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from workflows.engine.slice import StepView
from workflows.engine.states import Reason, StepState
from workflows.store.session import cursor

ROWS = """
    SELECT path, node, scope, state, reason FROM workflows_step
    WHERE run_id = %s AND scope = ANY(%s)
    ORDER BY node, path
    FOR SHARE
"""

TAKE_OVER = """
    INSERT INTO workflows_step (
        id, run_id, path, node, scope, queue, state, reason, attempt, failures, losses, ok, failed,
        skipped, upstream_failed, cancel_requested, worker, total, born, item, output, error,
        queued_at, started_at, finished_at, forked_from
    )
    SELECT (
            lpad(to_hex((extract(epoch FROM statement_timestamp()) * 1000)::bigint), 12, '0')
            || '7' || left(s.number, 3) || '8' || right(s.number, 3)
            || right(gen_random_uuid()::text, 12)
        )::uuid, %(into)s, s.path, known.after, s.scope, s.queue, s.state, s.reason,
        s.attempt, s.failures, s.losses, s.ok, s.failed, s.skipped, s.upstream_failed, false, '',
        s.total, s.born, s.item, s.output, s.error, s.queued_at, s.started_at, s.finished_at, s.id
    FROM (
        SELECT *, lpad(to_hex(row_number() OVER (ORDER BY id)), 6, '0') AS number
        FROM workflows_step WHERE run_id = %(run)s AND finished_at IS NOT NULL
    ) s
    JOIN unnest(%(before)s::int[], %(after)s::int[]) known (before, after) ON known.before = s.node
    WHERE EXISTS (
        SELECT 1 FROM unnest(%(tops)s::text[]) top
        WHERE s.path = top OR starts_with(s.path, top || '.') OR starts_with(s.path, top || '[')
    )
"""
"""Ids begin with the time, as all do (RFC 9562, version 7), and keep the order of the rows."""

SET_VALUES = """
    SELECT output FROM workflows_step
    WHERE run_id = %s AND node = ANY(%s) AND state = 'COMPLETED' ORDER BY finished_at, node
"""

KEEP_VALUES = "UPDATE workflows_run SET vars = %s WHERE id = %s"


def rows_of_scopes(run_id: UUID, scopes: Sequence[str]) -> dict[str, StepView]:
    """Return the steps of some scopes of a run, and keep them from changing meanwhile."""
    found = cursor().execute(ROWS, (run_id, list(scopes))).fetchall()
    return {
        path: StepView(
            path, node, scope, StepState(state), reason=Reason(reason) if reason else None
        )
        for path, node, scope, state, reason in found
    }


def take_over(
    run_id: UUID, into: UUID, tops: Sequence[str], nodes: Mapping[int, int], sets: Sequence[int]
) -> None:
    """Copy what has ended of some steps, and of all inside them, into another run.

    `nodes` says which node of the other's plan a node is; `sets` are those that set variables.
    """
    values = {
        "run": run_id,
        "into": into,
        "tops": list(tops),
        "before": list(nodes),
        "after": list(nodes.values()),
    }
    cursor().execute(TAKE_OVER, values)
    variables: dict[str, Any] = {}
    for (output,) in cursor().execute(SET_VALUES, (into, list(sets))).fetchall():
        variables |= json.loads(output) if output else {}
    if variables:
        cursor().execute(KEEP_VALUES, (json.dumps(variables), into))
