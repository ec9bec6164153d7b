"""Everything that is done to the platform, each a small class with a name.

`draw` says what chance decides, before anything starts. `begin` injects and returns what it did in
a few words; `strike` is called again and again while the fault lasts; `end` takes it back. What
cannot be done at the moment, because another fault has taken away what it needs, raises and is
tried again a little later: no fault of a schedule is left out.
"""

import base64
import json
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from random import Random
from socket import gethostname
from typing import Any, ClassVar, Protocol, cast
from uuid import uuid4

from celery import Celery
from kombu.exceptions import KombuError

from orchestrator.embedded import postgres_server, redis_server
from tests.chaos.documents import KILLERS, UNRULY
from tests.chaos.ledger import Ledger
from tests.chaos.stage import BEATS, ENVIRONMENT_WORKERS, LEASE, PARTS, SECOND, Stage

QUEUES = ("env.default.default", "env.second.default", "orchestrator")
MOST_COPIES = 300
CLOCK_STEP = 90.0
BLOCKED = 20.0

PROBED, CHARGE = "chaos-probed", "chaos-charge"
MOMENTS = ("before", "after")
"""When a charge is killed: before its effect, or behind it."""

CHARGES_WITHIN = 45.0
"""Seconds in which as many charges are met as are to be killed."""

CHARGES = """
    SELECT w.name, s.worker, s.run_id::text
    FROM workflows_step s
        JOIN workflows_run r ON r.id = s.run_id JOIN workflows_workflow w ON w.id = r.workflow_id
    WHERE s.state = 'RUNNING' AND s.path = 'pay' AND s.attempt = 1 AND w.name = ANY (%s)
"""

How = Mapping[str, Any]


class NotNowError(Exception):
    """What the fault needs is not there at the moment."""


class Storm(Protocol):
    """What a fault may touch."""

    stage: Stage
    ledger: Ledger

    def start_run(self, workflow: str) -> None:
        """Start a run of a workflow soon."""


class Fault(ABC):
    """A kind of fault."""

    name: ClassVar[str]

    def draw(self, chance: Random) -> dict[str, Any]:
        """Draw what the fault needs to know."""
        return {}

    @abstractmethod
    def begin(self, storm: Storm, how: How) -> str:
        """Inject it, and say what was done. Raises what is tried again later."""

    def strike(self, storm: Storm, how: How) -> None:
        """Go on with it, a few times a second."""
        return

    def end(self, storm: Storm, how: How) -> str:
        """Take it back, and say what it came to."""
        return ""


def lasting(how: How) -> float:
    """Return the seconds that a fault lasts."""
    return float(how.get("seconds", 0.0))


def _needs(storm: Storm, *services: str) -> None:
    """Refuse while another fault has a service: each is to be seen in its full length."""
    for service in services:
        if storm.stage.is_out(service):
            raise NotNowError(f"{service} is out already")


def _signal(storm: Storm, name: str, number: signal.Signals, *, group: bool) -> None:
    if not storm.stage.signal(name, number, group=group):
        raise NotNowError(f"{name} is not there")


# Processes.


class KillChild(Fault):
    """SIGKILL for one process of a worker's pool."""

    name = "kill-child"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"victim": chance.choice(ENVIRONMENT_WORKERS), "which": chance.randrange(100)}

    def begin(self, storm: Storm, how: How) -> str:
        children = storm.stage.children(how["victim"])
        if not children:
            raise NotNowError(f"{how['victim']} has no children")
        child = children[how["which"] % len(children)]
        child.kill()
        return f"{how['victim']}, pid {child.pid}"


class KillCharge(Fault):
    """SIGKILL for processes in the middle of a charge: before its effect, or after it."""

    name = "kill-charge"

    def __init__(self) -> None:
        self._wanted: list[list[str]] = []
        self._met: set[str] = set()
        self._until = 0.0

    def draw(self, chance: Random) -> dict[str, Any]:
        victims = [
            *([PROBED, moment] for moment in MOMENTS for _ in range(3)),
            *([CHARGE, moment] for moment in MOMENTS),
        ]
        return {"victims": chance.sample(victims, len(victims)), "seconds": 12.0}

    def begin(self, storm: Storm, how: How) -> str:
        _needs(storm, "redis", "postgres", "disk")
        self._wanted = list(how["victims"])
        self._until = time.monotonic() + CHARGES_WITHIN
        for workflow, _ in self._wanted:
            storm.start_run(workflow)
        return f"{len(self._wanted)} of them"

    def strike(self, storm: Storm, how: How) -> None:
        children = {
            child.pid: child
            for worker in ENVIRONMENT_WORKERS
            for child in storm.stage.children(worker)
        }
        with storm.stage.database() as connection:
            found = connection.execute(CHARGES, ([PROBED, CHARGE],)).fetchall()
        charged = {one["run"] for one in storm.ledger.as_document()["deliveries"]}
        for workflow, worker, run in found:
            child, victim = children.get(_pid_of(worker)), [workflow, MOMENTS[run in charged]]
            if child is not None and victim in self._wanted and run not in self._met:
                child.kill()
                self._met.add(run)
                self._wanted.remove(victim)

    def end(self, storm: Storm, how: How) -> str:
        if self._wanted and time.monotonic() < self._until:
            raise NotNowError("not all of them have been met")
        return f"{len(how['victims']) - len(self._wanted)} were killed"


