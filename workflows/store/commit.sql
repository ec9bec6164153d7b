-- A decision becomes rows: `workflows_commit`, called from `workflows/store/committing.py` alone.
--
-- It takes decisions about any number of runs, and does each part of all of them with one
-- statement. `parts` holds rows by the part they belong to. Each row begins with the number of
-- its run in `runs`, from 1; a move is an object and has it as `n`.
--
-- A run of which something was expected that does not hold, or that is there already for the
-- same reason, is refused: nothing of it is stored, and the answer has its number in `refused`.
-- Whoever expects nothing holds the locks.

DROP FUNCTION IF EXISTS workflows_commit(uuid, text, timestamptz, jsonb, jsonb, jsonb);
DROP FUNCTION IF EXISTS workflows_others(uuid, text, text[]);
DROP FUNCTION IF EXISTS workflows_move_run(uuid, timestamptz, jsonb);
DROP FUNCTION IF EXISTS workflows_commit(text, timestamptz, uuid[], jsonb);
DROP FUNCTION IF EXISTS workflows_unexpected(uuid[], jsonb);
DROP FUNCTION IF EXISTS workflows_others(uuid, text, jsonb, jsonb);
DROP FUNCTION IF EXISTS workflows_move_runs(timestamptz, uuid[], jsonb, int[]);
DROP FUNCTION IF EXISTS workflows_version_of(uuid, text);

CREATE FUNCTION workflows_commit(the_actor text, at timestamptz, runs uuid[], parts jsonb)
RETURNS jsonb
LANGUAGE plpgsql
-- Plan once in a session, and find every row by its index: a plan made while the tables were
-- empty is kept while they grow.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    refused int[] := '{}';
    made uuid[];
    moves jsonb;
    one jsonb;
    steps jsonb;
    alone int[];
    parents jsonb;
