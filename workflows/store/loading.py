"""Rows become a Slice, under the locks that a decision needs.

Rows are locked in the order of their nodes, then the run: two transactions that
meet wait for each other, and the rare deadlock between waves is resolved by trying
again (`workflows.services.patience`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import psycopg

from workflows.engine.compensating import BELOW
from workflows.engine.events import StepError
from workflows.engine.joins import Tally
from workflows.engine.plan import NO_LONGER, ROOT, Plan
from workflows.engine.slice import (
    Ending,
    Requirement,
    RunView,
    ScopeTally,
    Slice,
    StepView,
    Undoing,
)
from workflows.engine.states import (
    FINISHED_STEPS,
    HANDS_ON,
    LIVE_STEPS,
    Reason,
    RunReason,
    RunState,
    StepState,
)
from workflows.language.limits import LARGEST_VALUE
from workflows.language.words import ExitStatus, OnFailure, StepKind
from workflows.store.session import Row, cursor

STEP_COLUMNS = (
    "s.path, s.node, s.scope, s.state, s.reason, s.attempt, s.failures, s.losses, s.ok, s.failed,"
    " s.skipped, s.upstream_failed, s.cancel_requested, s.worker, s.wake_at, s.started_at, s.error,"
    " s.total, s.born, s.retry_until"
)

LOAD = f"""
    SELECT set_config('orchestrator.actor', %(actor)s, true), r.state, r.ending, e.name,
        r.parent_id, r.reason, workflows_version_of(r.id, s.path), {STEP_COLUMNS}
    FROM workflows_run r
    JOIN environments_environment e ON e.id = r.environment_id
    LEFT JOIN LATERAL (
        SELECT * FROM workflows_step
        WHERE run_id = r.id AND path = ANY(%(paths)s)
        ORDER BY node, path
        FOR UPDATE
    ) s ON true
    WHERE r.id = %(run)s
"""  # noqa: S608 - joined from literals of this module

ENDED_WELL = FINISHED_STEPS - {StepState.FAILED}
"""What is over, and has left nothing to be dealt with."""

LOAD_INSIDE = f"""
    SELECT {STEP_COLUMNS} FROM workflows_step s
    WHERE s.run_id = %(run)s AND s.node <> {NO_LONGER} AND (
        s.path = ANY(%(paths)s) OR %(root)s
        OR EXISTS (SELECT 1 FROM unnest(%(tops)s::text[]) top WHERE starts_with(s.path, top))
        OR (s.state NOT IN ({", ".join(f"'{state.value}'" for state in sorted(ENDED_WELL))})
            OR s.reason IN ('discarded', 'fail_fast')) AND EXISTS (
                SELECT 1 FROM unnest(%(unfinished)s::text[]) top WHERE starts_with(s.path, top)
            )
        OR %(reopenable)s AND NOT EXISTS (
            SELECT 1 FROM unnest(%(nodes)s::int[], %(items)s::text[]) inside (node, item)
            JOIN workflows_step i ON i.run_id = s.run_id
                AND i.path = substring(s.path FROM inside.item) AND i.state = 'COMPLETED'
            WHERE inside.node = s.node
        )
    )
    ORDER BY s.node, s.path
    FOR UPDATE
"""  # noqa: S608 - joined from literals of this module

LOAD_PATHS = f"""
    SELECT {STEP_COLUMNS} FROM workflows_step s
    WHERE s.run_id = %(run)s AND s.path = ANY(%(paths)s)
    ORDER BY s.node, s.path
    FOR UPDATE
"""  # noqa: S608 - joined from literals of this module

LOCK_RUN = "SELECT state, ending, reason, version_id FROM workflows_run WHERE id = %s FOR UPDATE"

READ_RUN = "SELECT state, ending FROM workflows_run WHERE id = %s"

LOAD_ROOTS = """
    SELECT r.input, r.vars, e.variables, e.name, v.number, r.started_at
    FROM workflows_run r
    JOIN environments_environment e ON e.id = r.environment_id
    JOIN workflows_version v ON v.id = r.version_id
    WHERE r.id = %s
