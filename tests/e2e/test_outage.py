"""PostgreSQL is stopped and comes back, under load: nothing is lost, repeated or restarted.

On a platform of its own, for the tests' own PostgreSQL serves others at the same time.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from orchestrator import embedded
from orchestrator.launcher import any_free_port
from orchestrator.supervisor import Child, Supervisor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LEASE = float(os.environ.get("OUTAGE_LEASE", "5"))
AWAY = float(os.environ.get("OUTAGE_SECONDS", "20"))
"""Seconds of the outage: long enough for every lease to expire several times over."""

PATIENCE = 150.0
PROCESSES = 8
"""Four of the pool and their parent, engine, beat, web; each says once a minute what it meets."""

CHAINS = 20
STEPS = 4
PREPARE = """
import json, sys
from django.core.management import call_command
call_command("migrate", verbosity=0)
from environments.services import ensure_default
from workflows.services.definitions import apply_definition
ensure_default()
for document in json.loads(sys.stdin.read()):
    apply_definition(text=json.dumps(document), source="test.yaml", by="person:ann")
"""
START = """
import sys
from workflows.services.orders import Order
from workflows.services.runs import start_runs
start_runs(orders=[Order(name) for name in sys.stdin.read().split()], by="person:ann")
"""


def log(name: str) -> dict[str, Any]:
    return {"id": name, "uses": "log", "with": {"message": name}}


def sleep(name: str, seconds: float) -> dict[str, Any]:
    return {"id": name, "uses": "sleep", "with": {"seconds": seconds}}


DOCUMENTS = [
    {"workflow": "chain", "steps": [sleep(f"s{n}", 0.4) for n in range(STEPS)]},
    # One ends in the middle of the outage, one after it; neither may be repeated blindly.
    *(
        {
            "workflow": name,
            "steps": [
                {"id": "pay", "uses": "shell.run", "with": {"command": ["sleep", str(seconds)]}},
                log("after"),
            ],
        }
        for name, seconds in {"during": AWAY / 2, "beyond": AWAY + 5}.items()
    ),
]


class House:
    """A platform of its own, with all its processes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.services = embedded.start(home)
        self.port = any_free_port()
        self.lines: list[str] = []
        self._env = {
            "DATABASE_URL": self.services.database_url,
            "BROKER_URL": self.services.broker_url,
            "SECRET_KEY": "s" * 40,
            "LEASE_SECONDS": f"{LEASE:g}",
            "LOG_LEVEL": "WARNING",
            "WORKER_CONCURRENCY": "4",
            "WEB_WORKERS": "1",
            "WEB_PORT": str(self.port),
        }
        self._supervisor = Supervisor(
            home, say=lambda name, line: self.lines.append(f"{name} {line}")
        )
        self._stopping = threading.Event()

    def do(self, program: str, given: str = "") -> None:
        """Have a program carried out in the platform's own shell."""
        command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", program]
        env = os.environ | self._env
        subprocess.run(command, env=env, input=given, text=True, check=True, capture_output=True)

    def start(self) -> None:
        programs = {
            "engine": ["engine"],
            "beat": ["beat"],
            "worker": ["worker", "default"],
            "web": ["web"],
        }
        for name, arguments in programs.items():
            command = (sys.executable, "-m", "orchestrator", *arguments)
            self._supervisor.keep(Child(name, command, self._env))
        self._supervisor.watch()

    def watch(self) -> None:
        """Start again what has ended, and have a line that says so."""
        self._supervisor.watch()

    def stop(self) -> None:
        self._supervisor.stop()
        embedded.remove(self.home)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.services.database_url) as connection:
            return connection.execute(query).fetchall()

    def web(self) -> int:
        headers = {"Authorization": "Bearer nobody"}
        url = f"http://127.0.0.1:{self.port}/api/v1/runs/"
        return httpx.get(url, headers=headers, timeout=30).status_code

    def until(self, what: str, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what}: not in {seconds:g} s; {self.story()}"
            self.watch()
            time.sleep(0.2)

    def story(self) -> str:
        states = self.ask("SELECT state, attempt, count(*) FROM workflows_step GROUP BY 1, 2")
        return json.dumps([states, self.lines[-20:]], default=str, indent=1)


@pytest.fixture
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        made = House(Path(parent, "home"))
        try:
            made.do(PREPARE, json.dumps(DOCUMENTS))
            made.start()
            yield made
        finally:
            made.stop()


def answers(house: House, status: int) -> bool:
    try:
        return house.web() == status
    except httpx.TransportError:
        return False


def test_an_outage_of_the_database_loses_and_repeats_nothing(house: House) -> None:
    house.until("the web server answers", lambda: answers(house, 401))
    house.do(START, " ".join(["during", "beyond", *["chain"] * CHAINS]))
    house.until("both long steps run", lambda: running(house, "pay") == 2)
    house.until("the load is under way", lambda: ended(house) >= 2)

    psutil.Process(embedded.status(house.home)["postgresql"]).send_signal(signal.SIGQUIT)
    began = time.monotonic()
    while time.monotonic() < began + AWAY:
        assert house.web() == 503
        house.watch()
        time.sleep(0.5)
    embedded.start(house.home, redis=False)

    assert house.web() == 401
    house.until("everything ends", lambda: ended(house) == CHAINS + 2)
    assert house.ask("SELECT DISTINCT state FROM workflows_run") == [("COMPLETED",)]
    assert house.ask('SELECT DISTINCT number, "end", late FROM workflows_attempt') == [
        (1, "completed", None)
    ]
    assert house.ask("SELECT count(*) FROM workflows_attempt") == [(CHAINS * STEPS + 4,)]
    assert house.ask("SELECT count(*) FROM workflows_incident") == [(0,)]
    assert not [line for line in house.lines if "starts again" in line or "Traceback" in line]
    assert 0 < told(house, "database.away") <= 3 * PROCESSES


def running(house: House, path: str) -> int:
    query = "SELECT 1 FROM workflows_step WHERE path = '{}' AND state = 'RUNNING'"
    return len(house.ask(query.format(path)))


def ended(house: House) -> int:
    return len(house.ask("SELECT 1 FROM workflows_run WHERE finished_at IS NOT NULL"))


def told(house: House, event: str) -> int:
    return len([line for line in house.lines if event in line])
