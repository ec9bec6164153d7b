"""Eyes on the database while the storm lasts: how far the runs are, and what must never be seen.

One thread with a connection of its own, several looks a second. A violation seen here is kept with
its time and its rows, and ends the storm: the evidence is fresh then.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.chaos.stage import Stage
from workflows.engine.states import RUN_MOVES, STEP_MOVES, RunState, StepState

LOOK_EVERY = 0.4

SET_UP = """
    CREATE TABLE chaos_lease (
        run uuid, path text, attempt int, worker text,
        expired timestamptz, acted timestamptz, after text, reason text
    );
    CREATE FUNCTION chaos_lease() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO chaos_lease VALUES (
            OLD.run_id, OLD.path, OLD.attempt, OLD.worker,
            OLD.wake_at, clock_timestamp(), NEW.state, NEW.reason
        );
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_lease AFTER UPDATE ON workflows_step FOR EACH ROW
    WHEN (
        OLD.state = 'RUNNING' AND NEW.state <> 'RUNNING' AND OLD.worker <> ''
        AND OLD.wake_at < clock_timestamp()
    )
    EXECUTE FUNCTION chaos_lease();
"""
"""A note of every lease that was over by the time that something became of its step."""

LIVE = "SELECT state, count(*) FROM workflows_run WHERE state = ANY (%s) GROUP BY state"
LIVE_STATES = ["PENDING", "RUNNING", "PAUSED", "COMPENSATING", "CANCELLING"]
ENDS = "SELECT state, count(*) FROM workflows_run GROUP BY state"

JOURNAL = """
    SELECT id, run_id::text, path, before, after, COALESCE(reason, '') FROM workflows_journal
    WHERE id > %s ORDER BY id LIMIT 5000
"""

NO_MOVES = frozenset({"forked", "migrated"})
"""Why a line of the journal is there that is no move: what it means is law of the database."""

NUMBERS = """
    SELECT id::text, run_id::text, path, attempt + (
        state = 'RETRYING' AND reason IN ('guard', 'profile')  -- parked: it was none
    )::int FROM workflows_step
    WHERE state IN ('QUEUED', 'RUNNING', 'RETRYING')
"""

OVERDUE = """
    SELECT run_id::text, path, attempt, extract(epoch FROM clock_timestamp() - wake_at)::float8
    FROM workflows_step WHERE state = 'RUNNING' AND wake_at < clock_timestamp()
"""

CROWDED = """
    SELECT w.name || ' ' || r.concurrency_key, array_agg(r.id::text)
    FROM workflows_run r JOIN workflows_workflow w ON w.id = r.workflow_id
    WHERE r.concurrency_key IS NOT NULL AND r.state = ANY (%s) AND r.state <> 'PENDING'
    GROUP BY w.name, r.concurrency_key HAVING count(*) > max(r.concurrency_limit)
"""

HEALTH = "SELECT queue, health FROM workers_canarymark"


@dataclass(slots=True)
class Eyes:
    """What was seen."""

    stage: Stage
    live: int = 0
    looks: int = 0
    violations: list[str] = field(default_factory=list)
    health: list[tuple[float, str, str]] = field(default_factory=list)
    """When which queue was said to be how, wherever that changed."""
    overdue: dict[tuple[str, str, int], float] = field(default_factory=dict)
    _journal: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def open(self) -> None:
        """Have expired leases noted from now on, and begin to look."""
        with self.stage.database() as connection:
            connection.execute(SET_UP)
        self._thread = threading.Thread(target=self._run, name="eyes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def progress(self) -> Mapping[str, int]:
        """Return how many runs are in which state, or nothing when nobody answers."""
        with suppress(psycopg.OperationalError), self.stage.database() as connection:
            return dict(connection.execute(ENDS).fetchall())
        return {}

    def _run(self) -> None:
        connection: psycopg.Connection[Any] | None = None
        while not self._stopping.wait(LOOK_EVERY):
            try:
                connection = connection or self.stage.database()
                self._look(connection)
            except psycopg.OperationalError:
                connection = None

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        self.looks += 1
        self.live = sum(count for _, count in connection.execute(LIVE, (LIVE_STATES,)).fetchall())
        self._read_journal(connection)
        self._read_health(connection)
        for step, run, path, attempt in connection.execute(NUMBERS).fetchall():
            known = self._numbers.get(step, 0)
            if attempt < known:
                self._violated(f"run {run} step {path}: attempt {known}, then {attempt}")
            self._numbers[step] = attempt
        for name, crowd in connection.execute(CROWDED, (LIVE_STATES,)).fetchall():
            self._violated(f"more runs of {name} than there are places: {crowd}")
        for run, path, attempt, late in connection.execute(OVERDUE).fetchall():
            self.overdue[run, path, attempt] = late

    def _read_health(self, connection: psycopg.Connection[Any]) -> None:
        known = {queue: health for _, queue, health in self.health}
        for queue, health in connection.execute(HEALTH).fetchall():
            if known.get(queue) != health:
                self.health.append((time.time(), queue, health))

    def _read_journal(self, connection: psycopg.Connection[Any]) -> None:
        for number, run, path, before, after, reason in connection.execute(
            JOURNAL, (self._journal,)
        ).fetchall():
            self._journal = number
            legal = (
                StepState(after) in STEP_MOVES[StepState(before)]
                if path
                else RunState(after) in RUN_MOVES[RunState(before)]
            )
            if not legal and reason not in NO_MOVES:
                self._violated(f"journal {number}: run {run} {path}: {before} -> {after}")

    def _violated(self, what: str) -> None:
        self.violations.append(f"{time.time():.1f} {what}")
