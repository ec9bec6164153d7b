"""What must hold of everything that is stored, asked of the database in one statement each.

`broken()` looks at every run there is, or at some, and returns a sentence for each promise that
does not hold; an empty list is the proof. `left_over()` adds what must hold once nothing is on
its way any more. The law itself is that of `workflows.engine.states`.
"""

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.db import connection

from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    LIVE_STEPS,
    OUTSIDE,
    RUN_MOVES,
    STEP_MOVES,
)

MOST_SENTENCES = 20

OF_THE_RUN = ("run.timeout", "run.exit", "expression.error", "value.too_large")
"""The codes of errors that are the run's own: no step of it needs a person."""

ALWAYS: Mapping[str, str] = {
    "a run's state is that of its last line in the journal": """
        SELECT r.id, '' AS path, r.state || ' instead of ' || COALESCE(j.after, 'PENDING')
        FROM workflows_run r LEFT JOIN LATERAL (
            SELECT after FROM workflows_journal
            WHERE run_id = r.id AND path = '' ORDER BY id DESC LIMIT 1
        ) j ON true
        WHERE r.state <> COALESCE(j.after, 'PENDING')
    """,
    "a step's state is that of its last line in the journal": """
        SELECT s.run_id, s.path, s.state || ' instead of ' || COALESCE(j.after, 'PENDING')
        FROM workflows_step s LEFT JOIN LATERAL (
            SELECT after FROM workflows_journal
            WHERE run_id = s.run_id AND step_id = s.id ORDER BY id DESC LIMIT 1
        ) j ON true
        WHERE s.state <> COALESCE(j.after, 'PENDING')
    """,
    "each line of the journal begins where the one before it ended": """
        SELECT run_id, path, was || ', then ' || before || ' -> ' || after FROM (
            SELECT run_id, path, before, after,
                COALESCE(lag(after) OVER (PARTITION BY run_id, step_id ORDER BY id), 'PENDING')
                AS was
            FROM workflows_journal
        ) lines WHERE before <> was
    """,
    "each line of the journal is a legal transition": """
        SELECT run_id, path, before || ' -> ' || after FROM workflows_journal
        WHERE CASE path
            WHEN '' THEN (before || ':' || after) <> ALL (%(run_moves)s)
            ELSE (before || ':' || after) <> ALL (%(step_moves)s) END
            AND NOT (reason = 'forked' AND before = 'PENDING' AND after = ANY (%(finished_steps)s))
            AND NOT (reason = 'migrated' AND path = '' AND before = after)
    """,
    "each line of the journal has an actor": """
        SELECT run_id, path, actor FROM workflows_journal
        WHERE actor = '' OR starts_with(actor, 'database:')
    """,
    "the attempts at a step are numbered without a gap": """
        SELECT s.run_id, s.path,
            s.state || ' at ' || s.attempt || ' after ' || COALESCE(a.numbers::text, 'none')
        FROM workflows_step s LEFT JOIN LATERAL (
            SELECT array_agg(number ORDER BY number) AS numbers
            FROM workflows_attempt WHERE step_id = s.id
        ) a ON true
        WHERE s.forked_from IS NULL AND COALESCE(a.numbers, '{}') <> ARRAY(SELECT generate_series(
            1, s.attempt - CASE WHEN s.attempt > 0 AND (
                s.state IN ('QUEUED', 'RUNNING')
                OR s.state = 'WAITING' AND s.reason = ANY (%(outside)s)
            ) THEN 1 ELSE 0 END
        ))
    """,
    # A replay inside a fallback opens the step around it again, which no worker takes: that
    # passes through the states to where it waits.
    "an attempt is taken once": """
        SELECT run_id, min(path), 'attempt ' || attempt || ' was taken ' || count(*) || ' times'
        FROM (
            SELECT run_id, step_id, path, attempt, before, after, actor,
                lead(after) OVER (PARTITION BY run_id, step_id ORDER BY id) AS next
            FROM workflows_journal WHERE path <> '' AND attempt > 0
        ) j
        WHERE before = 'QUEUED' AND after = 'RUNNING'
            AND NOT (actor <> 'engine' AND next = 'WAITING')
        GROUP BY run_id, step_id, attempt HAVING count(*) > 1
    """,
    "an attempt that is over was taken": """
        SELECT a.run_id, s.path, 'attempt ' || a.number || ' ' || a."end"
        FROM workflows_attempt a JOIN workflows_step s ON s.id = a.step_id
        WHERE NOT EXISTS (
            SELECT 1 FROM workflows_journal WHERE run_id = a.run_id AND step_id = s.id
            AND before = 'QUEUED' AND after = 'RUNNING' AND attempt = a.number
        ) AND NOT EXISTS (  -- Whoever is asked instead is asked by nobody.
            SELECT 1 FROM workflows_wait w JOIN workflows_wait o
                ON o.run_id = w.run_id AND o.path = w.path AND o.attempt = w.attempt - 1
            WHERE w.run_id = a.run_id AND w.path = s.path AND w.attempt = a.number
                AND o.answer ->> 'outcome' = 'escalated'
        )
    """,
    "a completed attempt is the last one, and its step is completed": """
        SELECT a.run_id, s.path, 'attempt ' || a.number || ' of ' || s.attempt || ', ' || s.state
        FROM workflows_attempt a JOIN workflows_step s ON s.id = a.step_id
        WHERE a."end" = 'completed' AND (a.number <> s.attempt OR s.state NOT IN (
            'COMPLETED', 'COMPENSATING', 'COMPENSATED', 'COMPENSATION_FAILED'
        ))
    """,
    "a running step has a worker's lease": """
        SELECT run_id, path, 'worker ' || worker FROM workflows_step
        WHERE state = 'RUNNING' AND (worker = '' OR wake_at IS NULL)
    """,
    "nobody is to look again at a finished step": """
        SELECT run_id, path, state || ' until ' || wake_at FROM workflows_step
        WHERE wake_at IS NOT NULL AND state = ANY (%(finished_steps)s)
    """,
    "a wait is open as long as its step waits for it": """
        SELECT COALESCE(s.run_id, w.run_id), COALESCE(s.path, w.path),
            COALESCE(w.kind || ' ' || w.attempt, 'no wait') || ', '
                || COALESCE(s.reason || ' ' || s.attempt, 'no step')
        FROM (
            SELECT * FROM workflows_step WHERE state = 'WAITING' AND reason = ANY (%(outside)s)
        ) s FULL JOIN (
            SELECT * FROM workflows_wait WHERE closed_at IS NULL
        ) w ON w.step_id = s.id AND w.kind = s.reason AND w.attempt = s.attempt
        WHERE s.id IS NULL OR w.id IS NULL
    """,
    "nothing lives in a finished run": """
        SELECT s.run_id, s.path, s.state || ' in a run that is ' || r.state
        FROM workflows_step s JOIN workflows_run r ON r.id = s.run_id
        WHERE r.state = ANY (%(finished_runs)s) AND s.state = ANY (%(live_steps)s)
    """,
    "a finished run has no time limit left": """
        SELECT id, '', state FROM workflows_run
        WHERE state = ANY (%(finished_runs)s) AND deadline_at IS NOT NULL
    """,
    "an open incident is about a failed step, of a run that is over only if it is uncertain": """
        SELECT n.run_id, n.path, s.state || ' in a run that is ' || r.state
        FROM workflows_incident n
        JOIN workflows_step s ON s.id = n.step_id JOIN workflows_run r ON r.id = n.run_id
        WHERE n.resolution = '' AND (
            s.state NOT IN ('FAILED', 'COMPENSATION_FAILED')
            OR (n.error_class <> 'uncertain'
                AND r.state IN ('COMPLETED', 'CANCELLED', 'COMPENSATED'))
        )
    """,
    "one step waits for a child run at a time": """
        SELECT child_id, min(path), count(*) || ' wait for it' FROM workflows_wait
        WHERE child_id IS NOT NULL AND closed_at IS NULL
        GROUP BY child_id HAVING count(*) > 1
    """,
    "a step that waits for a child run that has ended is to be told": """
        SELECT w.run_id, w.path, r.state || ', due: ' || COALESCE(w.due, 'nothing')
        FROM workflows_wait w JOIN workflows_run r ON r.id = w.child_id
        WHERE w.closed_at IS NULL AND r.state = ANY (%(finished_runs)s)
            AND COALESCE(w.due, '') NOT IN ('tell', 'replay')
    """,
    "one step of a run is undone at a time, and only while the run is undone": """
        SELECT r.id, min(s.path), r.state || ', under way: ' || count(*)
        FROM workflows_step s JOIN workflows_run r ON r.id = s.run_id
        WHERE s.path LIKE '%%.compensate' AND s.scope = ''
            AND s.state IN ('QUEUED', 'RUNNING', 'RETRYING')
        GROUP BY r.id, r.state HAVING count(*) > 1 OR r.state NOT IN ('COMPENSATING', 'CANCELLING')
    """,
    "a step is where its undo is": """
        SELECT u.run_id, u.path, u.state || ' of a step that is ' || s.state
        FROM workflows_step u JOIN workflows_step s
            ON s.run_id = u.run_id AND s.path || '.compensate' = u.path
        WHERE u.scope = '' AND s.completion IS NOT NULL AND s.state <> CASE
            WHEN u.state IN ('PENDING', 'QUEUED', 'RUNNING', 'RETRYING') THEN 'COMPENSATING'
            WHEN u.state = 'COMPLETED' THEN 'COMPENSATED'
            WHEN u.state = 'SKIPPED' AND u.reason = 'skipped_by_operator' THEN 'COMPENSATED'
            ELSE 'COMPENSATION_FAILED' END
    """,
    "what was completed last is undone first": """
        SELECT run_id, path, 'undone before a step that was completed later' FROM (
            SELECT j.run_id, j.path, s.completion,
                lag(s.completion) OVER (PARTITION BY j.run_id ORDER BY j.id) AS before
            FROM workflows_journal j JOIN workflows_step s ON s.id = j.step_id
            WHERE j.before = 'COMPLETED' AND j.after = 'COMPENSATING'
        ) undone WHERE completion > before
    """,
    "a compensated run has nothing left to undo": """
        SELECT s.run_id, s.path, s.state FROM workflows_step s
        JOIN workflows_run r ON r.id = s.run_id
        WHERE r.state = 'COMPENSATED' AND s.completion IS NOT NULL
            AND s.state <> 'COMPENSATED' AND s.reason <> 'discarded'
    """,
    "a failed run says why: by an incident, or by an error of its own": """
        SELECT r.id, '', COALESCE(r.error ->> 'code', 'no error') FROM workflows_run r
        WHERE r.state = 'FAILED' AND COALESCE(r.error ->> 'code', '') <> ALL (%(of_the_run)s)
            AND NOT EXISTS (SELECT 1 FROM workflows_incident WHERE run_id = r.id)
    """,
}