def _pid_of(worker: str) -> int:
    """Return the process of the name that a worker gives itself (`workers.slots`)."""
    return int(worker.rpartition("-")[0].rpartition(".")[2])


class KillWorker(Fault):
    """SIGKILL for a worker: alone, so that its children find themselves orphans, or with them."""

    name = "kill-worker"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"victim": chance.choice(ENVIRONMENT_WORKERS), "whole": chance.random() < 0.6}

    def begin(self, storm: Storm, how: How) -> str:
        _signal(storm, how["victim"], signal.SIGKILL, group=how["whole"])
        return f"{how['victim']}{' and its children' if how['whole'] else ' alone'}"


class KillEngine(Fault):
    """SIGKILL for the engine's worker and its children."""

    name = "kill-engine"

    def begin(self, storm: Storm, how: How) -> str:
        _signal(storm, "engine", signal.SIGKILL, group=True)
        return "engine"


class KillBeat(Fault):
    """SIGKILL for one of the two clocks."""

    name = "kill-beat"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"victim": chance.choice(BEATS)}

    def begin(self, storm: Storm, how: How) -> str:
        _signal(storm, how["victim"], signal.SIGKILL, group=True)
        return str(how["victim"])


class KillWeb(Fault):
    """SIGKILL for the web server, or for the process in it that answers."""

    name = "kill-web"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"whole": chance.random() < 0.5}

    def begin(self, storm: Storm, how: How) -> str:
        if how["whole"]:
            _signal(storm, "web", signal.SIGKILL, group=True)
            return "web and its children"
        children = storm.stage.children("web")
        if not children:
            raise NotNowError("web has no children")
        children[0].kill()
        return f"web, pid {children[0].pid}"


class StopWorker(Fault):
    """SIGSTOP for a worker until its leases are over, then SIGCONT: it wakes up as a zombie."""

    name = "stop-worker"

    def draw(self, chance: Random) -> dict[str, Any]:
        seconds = round(LEASE + chance.uniform(3, 10), 1)
        return {"victim": chance.choice(ENVIRONMENT_WORKERS), "seconds": seconds}

    def begin(self, storm: Storm, how: How) -> str:
        _signal(storm, how["victim"], signal.SIGSTOP, group=True)
        return f"{how['victim']} and its children for {how['seconds']} s"

    def end(self, storm: Storm, how: How) -> str:
        storm.stage.signal(how["victim"], signal.SIGCONT, group=True)
        return f"{how['victim']} goes on"


class RestartWorker(Fault):
    """SIGTERM for a worker, as in a rolling restart."""

    name = "restart-worker"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"victim": chance.choice(ENVIRONMENT_WORKERS)}

    def begin(self, storm: Storm, how: How) -> str:
        _signal(storm, how["victim"], signal.SIGTERM, group=False)
        return str(how["victim"])


# The broker.


class _RedisRestart(Fault):
    keeps: ClassVar[bool]

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": round(chance.uniform(0.5, 3), 1)}

    def begin(self, storm: Storm, how: How) -> str:
        stage = storm.stage
        dump = stage.places.redis / "dump.rdb"

        def work() -> None:
            _needs(storm, "redis")
            dump.unlink(missing_ok=True)
            if self.keeps:
                stage.redis().save()
            if (pid := redis_server.pid_of(stage.places)) is None:
                raise NotNowError("Redis is down already")
            stage.begin_outage("redis")
            _kill(pid)

        stage.service(work)
        return f"down for {how['seconds']} s"

    def end(self, storm: Storm, how: How) -> str:
        storm.stage.service(lambda: redis_server.start(storm.stage.places))
        storm.stage.end_outage("redis")
        return f"Redis is back, {'with' if self.keeps else 'without'} its data"