"""

VARIABLES = "SELECT name, variables FROM environments_environment WHERE name = ANY(%s)"

LOAD_RECORDS = """
    SELECT path, state, output, error, attempt FROM workflows_step
    WHERE run_id = %s AND path = ANY(%s)
"""

LOAD_ITEMS = "SELECT path, item FROM workflows_step WHERE run_id = %s AND path = ANY(%s)"

LOAD_BATCH = """
    SELECT born, LEAST(born + %(width)s, total), CASE jsonb_typeof(item) WHEN 'array' THEN
        jsonb_path_query_array(item, '$[$first to $last]', jsonb_build_object(
            'first', born, 'last', LEAST(born + %(width)s, total) - 1
        ))
    END, item ->> 'of'
    FROM workflows_step WHERE run_id = %(run)s AND path = %(path)s AND born < total
"""

LOAD_BORN = "SELECT born FROM workflows_step WHERE run_id = %s AND path = %s"

HANDING_ON = ", ".join(f"'{state.value}'" for state in sorted(HANDS_ON))

LOAD_LAST = f"""
    SELECT CASE WHEN state IN ({HANDING_ON}) THEN output END FROM workflows_step
    WHERE run_id = %s AND scope = %s AND path >= %s AND path < %s
"""  # noqa: S608 - the states are literals

LOAD_LATEST = """
    SELECT path, state, output, error, attempt FROM workflows_step
    WHERE run_id = %s AND node = %s AND path >= %s AND path < %s
    ORDER BY id DESC LIMIT 1
"""

LOAD_OUTPUTS = f"""
    SELECT path, CASE WHEN state IN ({HANDING_ON}) THEN output END FROM workflows_step
    WHERE run_id = %s AND path = ANY(%s)
"""  # noqa: S608 - the states are literals

PAGE = 1000
"""Outputs of a loop's items that are read with one statement."""

HAVE_LIVE = f"""
    SELECT wanted.scope FROM unnest(%s::text[]) wanted (scope), LATERAL (
        SELECT FROM workflows_step
        WHERE run_id = %s AND scope = wanted.scope
        AND state IN ({", ".join(f"'{state.value}'" for state in sorted(LIVE_STEPS))})
        LIMIT 1
    ) first
"""  # noqa: S608 - the states are literals, so that the partial index is used

LAST_COMPLETED = """
    SELECT path, completion FROM workflows_step
    WHERE run_id = %(run)s AND completion IS NOT NULL AND state = '{state}'
    ORDER BY completion DESC LIMIT 1
"""

FAILED_INSIDE = """
    SELECT wanted.scope, first.* FROM unnest(%s::text[]) wanted (scope), LATERAL (
        SELECT path, error, count(*) OVER () FROM workflows_step
        WHERE run_id = %s AND scope = wanted.scope AND (
            (state = 'FAILED' AND reason <> 'optional')
            OR reason = 'discarded'
            OR (state = 'CANCELLED' AND reason = 'fail_fast')
        )
        ORDER BY error IS NULL, node, path
        LIMIT 1
    ) first
"""


HAS_INCIDENT = """
    SELECT EXISTS (SELECT 1 FROM workflows_incident WHERE run_id = %s AND resolution = '')
"""

UNDOING = f"""
    SELECT EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = %(run)s AND scope = '' AND state <> 'PENDING'
            AND state IN ({", ".join(f"'{state.value}'" for state in sorted(LIVE_STEPS))})
    ), (
        SELECT path FROM (
            ({LAST_COMPLETED.format(state="COMPLETED")})
            UNION ALL
            ({LAST_COMPLETED.format(state="COMPENSATING")})
        ) left_over
        ORDER BY completion DESC LIMIT 1
    )
"""  # noqa: S608 - the states are literals, so that the partial indexes are used

UNDOING_FAILED = """
    SELECT path, count(*) OVER () FROM workflows_step
    WHERE run_id = %s AND completion IS NOT NULL AND state = 'COMPENSATION_FAILED'
        AND reason <> 'discarded'
    ORDER BY completion DESC LIMIT 1
"""


