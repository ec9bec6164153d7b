"""Rows of a run that goes over to another version: found, locked, and given their new names.

No state is changed here: what ends and what begins is decided by the engine, before and after.
A row whose step is none any more is kept aside: in no scope, of no node, under a path that
nothing else can have.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from workflows.engine.examined import Examined, Standing, renamings
from workflows.engine.plan import ASIDE, LOOPS, NO_LONGER, NO_NODE, Plan, matching, renaming
from workflows.engine.slice import RunView, StepView
from workflows.engine.states import LIVE_STEPS, Reason, StepState
from workflows.store.loading import STEP_COLUMNS, run_of, step_of
from workflows.store.places import queue_of
from workflows.store.session import Row, cursor

RUN = """
    SELECT r.state, r.ending, e.name, r.parent_id, r.reason, r.version_id
    FROM workflows_run r JOIN environments_environment e ON e.id = r.environment_id
    WHERE r.id = %s
"""

LIVE = ", ".join(f"'{state.value}'" for state in sorted(LIVE_STEPS))

STANDINGS = f"""
    SELECT node, state, reason, attempt > (state = 'QUEUED')::int AS begun, count(*), min(path)
    FROM workflows_step
    WHERE run_id = %s AND node <> {NO_LONGER}
    GROUP BY node, state, reason, begun
    ORDER BY node, state, reason
"""  # noqa: S608 - a literal of ours

ROWS = f"""
    SELECT {STEP_COLUMNS} FROM workflows_step s
    WHERE s.run_id = %(run)s AND s.node <> {NO_LONGER} AND (
        s.node <> ALL (%(inside)s) OR s.state IN ({LIVE}, 'FAILED', 'CANCELLED')
        OR s.state = 'SKIPPED' AND s.reason = 'replayed'
        OR s.node <> ALL (%(rounds)s) AND EXISTS (
            SELECT 1 FROM workflows_step o
            WHERE o.run_id = s.run_id AND o.path = s.scope AND o.state <> 'COMPLETED'
        )
    )
    ORDER BY s.node, s.path
"""  # noqa: S608 - joined from literals of this module

MOVE_CALLBACKS_ASIDE = """
    UPDATE workflows_callback c SET path = c.path || %(suffix)s
    FROM workflows_step s
    WHERE c.run_id = %(run)s AND s.run_id = c.run_id AND s.path = c.path
        AND s.node = ANY (%(nodes)s)
"""

MOVE_ASIDE = f"""
    UPDATE workflows_step SET
        node = {NO_LONGER}, scope = '{ASIDE}', path = path || %(suffix)s, completion = NULL
    WHERE run_id = %(run)s AND node = ANY (%(nodes)s)
"""  # noqa: S608 - literals of this module

RENAME_CALLBACKS = """
    UPDATE workflows_callback c SET path = regexp_replace(c.path, known.was, known.becomes)
    FROM unnest(%(patterns)s::text[], %(becomes)s::text[]) known (was, becomes)
    WHERE c.run_id = %(run)s AND c.path ~ known.was
"""

RENAME_SOURCES = """
    UPDATE workflows_step s
    SET item = jsonb_build_object('of', regexp_replace(s.item ->> 'of', known.was, known.becomes))
    FROM unnest(%(patterns)s::text[], %(becomes)s::text[]) known (was, becomes)
    WHERE s.run_id = %(run)s AND s.node = ANY (%(loops)s) AND jsonb_typeof(s.item) = 'object'
        AND s.item ->> 'of' ~ known.was
"""

RENAME = """
    UPDATE workflows_step s SET
        path = regexp_replace(s.path, known.was, known.becomes),
        scope = regexp_replace(s.scope, known.around, known.within)
    FROM unnest(
        %(nodes)s::int[], %(patterns)s::text[], %(becomes)s::text[], %(around)s::text[],
        %(within)s::text[]
    ) known (node, was, becomes, around, within)
    WHERE s.run_id = %(run)s AND s.node = known.node
"""

RENUMBER = """
    UPDATE workflows_step s SET
        node = known.after,
        queue = CASE WHEN s.finished_at IS NULL THEN known.queue ELSE s.queue END
    FROM unnest(%(before)s::int[], %(after)s::int[], %(queues)s::text[])
        known (before, after, queue)
    WHERE s.run_id = %(run)s AND s.node = known.before
        AND (known.before <> known.after OR s.finished_at IS NULL AND s.queue <> known.queue)