class RestartRedisEmpty(_RedisRestart):
    """SIGKILL for Redis, which comes back with nothing."""

    name = "restart-redis-empty"
    keeps = False


class RestartRedisKept(_RedisRestart):
    """SIGKILL for Redis, which comes back with what it had just saved."""

    name = "restart-redis-kept"
    keeps = True


class FlushRedis(Fault):
    """FLUSHALL."""

    name = "flush-redis"

    def begin(self, storm: Storm, how: How) -> str:
        _needs(storm, "redis")
        client = storm.stage.redis()
        keys = client.dbsize()
        client.flushall()
        return f"{keys} keys"


class BlockRedis(Fault):
    """Redis takes connections and answers nobody for 20 s."""

    name = "block-redis"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": BLOCKED, "by": chance.choice(["SIGSTOP", "CLIENT PAUSE"])}

    def begin(self, storm: Storm, how: How) -> str:
        stage = storm.stage

        def work() -> None:
            _needs(storm, "redis")
            pid = redis_server.pid_of(stage.places)
            if pid is None:
                raise NotNowError("Redis is down")
            stage.begin_outage("redis")
            if how["by"] == "SIGSTOP":
                _send(pid, signal.SIGSTOP)
            else:
                stage.redis().client_pause(int(how["seconds"] * 1000))

        stage.service(work)
        return f"for {how['seconds']:g} s by {how['by']}"

    def end(self, storm: Storm, how: How) -> str:
        stage = storm.stage

        def work() -> None:
            if (pid := redis_server.pid_of(stage.places)) is not None:
                _send(pid, signal.SIGCONT)
                stage.end_outage("redis")

        stage.service(work)
        return "Redis answers again"


# The database.


class RestartPostgres(Fault):
    """An immediate stop of PostgreSQL (SIGQUIT: as a crash), and its start."""

    name = "restart-postgres"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": round(chance.uniform(0.5, 4), 1)}

    def begin(self, storm: Storm, how: How) -> str:
        stage = storm.stage

        def work() -> None:
            _needs(storm, "postgres", "disk")
            if (pid := postgres_server.pid_of(stage.places)) is None:
                raise NotNowError("PostgreSQL is down already")
            stage.begin_outage("postgres")
            _send(pid, signal.SIGQUIT)

        stage.service(work)
        return f"down for {how['seconds']} s"

    def end(self, storm: Storm, how: How) -> str:
        storm.stage.service(lambda: postgres_server.start(storm.stage.places))
        storm.stage.end_outage("postgres")
        return "PostgreSQL is back"


class KillBackend(Fault):
    """pg_terminate_backend of some connections of the platform."""

    name = "kill-backend"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"which": [chance.random() for _ in range(chance.randint(1, 4))]}

    def begin(self, storm: Storm, how: How) -> str:
        with storm.stage.database() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'orchestrator' ORDER BY pid"
            ).fetchall()
            if not found:
                raise NotNowError("nobody is connected")
            pids = sorted({found[int(share * len(found))][0] for share in how["which"]})
            connection.execute("SELECT pg_terminate_backend(p) FROM unnest(%s) p", (pids,))
        return f"{len(pids)} of {len(found)}"


class CutCommit(Fault):
    """Connections lost just after a commit: the answer does not arrive."""

    name = "cut-commit"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": 8.0, "count": chance.randint(2, 6)}

    def begin(self, storm: Storm, how: How) -> str:
        storm.stage.cutter.cut_commits(how["count"])
        return f"the next {how['count']} commits on the way that can be cut"

    def end(self, storm: Storm, how: How) -> str:
        storm.stage.cutter.disarm()
        return f"{storm.stage.cutter.cuts} cuts so far"


class FullDisk(Fault):
    """Commits fail as on a full disk: SQLSTATE 53100, when the transaction would end."""

    name = "full-disk"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": round(chance.uniform(2, 6), 1)}

    def begin(self, storm: Storm, how: How) -> str:
        _needs(storm, "postgres", "disk")
        with storm.stage.database() as connection:
            connection.execute("SET lock_timeout = '2s'")
            connection.execute(
                """
                CREATE OR REPLACE FUNCTION chaos_disk_full() RETURNS trigger
                LANGUAGE plpgsql AS $$ BEGIN
                    RAISE EXCEPTION 'could not extend file "base/5/2704": No space left on device'
                    USING ERRCODE = '53100', HINT = 'Check free disk space.';
                END $$;
                DROP TRIGGER IF EXISTS chaos_disk_full ON workflows_journal;
                CREATE CONSTRAINT TRIGGER chaos_disk_full AFTER INSERT ON workflows_journal
                DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION chaos_disk_full();
                """
            )
        storm.stage.begin_outage("disk")
        return f"for {how['seconds']} s"

    def end(self, storm: Storm, how: How) -> str:
        with storm.stage.database() as connection:
            connection.execute("SET lock_timeout = '2s'")
            connection.execute("DROP TRIGGER IF EXISTS chaos_disk_full ON workflows_journal")
        storm.stage.end_outage("disk")
        return "there is room again"


