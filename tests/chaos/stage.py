"""The platform that the harness plays with: services, processes and a home of its own.

Whatever ends is started again, as a supervisor in production would; whatever is taken away by a
fault is written down with its times, for the verdict must know what was there when.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psutil
import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator import embedded
from orchestrator.embedded.places import Places, places_of
from orchestrator.env import ROOT
from orchestrator.launcher import any_free_port
from orchestrator.supervisor import MARK, end_marked
from tests.chaos.cutting import Cutter, cutter

LEASE = 6.0
LONGEST_STEP = 60.0
SOFT_SHUTDOWN = 4.0
TIMEOUT_GRACE = 2.0
CANARY = 6.0
RESTART_AFTER = 1.0
UP_WITHIN = 120.0
PASSWORD = "chaos is a ladder"
SECOND = "second"

ENVIRONMENT_WORKERS = ("worker-a", "worker-b", "worker-c")
BEATS = ("beat-1", "beat-2")


@dataclass(frozen=True, slots=True)
class Part:
    """A process of the platform: its program, and whether its way to the database can be cut."""

    name: str
    program: tuple[str, ...]
    ready: bytes
    cuttable: bool = False


PARTS = (
    Part("web", ("web",), b"", cuttable=True),
    Part("beat-1", ("beat",), b"beat: Starting"),
    Part("beat-2", ("beat",), b"beat: Starting"),
    Part("engine", ("engine",), b" ready.", cuttable=True),
    Part("worker-a", ("worker", "default", "--name=a"), b" ready."),
    Part("worker-b", ("worker", "default", "--name=b"), b" ready.", cuttable=True),
    Part("worker-c", ("worker", SECOND), b" ready."),
)


@dataclass(slots=True)
class Actor:
    """A part at work."""

    part: Part
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    due: float = 0.0
    read: int = 0
    up: bool = False

    @property
    def pid(self) -> int | None:
        """The process id, while it lives."""
        alive = self.process is not None and self.process.poll() is None
        return self.process.pid if alive and self.process is not None else None


@dataclass(slots=True)
class Outage:
    """A time in which something was not there; without an end it goes on."""

    what: str
    began: float
    ended: float | None = None


@dataclass(slots=True)
class Stage:
    """The platform. `watch` must be called again and again, from the main thread."""

    home: Path
    env: Mapping[str, str]
    places: Places
    cutter: Cutter
    web: str
    actors: dict[str, Actor] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    wedged: list[float] = field(default_factory=list)
    """When a worker was made to take nothing any more from the queue of the second environment."""
    _outputs: list[IO[bytes]] = field(default_factory=list)
    _held: set[str] = field(default_factory=set)
    _services: threading.RLock = field(default_factory=threading.RLock)

    # What there is.

    def database(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection to the database, past what can be cut."""
        return psycopg.connect(
            host=str(self.places.sockets),
            user="postgres",
            dbname="orchestrator",
            autocommit=True,
            connect_timeout=5,
            application_name="chaos",
            **options,
        )

    def redis(self) -> "redis.Redis":
        """Return a client of the broker that gives up soon."""
        return redis.Redis(
            unix_socket_path=str(self.places.redis_socket),
            socket_timeout=3,
            retry=Retry(NoBackoff(), 0),
        )

    def pid(self, name: str) -> int | None:
        """Return the process id of a part that lives."""
        return self.actors[name].pid

    def children(self, name: str) -> list[psutil.Process]:
        """Return the processes that a part has started: its pool, or its web workers."""
        pid = self.pid(name)
        if pid is None:
            return []
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).children()
        return []

    # What is done to it.

    def start(self) -> None:
        """Start every part, and wait until all are up."""
        for part in PARTS:
            self.actors[part.name] = Actor(part, self.home / "logs" / f"{part.name}.log")
        self.wait_until_up()

    def wait_until_up(self, *, seconds: float = UP_WITHIN) -> None:
        """Wait until every part says that it is ready."""
        deadline = time.monotonic() + seconds
        while not self.all_up():
            self.watch()
            if time.monotonic() > deadline:
                late = [name for name, actor in self.actors.items() if not actor.up]
                raise TimeoutError(f"not up within {seconds:g} s: {', '.join(late)}; see its log")
            time.sleep(0.1)

    def is_well(self) -> bool:
        """Say whether the platform finds that work flows in every queue."""
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.web}/health/", timeout=5).is_success
        return False

    def all_up(self) -> bool:
        """Say whether every part has said that it is ready, and lives."""
        return bool(self.actors) and all(
            actor.up and actor.pid is not None for actor in self.actors.values()
        )

    def watch(self) -> None:
        """Start again what has ended, a moment later; notice what has come up."""
        for name, actor in self.actors.items():
            if actor.process is not None and actor.process.poll() is not None:
                self._note(actor, f"ended with {actor.process.returncode}")
                actor.process, actor.up = None, False
                actor.due = time.monotonic() + RESTART_AFTER
                self.begin_outage(name)
            if actor.process is None and time.monotonic() >= actor.due:
                self._start(actor)
            elif actor.process is not None and not actor.up:
                self._look_whether_up(actor)

    def signal(self, name: str, number: signal.Signals, *, group: bool) -> bool:
        """Send a signal to a part, with its children or without; say whether it lived."""
        pid = self.pid(name)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.killpg(pid, number) if group else os.kill(pid, number)
        return True

    def step_clock(self, name: str, seconds: float) -> None:
        """Step the wall clock of one part, its future restarts included."""
        self._clock(name).write_text(f"{seconds}")

    def service(self, work: Callable[[], None]) -> None:
        """Do something to a service, one thing at a time."""
        with self._services:
            work()

    def is_out(self, what: str) -> bool:
        """Say whether something is not there now."""
        return any(one.what == what and one.ended is None for one in self.outages)

    def begin_outage(self, what: str) -> None:
        """Write down that something is not there from now on."""
        if not self.is_out(what):
            self.outages.append(Outage(what, time.time()))

    def end_outage(self, what: str) -> None:
        """Write down that it is there again."""
        for one in self.outages:
            if one.what == what and one.ended is None:
                one.ended = time.time()

    def dump_stacks(self) -> None:
        """Write down where every process of the platform is, for whoever asks why it is stuck."""
        spy = Path(sys.executable).with_name("py-spy")
        for name in self.actors:
            pids = [self.pid(name), *(child.pid for child in self.children(name))]
            with (self.home / "logs" / f"{name}.stacks").open("ab") as output:
                for pid in filter(None, pids):
                    command = [spy, "dump", "--pid", str(pid)]
                    subprocess.run(command, stdout=output, stderr=output, check=False, timeout=30)

    def stop(self) -> list[str]:
        """Stop every part as production does, and return what of them did not end or was left."""
        left = []
        for actor in self.actors.values():
            if actor.pid is not None:
                os.killpg(actor.pid, signal.SIGCONT)
                os.kill(actor.pid, signal.SIGTERM)
        deadline = time.monotonic() + SOFT_SHUTDOWN + 15
        for name, actor in self.actors.items():
            if actor.process is None:
                continue
            try:
                actor.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                left.append(f"{name} did not end within {SOFT_SHUTDOWN + 15:g} s of SIGTERM")
                self.dump_stacks()
        return left

    def leftovers(self) -> list[str]:
        """Name the processes of the platform that still live."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(MARK) == str(self.home):
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        return found

    # How.

    def run(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of the platform beside its parts."""
        return self._open("commands", [sys.executable, *arguments], self.env)

    def _start(self, actor: Actor) -> None:
        part = actor.part
        env = dict(self.env)
        env["CHAOS_CLOCK"] = str(self._clock(part.name))
        if part.cuttable:
            env["DATABASE_URL"] = f"postgresql://postgres@127.0.0.1:{self.cutter.port}/orchestrator"
        actor.starts += 1
        actor.read = actor.log.stat().st_size if actor.log.exists() else 0
        self._note(actor, f"start {actor.starts}")
        command = [sys.executable, "-m", "orchestrator", *part.program]
        actor.process = self._open(part.name, command, env)

    def _open(
        self, name: str, command: list[str], env: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.home / "logs" / f"{name}.log").open("ab") as output:
            return subprocess.Popen(
                command,
                env=env,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _look_whether_up(self, actor: Actor) -> None:
        if actor.part.ready:
            actor.up = actor.part.ready in self._said_by(actor)
        else:
            actor.up = self._web_answers()
        if actor.up:
            self.end_outage(actor.part.name)

    def _said_by(self, actor: Actor) -> bytes:
        """Return what a part has written since its last start."""
        with actor.log.open("rb") as log:
            log.seek(actor.read)
            return log.read()

    def _web_answers(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.web}/admin/login/", timeout=1).status_code < 500
        return False

    def _note(self, actor: Actor, text: str) -> None:
        with actor.log.open("a") as log:
            log.write(f"---- {time.time():.3f} {text}\n")

    def _clock(self, name: str) -> Path:
        return self.home / "clocks" / name


@contextmanager
def staged(ledger: str) -> Iterator[Stage]:
    """Have a platform in a temporary folder, with services that run; at the end nothing is left."""
    home = Path(tempfile.mkdtemp(prefix="chaos-"))
    home.chmod(0o755)
    local = home / "local"
    for name in ("clocks", "logs", "tmp"):
        (home / name).mkdir()
    services = embedded.start(local)
    places = places_of(local)
    port = any_free_port()
    try:
        with cutter(places.postgres_socket) as proxy:
            env = _environment(home, services, ledger, port)
            yield Stage(home, env, places, proxy, f"http://127.0.0.1:{port}")
    finally:
        end_marked(home)
        embedded.remove(local)
        shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path, services: embedded.Services, ledger: str, port: int) -> dict[str, str]:
    """Return what every process of the platform has in its environment; nothing of the tests'."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        MARK: str(home),
        "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(home / "tmp"),
        "LOCAL_DIR": str(home / "local"),
        "DATABASE_URL": services.database_url,
        "BROKER_URL": services.broker_url,
        "RESULT_URL": services.broker_url,
        "SECRET_KEY": secrets.token_urlsafe(48),
        "VAULT_KEY": secrets.token_urlsafe(48),
        "ADMIN_PASSWORD": PASSWORD,
        "WEB_PORT": str(port),
        "WEB_WORKERS": "1",
        "APPS": "tests.chaos.app",
        "EXAMPLES": "false",
        "LEASE_SECONDS": f"{LEASE:g}",
        "LONGEST_STEP_SECONDS": f"{LONGEST_STEP:g}",
        "SOFT_SHUTDOWN_SECONDS": f"{SOFT_SHUTDOWN:g}",
        "TIMEOUT_GRACE_SECONDS": f"{TIMEOUT_GRACE:g}",
        "CANARY_SECONDS": f"{CANARY:g}",
        "LOG_LEVEL": "INFO",
        "CHAOS_LEDGER": ledger,
    }