"""

FOLLOW = (
    """
        UPDATE workflows_incident n SET path = s.path FROM workflows_step s
        WHERE n.run_id = %s AND s.id = n.step_id AND n.path <> s.path
    """,
    """
        UPDATE workflows_wait w SET path = s.path FROM workflows_step s
        WHERE w.run_id = %s AND s.id = w.step_id AND w.path <> s.path
    """,
)
"""What bears the path of a step, and knows the step."""

CLOSE_INCIDENTS = """
    UPDATE workflows_incident
    SET resolution = 'discarded', resolved_by = %(actor)s, resolved_at = %(now)s, note = %(note)s
    WHERE run_id = %(run)s AND resolution = '' AND path = ANY (%(paths)s)
"""

FORGET_UNDO = """
    UPDATE workflows_step SET completion = NULL
    WHERE run_id = %(run)s AND completion IS NOT NULL AND node <> ALL (%(nodes)s)
"""

HAS_NO_PLACE = """
    SELECT EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = %(run)s AND completion IS NULL AND node = ANY (%(nodes)s)
            AND state IN ('COMPLETED') AND forked_from IS NULL
    )
"""

NUMBER_COMPLETIONS = """
    UPDATE workflows_step s SET completion = numbered.place
    FROM (
        SELECT id, nextval('workflows_completion') AS place FROM (
            SELECT id FROM workflows_step
            WHERE run_id = %(run)s AND node = ANY (%(nodes)s) AND state IN ('COMPLETED')
                AND forked_from IS NULL
            ORDER BY finished_at, completion, node, path
        ) in_order
    ) numbered
    WHERE s.id = numbered.id
"""

RECORD = """
    INSERT INTO workflows_migration
        (id, run_id, number, before_id, after_id, mapping, findings, by, at)
    SELECT %(id)s, %(run)s, %(number)s, %(before)s, %(after)s, %(mapping)s, %(findings)s, %(actor)s,
        %(now)s
"""

COUNT = "SELECT count(*) FROM workflows_migration WHERE run_id = %s"

REPIN = """
    UPDATE workflows_run SET
        version_id = %(after)s,
        input = COALESCE(%(input)s::jsonb, input),
        deadline_at = CASE WHEN NOT %(retimed)s OR finished_at IS NOT NULL THEN deadline_at
            ELSE started_at + make_interval(secs => %(timeout)s::float) END,
        sla_at = CASE WHEN NOT %(promised)s OR sla_breached_at IS NOT NULL
                OR finished_at IS NOT NULL THEN sla_at
            ELSE created_at + make_interval(secs => %(sla)s::float) END
    WHERE id = %(run)s
"""


NAMESAKES = """
    SELECT DISTINCT j.path
    FROM workflows_journal j
    JOIN unnest(%(paths)s::text[], %(were)s::text[]) known (path, was) ON known.path = j.path
    LEFT JOIN workflows_step s ON s.run_id = j.run_id AND s.path = known.was
    WHERE j.run_id = %(run)s AND j.after = 'RUNNING' AND j.step_id IS DISTINCT FROM s.id
    ORDER BY j.path
