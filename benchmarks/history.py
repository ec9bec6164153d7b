"""`python -m benchmarks.history`: a long history, so that its cost can be measured.

Finished runs with their steps, attempts, journal and incidents, spread over a year,
made by a few statements inside the database: nothing is carried out, no trigger fires.
What it made belongs to workflows named `history-...`, and can be removed again.
"""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

MARK = "benchmarks:history"
RUNS = 1_000_000
CHUNK = 50_000
SPREAD = timedelta(days=365)
WORKFLOWS = {"history-orders": 3, "history-backup": 5, "history-report": 4, "history-sync": 3}
"""The workflows, and how many steps each has."""
ENVIRONMENTS = ("history-north", "history-south", "history-west")
TABLES = (
    "workflows_journal",
    "workflows_attempt",
    "workflows_incident",
    "workflows_step",
    "workflows_run",
)
"""Those that grow with every run, children before their run."""

PREPARE = """
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    SET work_mem = '128MB';
    CREATE OR REPLACE FUNCTION pg_temp.id_at(moment timestamptz, what text) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS $$
        SELECT overlay(overlay(overlay(md5(what)
            PLACING lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') FROM 1)
            PLACING '7' FROM 13) PLACING '8' FROM 17)::uuid
    $$;
    DROP TABLE IF EXISTS history_node, history_run, history_step;
    CREATE TEMP TABLE history_node
        (place int, version uuid, workflow uuid, turn int, node int, path text);
    CREATE TEMP TABLE history_run (
        n int, id uuid, workflow uuid, version uuid, environment uuid, queue text, kind int,
        state text, made timestamptz, ended timestamptz, broken int
    );
    CREATE TEMP TABLE history_step (
        n int, run uuid, id uuid, turn int, node int, path text, queue text, kind int, state text,
        reason text, attempt int, made timestamptz, ended timestamptz
    );
"""

REMEMBER_NODE = "INSERT INTO history_node VALUES (%s, %s, %s, %s, %s, %s)"

DRAW_RUNS = """
    TRUNCATE history_run, history_step;
    INSERT INTO history_run
    SELECT n, pg_temp.id_at(made, 'run' || n), workflow, version, environments[place.env],
        'env.' || names[place.env] || '.default', kind,
        CASE WHEN kind < 940 THEN 'COMPLETED' WHEN kind < 990 THEN 'FAILED' ELSE 'CANCELLED' END,
        made, made + steps * interval '2 s', 1 + n %% steps
    FROM (
        SELECT n, (hashint8(n) & 2147483647) %% 1000 AS kind, %(begin)s + n * %(pace)s AS made,
            (hashint8(n + 1) & 2147483647) %% %(workflows)s AS flow,
            1 + (hashint8(n + 2) & 2147483647) %% cardinality(%(environments)s::uuid[]) AS env
        FROM generate_series(%(first)s::int, %(last)s::int) n
    ) place
    JOIN (
        SELECT place, workflow, version, count(*)::int AS steps FROM history_node GROUP BY 1, 2, 3
    ) known ON known.place = place.flow
    CROSS JOIN (
        SELECT %(environments)s::uuid[] AS environments, %(names)s::text[] AS names
    ) listed
"""

DRAW_STEPS = """
    INSERT INTO history_step
    SELECT r.n, r.id, pg_temp.id_at(r.made, 'step' || r.n || '/' || d.turn), d.turn, d.node,
        d.path, r.queue, r.kind,
        CASE WHEN r.state = 'COMPLETED' OR d.turn < r.broken THEN 'COMPLETED'
            WHEN r.state = 'CANCELLED' THEN 'CANCELLED'
            WHEN d.turn = r.broken THEN 'FAILED' ELSE 'SKIPPED' END,
        CASE WHEN r.state = 'COMPLETED' OR d.turn < r.broken THEN ''
            WHEN r.state = 'CANCELLED' THEN 'run_cancelled'
            WHEN d.turn > r.broken THEN 'upstream_failed'
            WHEN r.kind >= 942 THEN 'discarded' ELSE '' END,
        CASE WHEN r.state = 'COMPLETED' THEN 1 + (r.kind < 10 AND d.turn = r.broken)::int
            ELSE (d.turn <= r.broken)::int END,
        r.made + (d.turn - 1) * interval '2 s', r.made + d.turn * interval '2 s'
    FROM history_run r JOIN history_node d ON d.version = r.version
    ORDER BY r.n, d.turn
"""