BEGIN
    PERFORM set_config('orchestrator.actor', the_actor, true);

    IF parts ? 'guarded' THEN
        refused := workflows_unexpected(runs, parts);
    END IF;

    IF parts ? 'run' THEN
        WITH born AS (
            INSERT INTO workflows_run (
                id, workflow_id, version_id, environment_id, state, reason, input, vars,
                idempotency_key, started_by, created_at, started_at, deadline_at, parent_id,
                parent_path, sla_at, concurrency_key, concurrency_limit, forked_from_id,
                forked_path
            )
            SELECT runs[(r ->> 0)::int], (r ->> 1)::uuid, (r ->> 2)::uuid, (r ->> 3)::uuid,
                CASE WHEN r ->> 12 IS NULL THEN 'RUNNING' ELSE 'PENDING' END,
                COALESCE(r ->> 12, ''), r -> 4, '{}', r ->> 5, the_actor, at,
                CASE WHEN r ->> 12 IS NULL THEN at END, (r ->> 6)::timestamptz,
                (r ->> 7)::uuid, r ->> 8, (r ->> 9)::timestamptz, r ->> 10, (r ->> 11)::int,
                (r ->> 13)::uuid, r ->> 14
            FROM jsonb_array_elements(parts -> 'run') r
            ON CONFLICT ON CONSTRAINT one_run_for_one_reason DO NOTHING
            RETURNING id
        )
        SELECT COALESCE(array_agg(id), '{}') INTO made FROM born;
        refused := refused || ARRAY(
            SELECT (r ->> 0)::int FROM jsonb_array_elements(parts -> 'run') r
            WHERE runs[(r ->> 0)::int] <> ALL (made)
        );
    END IF;

    IF cardinality(refused) = cardinality(runs) THEN
        RETURN jsonb_build_object('refused', refused);
    END IF;

    IF parts ? 'opening' THEN
        PERFORM workflows_move_runs(at, runs, parts -> 'opening', refused);
    END IF;

    IF parts ? 'born' THEN
        INSERT INTO workflows_step (
            id, run_id, path, node, scope, queue, state, reason, attempt, failures, losses,
            ok, failed, skipped, upstream_failed, cancel_requested, worker, item, queued_at, wake_at
        )
        SELECT (b ->> 1)::uuid, runs[(b ->> 0)::int], b ->> 2, (b ->> 3)::int, b ->> 4, b ->> 5,
            CASE WHEN b ->> 7 IS NULL THEN 'PENDING' ELSE 'QUEUED' END, '',
            CASE WHEN b ->> 7 IS NULL THEN 0 ELSE 1 END, 0, 0, 0, 0, 0, 0, false, '',
            NULLIF(b -> 6, 'null'), CASE WHEN b ->> 7 IS NULL THEN NULL ELSE at END,
            (b ->> 7)::timestamptz
        FROM jsonb_array_elements(parts -> 'born') b
        WHERE (b ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'attempts' THEN
        INSERT INTO workflows_attempt
            (id, step_id, run_id, number, "end", worker, error, started_at, finished_at)
        SELECT (a ->> 1)::uuid, s.id, s.run_id, (a ->> 3)::int, a ->> 4,
            s.worker, NULLIF(a -> 5, 'null'), s.started_at, at
        FROM jsonb_array_elements(parts -> 'attempts') a
        JOIN workflows_step s ON s.run_id = runs[(a ->> 0)::int] AND s.path = a ->> 2
        WHERE (a ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'rounds' THEN
        FOR moves IN SELECT * FROM jsonb_array_elements(parts -> 'rounds') LOOP
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
                retry_until = CASE WHEN m ? 'retry_until'
                    THEN (m ->> 'retry_until')::timestamptz ELSE s.retry_until END,
                error = CASE WHEN m ? 'error' THEN NULLIF(m -> 'error', 'null') ELSE s.error END,
                output = CASE WHEN m ? 'output' THEN NULLIF(m -> 'output', 'null') ELSE s.output END,
                arguments = COALESCE(m -> 'arguments', s.arguments),
                total = CASE WHEN m ? 'total' THEN (m ->> 'total')::int ELSE s.total END,
                born = COALESCE((m ->> 'born')::int, s.born),
                item = COALESCE(m -> 'item', s.item),
                queued_at = CASE m ->> 'stamp' WHEN 'queued' THEN at WHEN 'queued and started' THEN at
                    WHEN 'none' THEN NULL ELSE s.queued_at END,
                started_at = CASE m ->> 'stamp' WHEN 'started' THEN at
                    WHEN 'queued and started' THEN at
                    WHEN 'queued' THEN NULL WHEN 'none' THEN NULL ELSE s.started_at END,
                finished_at = CASE m ->> 'stamp' WHEN 'finished' THEN at WHEN 'queued' THEN NULL
                    WHEN 'none' THEN NULL ELSE s.finished_at END
            FROM jsonb_array_elements(moves) m
            -- Each has a path. Asked for it, the planner expects few, and looks each row up.
            WHERE m ? 'path' AND s.run_id = runs[(m ->> 'n')::int] AND s.path = m ->> 'path'
                AND (m ->> 'n')::int <> ALL (refused);
        END LOOP;
    END IF;

    IF parts ? 'waits' THEN
        INSERT INTO workflows_wait (
            id, run_id, step_id, path, attempt, kind, name, request, "end", answered_by, opened_at,
            due
        )
        SELECT (w ->> 1)::uuid, s.run_id, s.id, s.path, (w ->> 3)::int, w ->> 4, w ->> 5,
            CASE w ->> 4 WHEN 'child' THEN w -> 6 || jsonb_build_object('by', the_actor)
                ELSE w -> 6 END,
            '', '', at, CASE w ->> 4 WHEN 'child' THEN 'start' END
        FROM jsonb_array_elements(parts -> 'waits') w
        JOIN workflows_step s ON s.run_id = runs[(w ->> 0)::int] AND s.path = w ->> 2
        WHERE (w ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'closings' THEN
        UPDATE workflows_wait w SET
            closed_at = at, "end" = c ->> 3, answer = NULLIF(c -> 4, 'null'),
            answered_by = the_actor,
            due = CASE WHEN child_id IS NOT NULL AND due IS DISTINCT FROM 'tell' THEN 'stop' END
        FROM jsonb_array_elements(parts -> 'closings') c
        WHERE w.run_id = runs[(c ->> 0)::int] AND w.path = c ->> 1
            AND w.attempt = (c ->> 2)::int AND (c ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'undoable' THEN
        FOR one IN SELECT * FROM jsonb_array_elements(parts -> 'undoable') LOOP
            UPDATE workflows_step SET completion = nextval('workflows_completion')
            WHERE run_id = runs[(one ->> 0)::int] AND path = one ->> 1
                AND (one ->> 0)::int <> ALL (refused);
        END LOOP;
    END IF;

    IF parts ? 'vars' THEN
        UPDATE workflows_run r SET vars = r.vars || (v -> 1)
        FROM jsonb_array_elements(parts -> 'vars') v
        WHERE r.id = runs[(v ->> 0)::int] AND (v ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'closing' THEN
        parents := workflows_move_runs(at, runs, parts -> 'closing', refused);
    END IF;

    IF parts ? 'late' THEN
        UPDATE workflows_attempt a SET late = l -> 3
        FROM jsonb_array_elements(parts -> 'late') l
        JOIN workflows_step s ON s.run_id = runs[(l ->> 0)::int] AND s.path = l ->> 1
        WHERE a.step_id = s.id AND a.number = (l ->> 2)::int AND a.late IS NULL
            AND (l ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'incidents' THEN
        UPDATE workflows_incident n
        SET resolution = 'replayed', resolved_by = the_actor, resolved_at = at
        FROM jsonb_array_elements(parts -> 'incidents') i
        WHERE n.run_id = runs[(i ->> 0)::int] AND n.path = i ->> 2 AND n.resolution = ''
            AND (i ->> 0)::int <> ALL (refused);

        INSERT INTO workflows_incident (
            id, run_id, step_id, path, attempt, error_class, code, message, details,
            resolution, resolved_by, note, opened_at
        )
        SELECT (i ->> 1)::uuid, s.run_id, s.id, s.path, (i ->> 3)::int,
            i -> 4 ->> 'class', i -> 4 ->> 'code', i -> 4 ->> 'message',
            i -> 4 -> 'details', '', '', '', at
        FROM jsonb_array_elements(parts -> 'incidents') i
        JOIN workflows_step s ON s.run_id = runs[(i ->> 0)::int] AND s.path = i ->> 2
        WHERE (i ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'settled' THEN
        UPDATE workflows_incident n
        SET resolution = 'compensated', resolved_by = the_actor, resolved_at = at,
            note = 'What the run had done is undone.'
        FROM jsonb_array_elements(parts -> 'settled') r
        WHERE n.run_id = runs[(r ->> 0)::int] AND n.resolution = ''
            AND n.error_class <> 'uncertain' AND (r ->> 0)::int <> ALL (refused);
    END IF;

    IF parts ? 'ahead' THEN
        SELECT jsonb_agg(jsonb_build_array(
            a -> 0, s.path, s.node, s.scope, s.state, s.reason, s.attempt, s.failures, s.losses,
            s.ok, s.failed, s.skipped, s.upstream_failed, s.worker, s.error
        )) INTO steps
        FROM jsonb_array_elements(parts -> 'ahead') a
        JOIN workflows_step s ON s.run_id = runs[(a ->> 0)::int] AND s.path = a ->> 1
        WHERE NOT s.cancel_requested AND (a ->> 0)::int <> ALL (refused);
    END IF;
    IF parts ? 'alone' THEN
        alone := ARRAY(
            SELECT (a ->> 0)::int FROM jsonb_array_elements(parts -> 'alone') a
            WHERE (a ->> 0)::int <> ALL (refused)
                AND NOT workflows_others(runs[(a ->> 0)::int], a ->> 1, parts -> 'ahead', a -> 0)
        );
    END IF;
    RETURN jsonb_build_object(
        'refused', refused, 'steps', steps, 'alone', alone, 'parents', parents
    );
END $$;

-- Lock what decisions were made upon, and return the numbers of the runs of which it does not
-- hold any more: a step is not as it was, the run does not run or has gone over to another version,
-- or there are others in a scope in which a decision took its steps to be alone. A migration locks
-- every step that lives, so whoever has locked one reads the version that its rows are of.
CREATE FUNCTION workflows_unexpected(runs uuid[], parts jsonb) RETURNS int[]
LANGUAGE plpgsql AS $$
DECLARE
    held bigint[];
    broken int[];
    one jsonb;
BEGIN
    SELECT COALESCE(array_agg(i), '{}') INTO held FROM (
        SELECT e.i
        FROM jsonb_array_elements(parts -> 'expected') WITH ORDINALITY e(step, i)
        JOIN workflows_step s ON s.run_id = runs[(e.step ->> 0)::int] AND s.path = e.step ->> 1
        WHERE NOT s.cancel_requested AND e.step ->> 2 = s.state || ' ' || s.attempt
            || CASE s.state WHEN 'PENDING' THEN
                ' ' || s.ok || ' ' || s.failed || ' ' || s.skipped || ' ' || s.upstream_failed
            ELSE '' END
        ORDER BY s.run_id, s.node, s.path
        FOR UPDATE OF s
    ) as_expected;
    broken := ARRAY(
        SELECT (e.step ->> 0)::int
        FROM jsonb_array_elements(parts -> 'expected') WITH ORDINALITY e(step, i)
        WHERE e.i <> ALL (held)
        UNION
        SELECT (g ->> 0)::int FROM jsonb_array_elements(parts -> 'guarded') g
        WHERE NOT EXISTS (
            SELECT 1 FROM workflows_run WHERE id = runs[(g ->> 0)::int] AND state = 'RUNNING'
                AND version_id = (g ->> 2)::uuid
        )
    );
    FOR one IN
        SELECT g FROM jsonb_array_elements(parts -> 'guarded') g
        WHERE g ->> 1 IS NOT NULL AND (g ->> 0)::int <> ALL (broken)
    LOOP
        IF one ->> 1 = '' THEN
            PERFORM 1 FROM workflows_run
            WHERE id = runs[(one ->> 0)::int] AND state = 'RUNNING' AND ending IS NULL FOR UPDATE;
            IF NOT FOUND THEN
                broken := broken || (one ->> 0)::int;
                CONTINUE;
            END IF;
        END IF;
        IF workflows_others(runs[(one ->> 0)::int], one ->> 1, parts -> 'expected', one -> 0) THEN
            broken := broken || (one ->> 0)::int;
        END IF;
    END LOOP;
    RETURN broken;
END $$;

-- Say whether a step of a scope lives or has failed beside those that are known of the run `n`.
CREATE FUNCTION workflows_others(the_run uuid, the_scope text, known jsonb, n jsonb)
RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    paths text[] := ARRAY(SELECT k ->> 1 FROM jsonb_array_elements(known) k WHERE k -> 0 = n);
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = the_run AND scope = the_scope AND path <> ALL (paths)
            AND state IN ('PENDING', 'QUEUED', 'RETRYING', 'RUNNING', 'WAITING')
    ) OR EXISTS (
        SELECT 1 FROM workflows_step
        WHERE run_id = the_run AND scope = the_scope AND path <> ALL (paths)
            AND (state IN ('FAILED', 'CANCELLED') OR reason = 'discarded')
    );
END $$;

-- Move runs, and return the numbers and parents of child runs that have ended so. That the step
-- which waits for one is to be told is written here; a step that waits no more is told of an end
-- that is good, in case it has failed for what came before.
CREATE FUNCTION workflows_move_runs(at timestamptz, runs uuid[], moves jsonb, refused int[])
RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    m jsonb;
    parent uuid;
    parents jsonb;
BEGIN
    FOR m IN SELECT * FROM jsonb_array_elements(moves) LOOP
        CONTINUE WHEN (m ->> 'n')::int = ANY (refused);
        UPDATE workflows_run SET
            state = m ->> 'state',
            reason = m ->> 'reason',
            ending = NULLIF(m -> 'ending', 'null'),
            error = NULLIF(m -> 'error', 'null'),
            output = CASE WHEN m ? 'output' THEN NULLIF(m -> 'output', 'null') ELSE output END,
            started_at = CASE WHEN m ->> 'state' = 'RUNNING' THEN COALESCE(started_at, at)
                ELSE started_at END,
            deadline_at = CASE WHEN (m ->> 'final')::boolean THEN NULL
                ELSE COALESCE((m ->> 'deadline')::timestamptz, deadline_at) END,
            sla_at = CASE WHEN (m ->> 'final')::boolean THEN NULL
                WHEN m ? 'sla' AND sla_breached_at IS NULL
                THEN created_at + make_interval(secs => (m ->> 'sla')::float) ELSE sla_at END,
            sla_breached_at = CASE WHEN (m ->> 'final')::boolean AND sla_at <= at
                THEN COALESCE(sla_breached_at, sla_at) ELSE sla_breached_at END,
            finished_at = CASE WHEN (m ->> 'final')::boolean THEN at END
        WHERE id = runs[(m ->> 'n')::int]
        RETURNING parent_id INTO parent;
        IF parent IS NOT NULL AND (m ->> 'final')::boolean THEN
            UPDATE workflows_wait
            SET due = CASE WHEN closed_at IS NULL OR m ->> 'state' = 'COMPLETED' THEN 'tell' END
            WHERE id = (
                SELECT id FROM workflows_wait WHERE child_id = runs[(m ->> 'n')::int]
                ORDER BY attempt DESC LIMIT 1
            );
            parents := COALESCE(parents, '[]') || jsonb_build_array(
                jsonb_build_array(m -> 'n', parent)
            );
        END IF;
    END LOOP;
    RETURN parents;
END $$;

-- Return the version that a run is pinned to now, not when the statement began: once the step at
-- `locked` is, that is the version its row is of. VOLATILE has it look anew.
CREATE FUNCTION workflows_version_of(the_run uuid, locked text) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN (SELECT version_id FROM workflows_run WHERE id = the_run);
END $$;