"""


@dataclass(frozen=True, slots=True)
class Whole:
    """A run as far as a migration looks at it."""

    run: RunView
    version: UUID
    rows: Mapping[str, StepView]
    standings: Sequence[Standing]


def look_at(run_id: UUID, plan: Plan, *, lock: bool = False) -> Whole | None:
    """Read what is to be known of a run to migrate it; None when there is no such run.

    With `lock` all that lives of it is held, and the run itself: nothing of it can change. Without,
    the version is read last: where it is that of the plan, so is what was read before.
    """
    cur = cursor()
    values = {
        "run": run_id,
        "inside": [node.index for node in plan.nodes if "[]" in node.path],
        "rounds": [node.index for node in plan.nodes if node.is_item],
    }
    rows = _hold(cur, values) if lock else cur.execute(ROWS, values).fetchall()
    standings = _standings(cur, run_id)
    found = cur.execute(f"{RUN} FOR UPDATE OF r" if lock else RUN, (run_id,)).fetchone()
    if found is None:
        return None
    *facts, version = found
    run = run_of(run_id, *facts)
    views = [step_of(row) for row in rows]
    return Whole(run, version, {view.path: view for view in views}, standings)


def _hold(cur: Any, values: Mapping[str, Any]) -> list[Row]:
    """Lock and read rows until a look finds the same ones: once all are held, none is born."""
    known: list[str] | None = None
    while True:
        rows: list[Row] = cur.execute(f"{ROWS} FOR UPDATE OF s", values).fetchall()
        paths = [row[0] for row in rows]
        if paths == known:
            return rows
        known = paths


def _standings(cur: Any, run_id: UUID) -> list[Standing]:
    return [
        Standing(node, StepState(state), Reason(reason) if reason else None, begun, rows, path)
        for node, state, reason, begun, rows, path in cur.execute(STANDINGS, (run_id,)).fetchall()
    ]


@dataclass(frozen=True, slots=True)
class GoingOver:
    """A run that goes from a version to another."""

    run: UUID
    environment: str
    before: UUID
    after: UUID
    old: Plan
    new: Plan
    mapping: Mapping[str, str | None]
    input: Mapping[str, Any] | None
    """What its input is now, if the new version adds to it."""


def go_over(one: GoingOver, found: Examined, *, actor: str, now: datetime) -> None:
    """Give the rows their new names and numbers, and the run its version, with a record of it.

    The caller holds the locks, and what is none any more has ended.
    """
    cur = cursor()
    [(number,)] = cur.execute(COUNT, (one.run,)).fetchall()
    number += 1
    _close_incidents(one, found, actor, now)
    _put_aside(one.run, found, f"{ASIDE}{number}")
    _rename(one, found)
    _renumber(one, found)
    for statement in FOLLOW:
        cur.execute(statement, (one.run,))
    _number_completions(one)
    cur.execute(
        RECORD,
        {
            "id": uuid7(),
            "run": one.run,
            "number": number,
            "before": one.before,
            "after": one.after,
            "mapping": json.dumps(dict(one.mapping)),
            "findings": json.dumps([finding.as_dict() for finding in found.findings]),
            "actor": actor,
            "now": now,
        },
    )
    cur.execute(
        REPIN,
        {
            "run": one.run,
            "after": one.after,
            "input": None if one.input is None else json.dumps(dict(one.input)),
            "retimed": one.old.timeout != one.new.timeout,
            "timeout": one.new.timeout,
            "promised": one.old.sla != one.new.sla,
            "sla": one.new.sla,
        },
    )


def namesakes(run_id: UUID, names: Mapping[str, str]) -> list[str]:
    """Return the paths that steps would have, of those they have, under which others have begun."""
    values = {"run": run_id, "paths": list(names), "were": list(names.values())}
    return [path for (path,) in cursor().execute(NAMESAKES, values).fetchall()]


def _close_incidents(one: GoingOver, found: Examined, actor: str, now: datetime) -> None:
    if found.withdrawn:
        note = "The run went over to a version without the step."
        paths = list(found.withdrawn)
        values = {"run": one.run, "paths": paths, "actor": actor, "now": now, "note": note}
        cursor().execute(CLOSE_INCIDENTS, values)


def _put_aside(run_id: UUID, found: Examined, suffix: str) -> None:
    if found.retired:
        values = {"run": run_id, "nodes": sorted(found.retired), "suffix": suffix}
        cursor().execute(MOVE_CALLBACKS_ASIDE, values)
        cursor().execute(MOVE_ASIDE, values)


def _rename(one: GoingOver, found: Examined) -> None:
    renamed = list(renamings(one.old, one.new, found.nodes))
    if not renamed:
        return
    around = [one.old.nodes[one.old.nodes[node].scope].path for node, _, _ in renamed]
    within = [one.new.nodes[one.new.nodes[found.nodes[node]].scope].path for node, _, _ in renamed]
    values = {
        "run": one.run,
        "nodes": [node for node, _, _ in renamed],
        "patterns": [matching(was) for _, was, _ in renamed],
        "becomes": [renaming(becomes) for _, _, becomes in renamed],
        "around": [matching(path) for path in around],
        "within": [renaming(path) for path in within],
        "loops": [node.index for node in one.old.nodes if node.kind in LOOPS],
    }
    for statement in (RENAME_CALLBACKS, RENAME_SOURCES, RENAME):
        cursor().execute(statement, values)


def _renumber(one: GoingOver, found: Examined) -> None:
    after = list(found.nodes.values())
    values = {
        "run": one.run,
        "before": list(found.nodes),
        "after": after,
        "queues": [queue_of(one.new.nodes[index], one.environment) for index in after],
    }
    cursor().execute(RENUMBER, values)


def _number_completions(one: GoingOver) -> None:
    """Have just those steps be among what is to be undone that the new version can undo.

    They are undone in the order in which they have ended, the last first.
    """
    if not one.old.can_be_undone and not one.new.can_be_undone:
        return
    values = {
        "run": one.run,
        "nodes": [node.index for node in one.new.nodes if node.undo != NO_NODE],
    }
    cursor().execute(FORGET_UNDO, values)
    if cursor().execute(HAS_NO_PLACE, values).fetchall()[0][0]:
        cursor().execute(NUMBER_COMPLETIONS, values)