FILL_RUNS = """
    INSERT INTO workflows_run (
        id, workflow_id, version_id, environment_id, state, reason, input, vars, output, error,
        ending, idempotency_key, started_by, created_at, started_at, finished_at
    )
    SELECT id, workflow, version, environment, state, '', jsonb_build_object('number', n), '{}',
        CASE WHEN state = 'COMPLETED' THEN jsonb_build_object('done', n) END,
        CASE WHEN state = 'FAILED' THEN '{"class": "permanent", "code": "disk.full",
            "message": "The disk is full.", "details": {}}'::jsonb END,
        NULL, CASE WHEN n % 2 = 0 THEN 'order-' || n END, '{mark}', made, made, ended
    FROM history_run ORDER BY n
""".replace("{mark}", MARK)

FILL_STEPS = """
    INSERT INTO workflows_step (
        id, run_id, path, node, scope, state, reason, attempt, failures, losses, ok, failed,
        skipped, upstream_failed, cancel_requested, queue, worker, output, error,
        queued_at, started_at, finished_at
    )
    SELECT id, run, path, node, '', state, reason, attempt, (state = 'FAILED')::int, 0,
        (turn > 1)::int, 0, 0, 0, false, queue, 'worker-1',
        CASE WHEN state = 'COMPLETED' THEN jsonb_build_object('message', 'step ' || path) END,
        CASE WHEN state = 'FAILED' THEN '{"class": "permanent", "code": "disk.full",
            "message": "The disk is full.", "details": {}}'::jsonb END,
        CASE WHEN attempt > 0 THEN made END, CASE WHEN attempt > 0 THEN made END, ended
    FROM history_step
"""

FILL_ATTEMPTS = """
    INSERT INTO workflows_attempt
        (id, step_id, run_id, number, "end", worker, error, started_at, finished_at)
    SELECT pg_temp.id_at(s.made, 'try' || s.n || '/' || s.turn || '/' || number), s.id, s.run,
        number,
        CASE WHEN number < s.attempt OR s.state = 'FAILED' THEN 'failed'
            WHEN s.state = 'CANCELLED' THEN 'cancelled' ELSE 'completed' END,
        'worker-1', NULL, s.made, s.ended
    FROM history_step s, generate_series(1, s.attempt) number
"""

FILL_JOURNAL = """
    INSERT INTO workflows_journal
        (run_id, step_id, path, before, after, attempt, reason, actor, at)
    SELECT run, step, path, before, after, attempt, reason, 'engine', at FROM (
        SELECT n, run, id AS step, path, turn, line, before, after, least(attempt, 1) AS attempt,
            CASE WHEN after = state THEN reason ELSE '' END AS reason,
            CASE WHEN after = state THEN ended ELSE made END AS at
        FROM history_step s, LATERAL (
            SELECT 1 AS line, 'PENDING' AS before, 'QUEUED' AS after WHERE attempt > 0
            UNION ALL SELECT 2, 'QUEUED', 'RUNNING' WHERE attempt > 0
            UNION ALL SELECT 3, CASE WHEN attempt > 0 THEN 'RUNNING' ELSE 'PENDING' END, state
        ) lines
        UNION ALL
        SELECT n, id, NULL, '', 0, 0, 'PENDING', 'RUNNING', 0, '', made FROM history_run
        UNION ALL
        SELECT n, id, NULL, '', 99, 0, 'RUNNING', state, 0, '', ended FROM history_run
    ) told
    ORDER BY n, turn, line
"""

FILL_INCIDENTS = """
    INSERT INTO workflows_incident (
        id, run_id, step_id, path, attempt, error_class, code, message, details, opened_at,
        resolution, resolved_at, resolved_by, note
    )
    SELECT pg_temp.id_at(ended, 'incident' || n), run, id, path, 1, 'permanent', 'disk.full',
        'The disk is full.', '{}', ended,
        CASE WHEN state = 'COMPLETED' THEN 'replayed' WHEN kind < 942 THEN ''
            ELSE 'discarded' END,
        CASE WHEN kind NOT IN (940, 941) THEN ended + interval '1 h' END,
        CASE WHEN kind NOT IN (940, 941) THEN 'person:ann' ELSE '' END, ''
    FROM history_step WHERE state = 'FAILED' OR attempt = 2
"""

FILL = (DRAW_STEPS, FILL_RUNS, FILL_STEPS, FILL_ATTEMPTS, FILL_JOURNAL, FILL_INCIDENTS)