AT_REST: Mapping[str, str] = {
    "every run has ended, or has an open incident, or waits for a child run": """
        SELECT r.id, '', r.state FROM workflows_run r
        WHERE r.state <> ALL (%(finished_runs)s) AND NOT EXISTS (
            SELECT 1 FROM workflows_incident WHERE run_id = r.id AND resolution = ''
        ) AND NOT EXISTS (
            SELECT 1 FROM workflows_run child
            WHERE child.parent_id = r.id AND child.state <> ALL (%(finished_runs)s)
        )
    """,
    "nothing is due about a child run": """
        SELECT run_id, path, due FROM workflows_wait WHERE due <> 'held'
    """,
    "nothing is queued, runs or waits for its time": """
        SELECT run_id, path, state FROM workflows_step
        WHERE state IN ('QUEUED', 'RUNNING', 'RETRYING') OR wake_at IS NOT NULL
    """,
}


NARROWED = """
    WITH workflows_run AS (SELECT * FROM workflows_run WHERE id = ANY (%(runs)s)),
        workflows_step AS (SELECT * FROM workflows_step WHERE run_id = ANY (%(runs)s)),
        workflows_attempt AS (SELECT * FROM workflows_attempt WHERE run_id = ANY (%(runs)s)),
        workflows_incident AS (SELECT * FROM workflows_incident WHERE run_id = ANY (%(runs)s)),
        workflows_wait AS (SELECT * FROM workflows_wait WHERE run_id = ANY (%(runs)s)),
        workflows_journal AS (SELECT * FROM workflows_journal WHERE run_id = ANY (%(runs)s))
"""
"""Has a query see some runs only: the names of a WITH go before those of the tables."""