class NoRunError(LookupError):
    """The run does not exist, or has been removed."""


class WentOverError(LookupError):
    """The run has gone over to another version, so what was to be decided by its plan is not."""

    def __init__(self, run_id: UUID, version: UUID) -> None:
        super().__init__(f"the run {run_id} has gone over to the version {version}")
        self.version = version


def load(
    run_id: UUID, plan: Plan, wanted: Requirement, *, actor: str, version: UUID | None = None
) -> Slice:
    """Lock and read what a decision needs; the transaction's changes are `actor`'s.

    `version` is the one that the plan is of.
    Raises NoRunError when there is no such run, WentOverError when it is in another version.
    """
    cur = cursor()
    paths = sorted(wanted.paths)
    values = {"actor": actor, "run": run_id, "paths": paths}
    sent = cur.execute(LOAD, values, prepare=True)
    # They travel together, and are answered in this order: under the locks.
    batches = {path: _ask_for_batch(run_id, plan, path) for path in wanted.batches}
    rows = sent.fetchall()
    if not rows:
        raise NoRunError(f"there is no run {run_id}")
    _, state, ending, environment, parent, reason, pinned = rows[0][:7]
    steps = [step_of(row[7:]) for row in rows if row[7] is not None]
    some = wanted.subtrees or wanted.unfinished
    is_deep = bool(some or wanted.everything or wanted.reopenable)
    if is_deep:
        steps = _load_inside(cur, run_id, plan, wanted)
    if ROOT in wanted.scopes or is_deep or wanted.undoing:
        locked = cur.execute(LOCK_RUN, (run_id,), prepare=True).fetchall()[0]
        state, ending, reason, pinned = locked
    if version not in {None, pinned}:
        raise WentOverError(run_id, pinned)
    held = Slice(
        run=run_of(run_id, state, ending, environment, parent, reason),
        steps={view.path: view for view in steps},
        held=wanted,
    )
    held.batches = {path: _batch(run_id, plan, asked) for path, asked in batches.items()}
    _load_values(cur, run_id, plan, held)
    return held


def _load_values(cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, held: Slice) -> None:
    """Read what is wanted besides the rows themselves."""
    wanted = held.held
    if wanted.undoing:
        _load_undoing(cur, run_id, held)
    if wanted.roots or wanted.records or wanted.items:
        read(cur, run_id, plan, held, wanted)
    for path in wanted.gathered:
        held.gathered[path] = _gathered(cur, run_id, plan, path)
    if wanted.scopes:
        held.tallies = _tallies(cur, run_id, wanted.scopes)
    if ROOT in held.tallies and held.tallies[ROOT].failed and plan.on_failure is OnFailure.PARK:
        needs_person = cur.execute(HAS_INCIDENT, (run_id,), prepare=True).fetchall()[0][0]
        held.tallies[ROOT] = replace(held.tallies[ROOT], needs_person=needs_person)


def _load_inside(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, wanted: Requirement
) -> list[StepView]:
    """Lock and read all that is inside, and again until a look finds nobody new.

    Somebody who held a row while this waited for it may have brought steps into being, which
    a statement that had begun by then does not see. Once it holds every row, none can be born.
    """
    values = {
        "run": run_id,
        "paths": sorted(wanted.paths | wanted.subtrees | wanted.unfinished),
        "root": wanted.everything or ROOT in wanted.subtrees,
        "tops": _beginnings(wanted.subtrees - {ROOT}),
        "unfinished": _beginnings(wanted.unfinished),
        "reopenable": wanted.reopenable,
        "nodes": [node for node, _ in plan.in_items],
        "items": [item for _, item in plan.in_items],
    }
    known = -1
    while True:
        rows = cur.execute(LOAD_INSIDE, values).fetchall()
        if len(rows) == known:
            return [step_of(row) for row in rows]
        known = len(rows)


def _beginnings(tops: Iterable[str]) -> list[str]:
    """Return how the paths of what is inside steps begin; anyhow, for what is inside the run."""
    return ["" if top == ROOT else f"{top}{mark}" for top in tops for mark in ".["]


