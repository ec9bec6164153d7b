"""One storm from beginning to end: prepare, inject by the schedule, come to rest, give the verdict.

Everything runs in the main thread but the load, the eyes and the ledger: Linux ties a child's life
to the thread that started it, and what is done to the platform is done one thing at a time.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from kombu import Connection
from psycopg import sql

from orchestrator import embedded
from orchestrator.embedded import EmbeddedError
from tests.chaos import dealings, verdict
from tests.chaos.facts import Facts, Line
from tests.chaos.faults import BY_NAME, QUEUES, Fault, NotNowError, lasting
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.outside import Outside
from tests.chaos.schedule import Injection
from tests.chaos.stage import BEATS, LONGEST_STEP, PASSWORD, SECOND, Stage
from tests.chaos.watching import Eyes
from workers.sandbox import FOLDER

BEAT = 0.05
STRIKE_EVERY = 0.2
AGAIN_AFTER = 0.5
PROGRESS_EVERY = 10.0
ANSWERED_WITHIN = 90.0
QUIET_WITHIN = 180.0
LOOKED_WITHIN = 10.0
STILL_FOR = 3.0
QUIET_FOR = 6.0
WELL_WITHIN = 60.0
RESULTS_LIVE = 3600
TABLES = (
    "workflows_run", "workflows_step", "workflows_attempt", "workflows_incident",
    "workflows_journal", "workflows_migration", "workflows_wait", "workflows_vote",
    "workflows_delegation",
    "workflows_callback", "workflows_receivedevent", "workflows_eventeffect", "workflows_parking",
    "workflows_breaker", "workflows_breakerjournal", "environments_profile",
    "environments_profilejournal", "chaos_lease",
)  # fmt: skip
TROUBLE = (
    NotNowError, redis.RedisError, psycopg.Error, EmbeddedError,
    ProcessLookupError, psutil.NoSuchProcess,
)  # fmt: skip

Say = Callable[[str], None]


@dataclass(slots=True)
class _Running:
    fault: Fault
    how: Mapping[str, Any]
    ends: float


@dataclass(slots=True)
class Play:
    """A storm over a stage."""

    stage: Stage
    ledger: Ledger
    seed: int
    seconds: float
    schedule: Sequence[Injection]
    say: Say
    load: Load = field(init=False)
    outside: Outside = field(init=False)
    eyes: Eyes = field(init=False)
    injected: list[dict[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    _began: float = 0.0
    _running: list[_Running] = field(default_factory=list)
    _struck: float = 0.0
    _told: float = 0.0

    def __post_init__(self) -> None:
        self.eyes = Eyes(self.stage)
        self.load = Load(self.stage.web, PASSWORD, self.seed, lambda: self.eyes.live)
        self.outside = Outside(
            self.load.speech,
            self.ledger,
            self.seed,
            lambda: [(start.workflow, start.n) for start in list(self.load.starts)],
        )

    def start_run(self, workflow: str) -> None:
        """Have a run of a workflow started soon."""
        self.load.want(workflow)

    def prepare(self) -> None:
        """Have the platform up, with definitions and two environments."""
        self._command("-m", "orchestrator", "setup")
        self._command("manage.py", "shell", "--no-imports", "-c", SECOND_ENVIRONMENT)
        self._command("manage.py", "shell", "--no-imports", "-c", dealings.ENVIRONMENT)
        self.stage.start()
        self.load.prepare()
        self.outside.prepare(self.load.token)
        self.eyes.open()

    def storm(self) -> None:
        """Put the platform under load and inject what the schedule says."""
        self._began = time.monotonic()
        self.load.begin()
        self.outside.begin()
        todo = [(one.at, one) for one in self.schedule]
        while (self._now < self.seconds or todo) and not self.eyes.violations:
            self.stage.watch()
            while todo and todo[0][0] <= self._now:
                _, injection = todo.pop(0)
                if not self._inject(injection):
                    todo.append((self._now + AGAIN_AFTER, injection))
                    todo.sort(key=lambda one: one[0])
            self._go_on()
            self._tell_progress()
            time.sleep(BEAT)

    def come_to_rest(self) -> None:
        """Take every fault back, let all come up, and wait until nothing is on its way."""
        for running in self._running:
            running.ends = 0.0
        while self._running:
            self._go_on()
            time.sleep(BEAT)
        self.stage.service(lambda: _ignore(embedded.start(self.stage.home / "local")))
        for name in self.stage.actors:
            self.stage.signal(name, signal.SIGCONT, group=True)
            self.stage.step_clock(name, 0.0)
        self._told_at("the storm is over; everything is let be")
        self.stage.wait_until_up()
        if not self.load.calm_down(within=ANSWERED_WITHIN):
            self.left.append(f"a start was not answered within {ANSWERED_WITHIN:g} s")
        self.load.stop()
        self.outside.calm_down()
        self.load.resume_paused()
        self._let_visibility_pass()
        self._wait_until_still()
        self.outside.stop()
        self._wait_until_well()

    def stop(self) -> None:
        """Stop the platform as production does, and note what it leaves behind."""
        self.left += self._of_the_database()
        for name in BEATS:
            self.stage.signal(name, signal.SIGTERM, group=False)
        deadline = time.monotonic() + 20
        while self._queued() and time.monotonic() < deadline:
            time.sleep(0.2)
        self.left += [f"Redis: {what}" for what in self._queued()]
        self.eyes.close()
        self.left += self.stage.stop()
        self.left += self._of_redis()
        self.left += [f"the process {one}" for one in self.stage.leftovers()]
        temporary = self.stage.home / "tmp"
        self.left += [f"the folder {path}" for path in sorted(temporary.glob(f"{FOLDER}*"))]

    def verdict(self) -> Iterator[Line]:
        """Give the verdict on every invariant."""
        with self.stage.database() as connection:
            yield from verdict.verdicts(
                Facts(
                    connection=connection,
                    ledger=self.ledger,
                    load=self.load,
                    outside=self.outside,
                    eyes=self.eyes,
                    outages=self.stage.outages,
                    wedged=self.stage.wedged,
                    alarms=self.alarms,
                    left=self.left,
                )
            )

    def keep_evidence(self, folder: Path, lines: Sequence[Line]) -> None:
        """Write down all that could explain a violation."""
        folder.mkdir(parents=True, exist_ok=True)
        documents = {
            "schedule": [one.as_document() for one in self.schedule],
            "injected": self.injected,
            "outages": [
                {"what": one.what, "began": one.began, "ended": one.ended}
                for one in self.stage.outages
            ],
            "ledger": self.ledger.as_document(),
            "starts": [
                {"key": one.key, "workflow": one.workflow, "n": one.n, "answers": one.answers}
                for one in self.load.starts
            ],
            "actions": self.load.actions,
            "votes": [asdict(one) for one in self.outside.votes],
            "events": [asdict(one) for one in self.outside.sent],
            "callbacks": [asdict(one) for one in self.outside.called],
            "openings": self.outside.openings,
            "health": self.eyes.health,
            "verdict": [verdict.as_document(line) for line in lines],
        }
        for name, document in documents.items():
            (folder / f"{name}.json").write_text(json.dumps(document, indent=1, default=str))
        logs = folder / "logs"
        logs.mkdir(exist_ok=True)
        for log in [
            *(self.stage.home / "logs").glob("*"),
            *(self.stage.home / "local").glob("*.log"),
        ]:
            (logs / log.name).write_bytes(log.read_bytes())
        with suppress(psycopg.Error), self.stage.database() as connection:
            for table in TABLES:
                _copy(connection, table, folder / f"{table}.csv")

    # Injecting.

    @property
    def _now(self) -> float:
        return time.monotonic() - self._began

    def _inject(self, injection: Injection) -> bool:
        """Inject a fault; say whether it could be done."""
        fault = BY_NAME[injection.fault]
        try:
            did = fault.begin(self, injection.how)
        except TROUBLE:
            return False
        self._note(injection.fault, did)
        self._running.append(_Running(fault, injection.how, self._now + lasting(injection.how)))
        return True

    def _go_on(self) -> None:
        """Strike with what goes on, and take back what is over."""
        if time.monotonic() - self._struck >= STRIKE_EVERY:
            self._struck = time.monotonic()
            for running in self._running:
                with suppress(*TROUBLE):
                    running.fault.strike(self, running.how)
        for running in [one for one in self._running if one.ends <= self._now]:
            try:
                did = running.fault.end(self, running.how)
            except TROUBLE:
                running.ends = self._now + AGAIN_AFTER
                continue
            self._running.remove(running)
            if did:
                self._note(running.fault.name, did)

    def _note(self, fault: str, did: str) -> None:
        self.injected.append(
            {"at": round(self._now, 2), "time": time.time(), "fault": fault, "did": did}
        )
        self._told_at(f"{fault:<20} {did}")

    def _told_at(self, text: str) -> None:
        self.say(f"{self._now:7.1f} s  {text}")

    def _tell_progress(self) -> None:
        if time.monotonic() - self._told < PROGRESS_EVERY:
            return
        self._told = time.monotonic()
        ends = ", ".join(f"{count} {state}" for state, count in self.eyes.progress().items())
        self._told_at(f"{'':<20} runs: {ends or 'nobody answers'}")

    # Coming to rest.

    def _let_visibility_pass(self) -> None:
        """Have the hour pass after which Redis gives the messages of dead workers to others.

        Each worker looks for them every 100 s; this is such a look, so that none is waited for.
        """
        client = self.stage.redis()
        passed = time.time() - LONGEST_STEP - 3600 - 60
        found = client.zrange("unacked_index", 0, -1)
        if not found:
            return
        # What has been acknowledged since must not come back into the index.
        client.zadd("unacked_index", dict.fromkeys(found, passed), xx=True)
        self._told_at(f"{len(found)} messages of workers are old enough to be sent again")
        deadline = time.monotonic() + LOOKED_WITHIN
        with Connection(self.stage.env["BROKER_URL"]) as connection:
            qos = connection.default_channel.qos
            while client.zcount("unacked_index", 0, passed) and time.monotonic() < deadline:
                qos.restore_visible(num=len(found), interval=1)
                time.sleep(BEAT)

    def _wait_until_still(self) -> None:
        deadline = time.monotonic() + QUIET_WITHIN
        still_since = None
        while time.monotonic() < deadline:
            self.stage.watch()
            self._tell_progress()
            if self._moves() or self._queued(but="orchestrator"):
                still_since = None
            elif still_since is None:
                still_since = time.monotonic()
            elif time.monotonic() - still_since > STILL_FOR:
                self._told_at("all is still")
                return
            time.sleep(0.3)
        self._told_at(f"not still after {QUIET_WITHIN:g} s: {self._moves()}, {self._queued()}")
        self.stage.dump_stacks()

    def _wait_until_well(self) -> None:
        """Have the queues be quiet for a while, in which none may be said to be wedged."""
        deadline = time.monotonic() + WELL_WITHIN
        while not self.stage.is_well():
            self.stage.watch()
            if time.monotonic() > deadline:
                late = f"not well {WELL_WITHIN:g} s after all was still"
                self.alarms.append(f"{late}: {self._said()}")
                self.stage.dump_stacks()
                return
            time.sleep(0.5)
        until = time.monotonic() + QUIET_FOR
        while time.monotonic() < until:
            self.stage.watch()
            if not self.stage.is_well():
                self.alarms.append(f"a quiet queue was said not to be well: {self._said()}")
                return
            time.sleep(0.5)

    def _said(self) -> str:
        """Return what workers and canaries have said last, ages in seconds."""
        with self.stage.database() as connection:
            found = connection.execute(
                """
                SELECT queue || ' ' || health
                    || ', sent ' || coalesce(extract(epoch FROM now() - sent_at)::int::text, '-')
                    || ', came ' || coalesce(extract(epoch FROM now() - came_at)::int::text, '-')
                FROM workers_canarymark
                UNION ALL
                SELECT name || ' seen ' || extract(epoch FROM now() - seen_at)::int
                    || ', broker ' || coalesce(broker_uptime::int::text, '-')
                    || ', taken ' || taken || ', waiting ' || waiting
                FROM workers_pulse
                """
            ).fetchall()
        return "; ".join(line for (line,) in found)

    def _moves(self) -> int:
        """Count what still moves: steps, and runs that nobody needs to look at."""
        with self.stage.database() as connection:
            found = connection.execute(
                """
                SELECT (SELECT count(*) FROM workflows_step
                        WHERE state IN ('QUEUED', 'RUNNING', 'RETRYING'))
                    + (SELECT count(*) FROM workflows_run r
                        WHERE finished_at IS NULL
                        AND NOT EXISTS (SELECT 1 FROM workflows_incident
                            WHERE run_id = r.id AND resolution = ''))
                """
            ).fetchone()
        return int(found[0]) if found else 0

    def _queued(self, but: str = "") -> list[str]:
        """Name the queues of Redis that hold messages, and messages that workers hold."""
        client = self.stage.redis()
        found = [
            f"{queue} holds {length}"
            for queue in QUEUES
            if queue != but and (length := client.llen(queue))
        ]
        if not but and (held := client.hlen("unacked")):
            found.append(f"unacked holds {held}")
        return found

    # Stopping.

    def _of_the_database(self) -> list[str]:
        with self.stage.database() as connection:
            found = connection.execute(
                """
                SELECT 'a session is idle in a transaction since ' || state_change
                FROM pg_stat_activity
                WHERE state LIKE 'idle in transaction%%' AND application_name = 'orchestrator'
                    AND state_change < now() - interval '5 s'
                UNION ALL
                SELECT 'a session holds an advisory lock' FROM pg_locks WHERE locktype = 'advisory'
                UNION ALL
                SELECT 'a prepared transaction ' || gid FROM pg_prepared_xacts
                """
            ).fetchall()
        return [row[0] for row in found]

    def _of_redis(self) -> list[str]:
        """Name what Redis has that would stay for ever."""
        client = self.stage.redis()
        left = []
        for key in client.scan_iter(count=1000):
            name = key.decode(errors="replace")
            if name.startswith("_kombu.binding"):
                continue
            ttl = client.ttl(key)
            if ttl == -1 or ttl > RESULTS_LIVE * 25:
                left.append(f"Redis: {client.type(key).decode()} {name}, for {ttl} s")
        return left

    def _command(self, *arguments: str) -> None:
        done = self.stage.run(*arguments).wait(120)
        if done:
            log = (self.stage.home / "logs" / "commands.log").read_text()[-3000:]
            raise subprocess.CalledProcessError(done, arguments, log)


SECOND_ENVIRONMENT = f"""
from environments.services import create_environment, move_environment
create_environment(name={SECOND!r}, by="engine")
move_environment(name={SECOND!r}, state="ACTIVE", by="engine")
"""


def _copy(connection: psycopg.Connection[Any], table: str, path: Path) -> None:
    query = sql.SQL("COPY {} TO STDOUT (FORMAT csv, HEADER)").format(sql.Identifier(table))
    with connection.cursor() as cursor, cursor.copy(query) as copy, path.open("wb") as out:
        for data in copy:
            out.write(data)


def _ignore(_: object) -> None:
    """Have a call be a statement."""