def broken(
    promises: Mapping[str, str] = ALWAYS, *, runs: Collection[UUID] | None = None
) -> list[str]:
    """Return a sentence for each promise that does not hold of what is stored, or of `runs`."""
    words = _WORDS | {"runs": None if runs is None else list(runs)}
    narrowed = "" if runs is None else NARROWED
    sentences = []
    with connection.cursor() as cursor:
        for promise, query in promises.items():
            cursor.execute(f"{narrowed} {query} LIMIT {MOST_SENTENCES}", words)
            sentences += [
                f"not true of {run} {path}: {promise} ({what})" for run, path, what in cursor
            ]
    return sentences


def left_over(*, runs: Collection[UUID] | None = None) -> list[str]:
    """Return what does not hold, or is still there, when nothing is on its way any more."""
    return broken(ALWAYS, runs=runs) + broken(AT_REST, runs=runs)


def _pairs(moves: Mapping[Any, Any]) -> list[str]:
    return [f"{before}:{after}" for before, followers in moves.items() for after in followers]


_WORDS = {
    "run_moves": _pairs(RUN_MOVES),
    "step_moves": _pairs(STEP_MOVES),
    "finished_runs": sorted(FINISHED_RUNS),
    "finished_steps": sorted(FINISHED_STEPS),
    "live_steps": sorted(LIVE_STEPS),
    "outside": sorted(OUTSIDE),
    "of_the_run": list(OF_THE_RUN),
}