def _load_undoing(cur: psycopg.Cursor[Row], run_id: UUID, held: Slice) -> None:
    """Read what is to be undone next, and lock it. The caller holds the lock of the run."""
    row = cur.execute(UNDOING, {"run": run_id}, prepare=True).fetchall()[0]
    under_way, path = bool(row[0]), row[1] or ""
    failed: list[Row] = []
    if path:
        values = {"run": run_id, "paths": [path, path + BELOW]}
        for found in cur.execute(LOAD_PATHS, values, prepare=True).fetchall():
            view = step_of(found)
            held.steps[view.path] = view
    elif not under_way:
        failed = cur.execute(UNDOING_FAILED, (run_id,), prepare=True).fetchall()
    first, number = failed[0] if failed else ("", 0)
    held.undoing = Undoing(under_way, path, number, first)


def read(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, held: Slice, wanted: Requirement
) -> None:
    """Read the values that expressions name."""
    if wanted.roots & {"input", "vars", "env", "run"}:
        row = cur.execute(LOAD_ROOTS, (run_id,), prepare=True).fetchall()[0]
        given, variables, env, environment, number, started_at = row
        held.roots = {
            "input": json.loads(given),
            "vars": json.loads(variables),
            "env": json.loads(env),
            "run": {
                "id": str(run_id),
                "workflow": plan.workflow,
                "version": number,
                "environment": environment,
                "started_at": started_at.isoformat().replace("+00:00", "Z") if started_at else None,
            },
        }
        if plan.elsewhere:
            found = cur.execute(VARIABLES, (sorted(plan.elsewhere),), prepare=True).fetchall()
            known = {name: json.loads(variables) for name, variables in found}
            held.elsewhere = {place: known.get(place, {}) for place in plan.elsewhere}
    if wanted.records:
        rows = cur.execute(LOAD_RECORDS, (run_id, list(wanted.records)), prepare=True).fetchall()
        held.records = dict.fromkeys(wanted.records) | {row[0]: _record(row) for row in rows}
        for path in (path for path in wanted.records if "*" in path):
            held.records[path] = _latest(cur, run_id, plan, path)
    if wanted.items:
        found = cur.execute(LOAD_ITEMS, (run_id, list(wanted.items)), prepare=True).fetchall()
        held.items = {path: _parsed(item) for path, item in found}


def _latest(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, path: str
) -> Mapping[str, Any] | None:
    """Return the result of the latest visit of a state, or of a step inside one."""
    before = path.partition("*")[0]
    node = plan.node(path.replace("*", "0"))
    values = (run_id, node.index, before, f"{before}:")
    rows = cur.execute(LOAD_LATEST, values).fetchall()
    return _record(rows[0]) if rows else None


def _record(row: Row) -> Mapping[str, Any]:
    _, state, output, error, attempt = row
    return {
        "state": state,
        "output": _parsed(output),
        "error": _parsed(error),
        "attempt": attempt,
    }


def _ask_for_batch(run_id: UUID, plan: Plan, loop: str) -> psycopg.Cursor[Row]:
    """Ask for the next items of a loop, as many as its window is wide."""
    values = {"run": run_id, "path": loop, "width": plan.node(loop).max_parallel}
    return cursor().execute(LOAD_BATCH, values, prepare=True)


def _batch(run_id: UUID, plan: Plan, asked: psycopg.Cursor[Row]) -> Sequence[Any]:
    """Return the next items of a loop, which have been asked for."""
    rows = asked.fetchall()
    first, last, items, source = rows[0] if rows else (0, 0, None, None)
    if source is not None:
        return _outputs(cursor(), run_id, plan, source, range(first, last)) or ()
    return range(first, last) if items is None else cast("list[Any]", json.loads(items))