# Messages.


class _Messages(Fault):
    def __init__(self) -> None:
        self._done = 0
        self._chance = Random()  # noqa: S311

    def draw(self, chance: Random) -> dict[str, Any]:
        return {"seconds": 6.0, "chance": chance.randrange(10**6)}

    def begin(self, storm: Storm, how: How) -> str:
        _needs(storm, "redis")
        storm.stage.redis().ping()
        self._done = 0
        self._chance = Random(how["chance"])  # noqa: S311 - it must repeat
        return f"for {how['seconds']:g} s"

    def end(self, storm: Storm, how: How) -> str:
        return f"{self._done} messages"


class DuplicateMessages(_Messages):
    """Copies of messages that wait, and of messages that workers hold."""

    name = "duplicate-messages"

    def strike(self, storm: Storm, how: How) -> None:
        client = storm.stage.redis()
        copies = [(queue, text) for queue in QUEUES for text in client.lrange(queue, 0, 9)]
        for held in client.hvals("unacked"):
            message, _, queue = json.loads(held)
            copies.append((queue, json.dumps(message)))
        for queue, text in self._chance.sample(copies, min(len(copies), 6)):
            if self._done < MOST_COPIES:
                client.lpush(queue, text)
                self._done += 1


class ReorderMessages(_Messages):
    """Queues shuffled."""

    name = "reorder-messages"

    def strike(self, storm: Storm, how: How) -> None:
        client = storm.stage.redis()
        for queue in QUEUES:
            with client.pipeline() as pipe:
                pipe.watch(queue)
                texts = cast("list[bytes]", pipe.lrange(queue, 0, -1))
                if len(texts) > 1:
                    self._chance.shuffle(texts)
                    pipe.multi()
                    pipe.delete(queue)
                    pipe.rpush(queue, *texts)
                    pipe.execute(raise_on_error=False)
                    self._done += len(texts)


class DropMessages(_Messages):
    """Messages that wait are taken away."""

    name = "drop-messages"

    def strike(self, storm: Storm, how: How) -> None:
        client = storm.stage.redis()
        for queue in QUEUES:
            if self._chance.random() < 0.5:
                self._done += client.lpop(queue) is not None
                self._done += client.rpop(queue) is not None


class PoisonMessages(Fault):
    """Messages that nobody could have sent: no JSON, unknown tasks, ids of nothing, no ids."""

    name = "poison-message"

    def draw(self, chance: Random) -> dict[str, Any]:
        kinds = ["garbage", "unknown", "strange", "keyless", "pathless"]
        return {"kinds": chance.sample(kinds, 2), "queue": chance.choice(QUEUES)}

    def begin(self, storm: Storm, how: How) -> str:
        client = storm.stage.redis()
        for kind in how["kinds"]:
            client.lpush(how["queue"], self._message(kind, how["queue"], storm))
        return f"{' and '.join(how['kinds'])} for {how['queue']}"

    def _message(self, kind: str, queue: str, storm: Storm) -> str:
        ids = {"run": str(uuid4()), "version": str(uuid4()), "path": "one", "attempt": 1}
        match kind:
            case "garbage":
                return "\x00this is no message {"
            case "unknown":
                return envelope(queue, "workers.no_such_task", ids)
            case "keyless":
                return envelope(queue, "workers.run_segment", {"run": "not a run"})
            case "pathless":
                return envelope(queue, "workers.run_segment", _of_a_run(storm) or ids)
        return envelope(queue, "workers.run_segment", ids)


def _of_a_run(storm: Storm) -> dict[str, Any] | None:
    """Return the ids of a run that there is, with a path that it does not have."""
    with storm.stage.database() as connection:
        found = connection.execute(
            "SELECT id, version_id FROM workflows_run ORDER BY id DESC LIMIT 1"
        ).fetchone()
    if found is None:
        return None
    return {"run": str(found[0]), "version": str(found[1]), "path": "no.such.step", "attempt": 1}