REMOVE = (
    "DELETE FROM {table} WHERE {column} IN (SELECT id FROM workflows_run WHERE started_by = %s)"
)


def load(runs: int = RUNS, *, until: datetime) -> float:
    """Have a history of exactly so many runs that ends at `until`; return the seconds it took.

    When as many are there already, nothing is done; when others are, they go first.
    """
    from django.db import transaction

    began = time.perf_counter()
    known = loaded()
    if known == runs:
        return 0.0
    if known:
        remove()
    versions, environments = _definitions(), _environments()
    facts = {
        "begin": until - SPREAD,
        "pace": SPREAD / max(runs, 1),
        "workflows": len(versions),
        "environments": list(environments.values()),
        "names": list(environments),
    }
    with past_the_law() as cursor:
        cursor.execute(PREPARE)
        cursor.executemany(REMEMBER_NODE, [node for nodes in versions for node in nodes])
        for first in range(0, runs, CHUNK):
            with transaction.atomic():
                last = min(first + CHUNK, runs) - 1
                cursor.execute(DRAW_RUNS, facts | {"first": first, "last": last})
                for statement in FILL:
                    cursor.execute(statement)
        cursor.execute("DROP TABLE history_node, history_run, history_step")
        cursor.execute(f"ANALYZE {', '.join(TABLES)}")
    return time.perf_counter() - began


def loaded() -> int:
    """Return how many runs of the history are there."""
    from workflows.models import Run

    return Run.objects.filter(workflow__name__in=WORKFLOWS, started_by=MARK).count()


def remove() -> None:
    """Remove the history; what else is in the database stays. Workflows and environments stay."""
    with past_the_law() as cursor:
        for table in TABLES:
            column = "id" if table == "workflows_run" else "run_id"
            cursor.execute(REMOVE.format(table=table, column=column), [MARK])


def size() -> int:
    """Return the bytes that the tables of runs occupy, with their indexes."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_total_relation_size(t)) FROM unnest(%s::regclass[]) t", [list(TABLES)]
        )
        return int(cursor.fetchone()[0])


@contextmanager
def past_the_law() -> Iterator[Any]:
    """Hold a session in which no trigger fires and no foreign key is looked up."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield cursor
        finally:
            cursor.execute("RESET session_replication_role")
            cursor.execute("RESET synchronous_commit")
            cursor.execute("RESET work_mem")


def _definitions() -> list[list[tuple[Any, ...]]]:
    """Apply the definitions, and return the nodes of each as the database is to know them."""
    from workflows.engine.plan import ROOT
    from workflows.services.definitions import apply_definition
    from workflows.services.plans import plan_of_version

    found = []
    for place, (name, count) in enumerate(WORKFLOWS.items()):
        steps = "\n".join(
            f"  - {{id: s{n}, uses: log, with: {{message: m}}}}" for n in range(count)
        )
        text = f"workflow: {name}\nsteps:\n{steps}\n"
        version = apply_definition(text=text, source="benchmarks", by=MARK).version
        nodes = [node for node in plan_of_version(version.pk).nodes if node.path != ROOT]
        found.append(
            [
                (place, version.pk, version.workflow_id, turn, node.index, node.path)
                for turn, node in enumerate(nodes, start=1)
            ]
        )
    return found


def _environments() -> dict[str, Any]:
    """Create the environments that are missing, and return the ids of all by name."""
    from environments.models import Environment
    from environments.services import create_environment

    for name in ENVIRONMENTS:
        if not Environment.objects.filter(name=name).exists():
            create_environment(name=name, by=MARK)
    found = Environment.objects.filter(name__in=ENVIRONMENTS)
    return {environment.name: environment.pk for environment in found}


def main() -> None:
    """Load or remove the history in the database of the benchmarks, or that of DATABASE_URL."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many runs; default {RUNS:,}")
    parser.add_argument("--remove", action="store_true", help="remove the history again")
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.utils import timezone

    from orchestrator import embedded

    embedded.start(settings.ENV.home, **settings.ENV.embedded_parts)
    call_command("migrate", verbosity=0)
    if options.remove:
        remove()
        print("The history is removed.")
        return
    took = load(options.runs, until=timezone.now())
    print(f"{loaded():,} runs are there; {size():,} bytes; the load took {took:.0f} s.")


if __name__ == "__main__":
    main()