def _gathered(
    cur: psycopg.Cursor[Row], run_id: UUID, plan: Plan, loop: str
) -> Sequence[Any] | None:
    """Return the outputs of all items of a loop, None where they are too large for a value.

    Of a `repeat` it is the last one's alone.
    """
    rows = cur.execute(LOAD_BORN, (run_id, loop), prepare=True).fetchall()
    born = rows[0][0] or 0 if rows else 0
    if plan.node(loop).kind is not StepKind.FOREACH:
        last = f"{loop}[{born - 1}]"
        found = cur.execute(LOAD_LAST, (run_id, loop, last, f"{last}/")).fetchall()
        return [_parsed(output) for (output,) in found]
    if born > LARGEST_VALUE // 2:
        return None
    return _outputs(cur, run_id, plan, loop, range(born), at_most=LARGEST_VALUE)


def _outputs(  # noqa: PLR0913, PLR0917 - where they are, and how much of them
    cur: psycopg.Cursor[Row],
    run_id: UUID,
    plan: Plan,
    loop: str,
    numbers: range,
    at_most: int | None = None,
) -> list[Any] | None:
    """Return the outputs of some items of a loop; None when they have more than that many bytes."""
    body = plan.nodes[plan.node(loop).children[0]]
    found: list[Any] = []
    size = 0
    for start in range(0, len(numbers), PAGE):
        paths = [plan.path(body, f"{loop}[{number}]") for number in numbers[start : start + PAGE]]
        rows = cur.execute(LOAD_OUTPUTS, (run_id, paths), prepare=True).fetchall()
        known: dict[str, str | None] = dict(rows)
        size += sum(len(output or "") for output in known.values())
        if at_most is not None and size > at_most:
            return None
        found += [_parsed(known.get(path)) for path in paths]
    return found


def run_view(run_id: UUID) -> RunView:
    """Return a run as it stands, without a lock."""
    state, ending = cursor().execute(READ_RUN, (run_id,)).fetchall()[0]
    return RunView(str(run_id), RunState(state), ending_of(ending))


def lock_run(run_id: UUID) -> RunState:
    """Keep the run's row from changing until the transaction ends, and return its state."""
    return RunState(cursor().execute(LOCK_RUN, (run_id,), prepare=True).fetchall()[0][0])


def _tallies(
    cur: psycopg.Cursor[Row], run_id: UUID, scopes: frozenset[str]
) -> dict[str, ScopeTally]:
    """Return what the steps of scopes amount to, by two statements for all of them."""
    found = dict.fromkeys(scopes, ScopeTally(alive=0, failed=0))
    for (scope,) in cur.execute(HAVE_LIVE, (list(scopes), run_id), prepare=True):
        found[scope] = ScopeTally(alive=1, failed=0)
    dead = [scope for scope, tally in found.items() if not tally.alive]
    for scope, path, text, failed in cur.execute(FAILED_INSIDE, (dead, run_id), prepare=True):
        error = StepError.from_dict(json.loads(text)) if text else None
        found[scope] = ScopeTally(0, failed, error, path)
    return found


def run_of(run_id: UUID, *row: Any) -> RunView:
    """Return a run from its state, ending, environment, parent and reason."""
    state, ending, environment, parent, reason = row
    return RunView(
        str(run_id),
        RunState(state),
        ending_of(ending),
        environment,
        str(parent or ""),
        RunReason(reason) if reason else None,
    )


def step_of(row: Row) -> StepView:
    """Return a step from its STEP_COLUMNS."""
    return StepView(
        path=row[0],
        node=row[1],
        scope=row[2],
        state=StepState(row[3]),
        reason=Reason(row[4]) if row[4] else None,
        attempt=row[5],
        failures=row[6],
        losses=row[7],
        tally=Tally(row[8], row[9], row[10], row[11]),
        cancel_requested=row[12],
        worker=row[13],
        wake_at=row[14],
        started_at=row[15],
        error=StepError.from_dict(json.loads(row[16])) if row[16] else None,
        total=row[17],
        born=row[18] or 0,
        retry_until=row[19],
    )


def ending_of(value: str | None) -> Ending | None:
    """Return the end that a run is heading for, as its row has it."""
    if value is None:
        return None
    found = json.loads(value)
    error = StepError.from_dict(found["error"]) if found["error"] else None
    undo = found.get("undo", False)
    return Ending(ExitStatus(found["status"]), found["output"], error, undo)


def _parsed(value: str | None) -> Any:
    return None if value is None else json.loads(value)