def envelope(queue: str, task: str, ids: Mapping[str, Any]) -> str:
    """Return a message as Celery (protocol 2) and kombu's Redis transport write it."""
    body = json.dumps([[], dict(ids), {"callbacks": None, "errbacks": None, "chain": None}])
    number = str(uuid4())
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": number,
                "root_id": number,
                "parent_id": None,
                "group": None,
                "ignore_result": True,
                "retries": 0,
                "timelimit": [None, None],
            },
            "properties": {
                "correlation_id": number,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )


# The engine and its time.


class SweepsAtOnce(Fault):
    """Three sweeps at once, beside the two clocks that are there all the time."""

    name = "sweeps-at-once"

    def begin(self, storm: Storm, how: How) -> str:
        for _ in range(3):
            storm.stage.run("manage.py", "recover")
        return "three times manage.py recover"


class StepClock(Fault):
    """The wall clock of one process is 90 s early or late for a while."""

    name = "step-clock"

    def draw(self, chance: Random) -> dict[str, Any]:
        return {
            "victim": chance.choice([part.name for part in PARTS]),
            "step": chance.choice([CLOCK_STEP, -CLOCK_STEP]),
            "seconds": round(chance.uniform(8, 16), 1),
        }

    def begin(self, storm: Storm, how: How) -> str:
        storm.stage.step_clock(how["victim"], how["step"])
        return f"{how['victim']} by {how['step']:+g} s for {how['seconds']} s"

    def end(self, storm: Storm, how: How) -> str:
        storm.stage.step_clock(how["victim"], 0.0)
        return f"{how['victim']} is right again"


class WedgeQueue(Fault):
    """The only worker of a queue lives, answers, and takes nothing from it any more."""

    name = "wedge-queue"

    def begin(self, storm: Storm, how: How) -> str:
        _needs(storm, "redis", "worker-c")
        queue, worker = f"env.{SECOND}.default", f"env-{SECOND}@{gethostname()}"
        with Celery(broker=storm.stage.env["BROKER_URL"], set_as_current=False) as app:
            try:
                answers = app.control.cancel_consumer(
                    queue, destination=[worker], reply=True, timeout=3
                )
            except (KombuError, OSError) as error:
                raise NotNowError(str(error)) from error
        if not answers:
            raise NotNowError(f"{worker} does not answer")
        storm.stage.wedged.append(time.time())
        return f"{worker} takes nothing any more"


# Steps that harm.


class _Harmful(Fault):
    workflow: ClassVar[str]

    def begin(self, storm: Storm, how: How) -> str:
        storm.start_run(self.workflow)
        return f"a run of {self.workflow}"


def _harmful(workflow: str, task: str, about: str) -> Fault:
    kind = type(
        task.title(), (_Harmful,), {"name": f"{task}-step", "workflow": workflow, "__doc__": about}
    )
    return cast("Fault", kind())


ABOUT = {
    "suicide": "A step that kills its process at every attempt.",
    "hog": "A step that leaks memory until it is killed.",
    "stubborn": "A step that swallows the interruption when its time is up.",
    "frozen": "A step that holds the interpreter's lock for ever.",
}

FAULTS: Sequence[Fault] = (
    KillChild(),
    KillCharge(),
    KillWorker(),
    KillEngine(),
    KillBeat(),
    KillWeb(),
    StopWorker(),
    RestartWorker(),
    RestartRedisEmpty(),
    RestartRedisKept(),
    FlushRedis(),
    BlockRedis(),
    RestartPostgres(),
    KillBackend(),
    CutCommit(),
    FullDisk(),
    DuplicateMessages(),
    ReorderMessages(),
    DropMessages(),
    PoisonMessages(),
    SweepsAtOnce(),
    StepClock(),
    WedgeQueue(),
    *(
        _harmful(workflow, task, ABOUT[task])
        for workflow, task in [*KILLERS.items(), *UNRULY.items()]
    ),
)

BY_NAME: Mapping[str, Fault] = {fault.name: fault for fault in FAULTS}


def _send(pid: int, number: signal.Signals) -> None:
    import os

    os.kill(pid, number)


def _kill(pid: int) -> None:
    """Kill, and wait until it is gone: its socket is taken over at the next start."""
    import psutil

    process = psutil.Process(pid)
    process.kill()
    from orchestrator.embedded.processes import alive_after

    alive_after([process], seconds=5)
