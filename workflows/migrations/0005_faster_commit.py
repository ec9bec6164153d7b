"""`workflows_commit` with fewer and cheaper statements: what each costs is in docs/performance.md."""

from importlib import import_module

from django.db import migrations

CREATE = """
CREATE FUNCTION workflows_commit(
    the_run uuid, the_actor text, at timestamptz, expected jsonb, decision jsonb, ahead jsonb
) RETURNS jsonb LANGUAGE plpgsql
-- Plan once in a session, and never to read a whole table: a plan made while the tables were
-- empty would be kept while they grow.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
DECLARE
    one jsonb;
    moves jsonb;
    paths text[];
    known text[];
    held int;
    steps jsonb;
    alone boolean;
BEGIN
    PERFORM set_config('orchestrator.actor', the_actor, true);

    IF expected IS NOT NULL THEN
        paths := string_to_array(expected ->> 'paths', ' ');
        known := string_to_array(expected ->> 'steps', E'\\n');
        SELECT count(*) INTO held FROM (
            SELECT 1 FROM workflows_step s
            WHERE s.run_id = the_run AND s.path = ANY (paths) AND NOT s.cancel_requested AND (
                s.path || ' ' || s.state || ' ' || s.attempt || CASE s.state WHEN 'PENDING' THEN
                    ' ' || s.ok || ' ' || s.failed || ' ' || s.skipped || ' ' || s.upstream_failed
                ELSE '' END
            ) = ANY (known)
            ORDER BY s.node, s.path
            FOR UPDATE
        ) as_expected;
        IF held <> cardinality(paths) THEN
            RETURN NULL;
        END IF;
        IF expected ->> 'alone' = '' THEN
            PERFORM 1 FROM workflows_run
            WHERE id = the_run AND state = 'RUNNING' AND ending IS NULL FOR UPDATE;
        ELSE
            PERFORM 1 FROM workflows_run WHERE id = the_run AND state = 'RUNNING';
        END IF;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        IF expected ? 'alone' AND workflows_others(the_run, expected ->> 'alone', paths) THEN
            RETURN NULL;
        END IF;
    END IF;

    IF decision ? 'run' THEN
        one := decision -> 'run';
        INSERT INTO workflows_run (
            id, workflow_id, version_id, environment_id, state, reason, input, vars,
            idempotency_key, started_by, created_at, started_at, deadline_at
        ) VALUES (
            the_run, (one ->> 'workflow')::uuid, (one ->> 'version')::uuid,
            (one ->> 'environment')::uuid, 'RUNNING', '', one -> 'input', '{}',
            one ->> 'key', the_actor, at, at, (one ->> 'deadline')::timestamptz
        ) ON CONFLICT ON CONSTRAINT one_run_for_one_reason DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    END IF;

    IF decision ? 'opening' THEN
        FOR one IN SELECT * FROM jsonb_array_elements(decision -> 'opening') LOOP
            PERFORM workflows_move_run(the_run, at, one);
        END LOOP;
    END IF;

    IF decision ? 'born' THEN
        INSERT INTO workflows_step (
            id, run_id, path, node, scope, queue, state, reason, attempt, failures, losses,
            ok, failed, skipped, upstream_failed, cancel_requested, worker, queued_at, wake_at
        )
        SELECT (b ->> 0)::uuid, the_run, b ->> 1, (b ->> 2)::int, b ->> 3, b ->> 4,
            CASE WHEN b ->> 5 IS NULL THEN 'PENDING' ELSE 'QUEUED' END, COALESCE(b ->> 6, ''),
            CASE WHEN b ->> 5 IS NULL THEN 0 ELSE 1 END, 0, 0, 0, 0, 0, 0, false, '',
            CASE WHEN b ->> 5 IS NULL THEN NULL ELSE at END, (b ->> 5)::timestamptz
        FROM jsonb_array_elements(decision -> 'born') b;
    END IF;

    IF decision ? 'attempts' THEN
        FOR one IN SELECT * FROM jsonb_array_elements(decision -> 'attempts') LOOP
            INSERT INTO workflows_attempt
                (id, step_id, run_id, number, "end", worker, error, started_at, finished_at)
            SELECT (one ->> 'id')::uuid, s.id, the_run, (one ->> 'number')::int, one ->> 'end',
                s.worker, NULLIF(one -> 'error', 'null'), s.started_at, at
            FROM workflows_step s WHERE s.run_id = the_run AND s.path = one ->> 'path';
        END LOOP;
    END IF;

    IF decision ? 'rounds' THEN
        FOR moves IN SELECT * FROM jsonb_array_elements(decision -> 'rounds') LOOP
            -- The array lets the index on (run, path) find the rows; the join would read them all.
            paths := ARRAY(SELECT m ->> 'path' FROM jsonb_array_elements(moves) m);
            UPDATE workflows_step s SET
                state = COALESCE(m ->> 'state', s.state),
                reason = COALESCE(m ->> 'reason', s.reason),
                attempt = COALESCE((m ->> 'attempt')::int, s.attempt),
                failures = COALESCE((m ->> 'failures')::int, s.failures),
                losses = COALESCE((m ->> 'losses')::int, s.losses),
                ok = COALESCE((m -> 'tally' ->> 0)::int, s.ok),
                failed = COALESCE((m -> 'tally' ->> 1)::int, s.failed),
                skipped = COALESCE((m -> 'tally' ->> 2)::int, s.skipped),
                upstream_failed = COALESCE((m -> 'tally' ->> 3)::int, s.upstream_failed),
                cancel_requested = COALESCE((m ->> 'cancel_requested')::boolean, s.cancel_requested),
                worker = COALESCE(m ->> 'worker', s.worker),
                wake_at = CASE WHEN m ? 'wake_at'
                    THEN (m ->> 'wake_at')::timestamptz ELSE s.wake_at END,
                error = CASE WHEN m ? 'error' THEN NULLIF(m -> 'error', 'null') ELSE s.error END,
                output = CASE WHEN m ? 'output' THEN NULLIF(m -> 'output', 'null') ELSE s.output END,
                arguments = COALESCE(m -> 'arguments', s.arguments),
                queued_at = CASE m ->> 'stamp' WHEN 'queued' THEN at WHEN 'queued and started' THEN at
                    WHEN 'none' THEN NULL ELSE s.queued_at END,
                started_at = CASE m ->> 'stamp' WHEN 'started' THEN at
                    WHEN 'queued and started' THEN at
                    WHEN 'queued' THEN NULL WHEN 'none' THEN NULL ELSE s.started_at END,
                finished_at = CASE m ->> 'stamp' WHEN 'finished' THEN at WHEN 'queued' THEN NULL
                    WHEN 'none' THEN NULL ELSE s.finished_at END
            FROM jsonb_array_elements(moves) m
            WHERE s.run_id = the_run AND s.path = ANY (paths) AND s.path = m ->> 'path';
        END LOOP;
    END IF;

    IF decision ? 'vars' THEN
        UPDATE workflows_run SET vars = vars || (decision -> 'vars') WHERE id = the_run;
    END IF;

    IF decision ? 'closing' THEN
        FOR one IN SELECT * FROM jsonb_array_elements(decision -> 'closing') LOOP
            PERFORM workflows_move_run(the_run, at, one);
        END LOOP;
    END IF;

    IF decision ? 'late' THEN
        UPDATE workflows_attempt a SET late = l -> 'kept'
        FROM jsonb_array_elements(decision -> 'late') l, workflows_step s
        WHERE s.run_id = the_run AND s.path = l ->> 'path' AND a.step_id = s.id
            AND a.number = (l ->> 'attempt')::int AND a.late IS NULL;
    END IF;

    IF decision ? 'incidents' THEN
        UPDATE workflows_incident n
        SET resolution = 'replayed', resolved_by = the_actor, resolved_at = at
        FROM jsonb_array_elements(decision -> 'incidents') i
        WHERE n.run_id = the_run AND n.path = i ->> 'path' AND n.resolution = '';

        INSERT INTO workflows_incident (
            id, run_id, step_id, path, attempt, error_class, code, message, details,
            resolution, resolved_by, note, opened_at
        )
        SELECT (i ->> 'id')::uuid, the_run, s.id, s.path, (i ->> 'attempt')::int,
            i -> 'error' ->> 'class', i -> 'error' ->> 'code', i -> 'error' ->> 'message',
            i -> 'error' -> 'details', '', '', '', at
        FROM jsonb_array_elements(decision -> 'incidents') i
        JOIN workflows_step s ON s.run_id = the_run AND s.path = i ->> 'path';
    END IF;

    IF ahead IS NULL THEN
        RETURN '{}';
    END IF;
    paths := string_to_array(ahead ->> 'paths', ' ');
    SELECT jsonb_agg(jsonb_build_array(
        s.path, s.node, s.scope, s.state, s.reason, s.attempt, s.failures, s.losses,
        s.ok, s.failed, s.skipped, s.upstream_failed, s.worker, s.error
    )) INTO steps
    FROM workflows_step s
    WHERE s.run_id = the_run AND s.path = ANY (paths) AND NOT s.cancel_requested;
    IF ahead ? 'alone' THEN
        alone := NOT workflows_others(the_run, ahead ->> 'alone', paths);
    END IF;
    RETURN jsonb_build_object('steps', steps, 'alone', alone);
END $$;

CREATE FUNCTION workflows_others(the_run uuid, the_scope text, known text[]) RETURNS boolean
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
AS $$
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = the_run AND scope = the_scope AND path <> ALL (known)
            AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ) OR EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = the_run AND scope = the_scope AND path <> ALL (known)
            AND (state IN ('FAILED', 'CANCELLED') OR reason = 'discarded')
    );
END $$;

CREATE FUNCTION workflows_move_run(the_run uuid, at timestamptz, m jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE workflows_run SET
        state = m ->> 'state',
        ending = NULLIF(m -> 'ending', 'null'),
        error = NULLIF(m -> 'error', 'null'),
        output = CASE WHEN m ? 'output' THEN NULLIF(m -> 'output', 'null') ELSE output END,
        started_at = COALESCE(started_at, at),
        deadline_at = CASE WHEN (m ->> 'final')::boolean THEN NULL
            ELSE COALESCE((m ->> 'deadline')::timestamptz, deadline_at) END,
        finished_at = CASE WHEN (m ->> 'final')::boolean THEN at END
    WHERE id = the_run;
END $$;
"""

first = import_module("workflows.migrations.0002_commit")


class Migration(migrations.Migration):
    dependencies = [("workflows", "0004_faster_law")]
    operations = [
        migrations.RunSQL(first.DROP, first.CREATE),
        migrations.RunSQL(CREATE, first.DROP),
    ]
