"""What the platform costs by itself: memory, disk, processor time while idle."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
from django.conf import settings
from django.db import connection
from rich.progress import Progress

from benchmarks.contests import PATIENCE, STEPS, start_chains, wait_for
from benchmarks.figures import Figure, Target
from benchmarks.history import TABLES
from benchmarks.stage import HOME, bare_celery, platform, until
from benchmarks.variants import same
from orchestrator import embedded

MIB = 2**20
WARM_STEPS = 2_000
STORED_RUNS = 2_000
AT_ONCE = 500
UNIT = "% of a core"
BUSIEST = 3.0
SETTLED = 20.0
WATCHED = 60.0
BARE = "bare Celery's worker"
RESIDENT, PRIVATE = "resident", "not shared with others"
CHILD = ", child"
WORKING = f"worker{CHILD}"
LARGEST_CHILD = 110.0
PROGRAMS = ("web", "beat", "engine", "worker", "flower", "up")


@dataclass(frozen=True, slots=True)
class Role:
    """What a process is to the platform; a child is one that does the work of its parent."""

    name: str
    is_child: bool = False

    def __str__(self) -> str:
        return f"{self.name}{CHILD}" if self.is_child else self.name


def role_of(command: Sequence[str], parent: Sequence[str]) -> Role:
    """Tell a process by its command: those of a pool have the command of their parent."""
    is_child = list(command) == list(parent)
    words = [word.rpartition("/")[2] for word in command]
    if "gunicorn" in words:
        return Role("web", is_child)
    if "benchmarks.bare_worker" in words:
        return Role(BARE, is_child)
    if "orchestrator" in words:
        program = next((word for word in words if word in PROGRAMS), "")
        return Role("launcher" if program == "up" else program, is_child)
    known = {"redis-server": "Redis", "postgres": "PostgreSQL", "postgres:": "PostgreSQL"}
    first = command[0].split()[0].rpartition("/")[2] if command and command[0] else ""
    return Role(known.get(first, first))


def memory(progress: Progress) -> list[Figure]:
    """Return the memory of each process after 2,000 steps, and that of a bare worker's children."""
    with platform(), bare_celery(same(settings.ENV.broker)) as bare:
        runs = WARM_STEPS // STEPS
        for ids in progress.track([start_chains(runs)], description="memory"):
            wait_for(ids, 0.05)
        for _ in range(WARM_STEPS):
            bare.noop.delay()
        bare.forget()
        bare.last.delay()
        until(lambda: bare.ended() == 1, 0.05, PATIENCE)
        found = _memory_by_role()
    return [
        Figure(
            "memory",
            f"{role}: {kind}",
            tuple(values),
            "MiB",
            Target(LARGEST_CHILD, "lower") if (role, kind) == (WORKING, RESIDENT) else None,
        )
        for (role, kind), values in sorted(found.items())
        if kind == RESIDENT or role.endswith(CHILD)
    ]


def _memory_by_role() -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for process, role in _processes(psutil.Process()):
        if role.name not in {*PROGRAMS, BARE}:
            continue
        with suppress(psutil.Error):
            told = process.memory_full_info()
            found[str(role), RESIDENT].append(told.rss / MIB)
            found[str(role), PRIVATE].append(told.uss / MIB)
    return found


def _processes(root: psutil.Process) -> Iterator[tuple[psutil.Process, Role]]:
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.Error):
            parent = process.parent()
            yield process, role_of(process.cmdline(), parent.cmdline() if parent else ())


def disk(progress: Progress) -> list[Figure]:
    """Return what a step of a chain leaves in the database, with its share of the run."""
    steps = STORED_RUNS * STEPS
    with platform():
        wait_for(start_chains(1), 0.05)
        size, written = _size(), _written()
        for _ in progress.track(range(STORED_RUNS // AT_ONCE), description="disk"):
            wait_for(start_chains(AT_ONCE), 0.05)
        size, written = _size() - size, _written() - written
    return [
        Figure("disk", "tables and indexes", (size / steps,), "bytes/step"),
        Figure("disk", "write-ahead log", (written / steps,), "bytes/step"),
    ]


def _size() -> int:
    return int(_ask("SELECT sum(pg_total_relation_size(t)) FROM unnest(%s::regclass[]) t", TABLES))


def _written() -> int:
    return int(_ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')"))


def _ask(question: str, *values: Sequence[str]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(question, [list(one) for one in values])
        return cursor.fetchone()[0]


def idle(progress: Progress) -> list[Figure]:
    """Return the processor time of everything that `make run` starts while nobody asks for work."""
    with _whole_platform() as launcher:
        time.sleep(SETTLED)
        before = _time_by_role(launcher)
        began = time.perf_counter()
        for _ in progress.track(range(int(WATCHED)), description="idle"):
            time.sleep(1)
        watched = time.perf_counter() - began
        after = _time_by_role(launcher)
    shares = {role: 100 * (after[role] - before.get(role, 0.0)) / watched for role in after}
    return [
        Figure(
            "idle", "everything together", (sum(shares.values()),), UNIT, Target(BUSIEST, "lower")
        ),
        *(
            Figure("idle", role, (share,), UNIT)
            for role, share in sorted(shares.items(), key=lambda one: -one[1])
        ),
    ]


def _time_by_role(launcher: psutil.Process) -> Mapping[str, float]:
    found: dict[str, float] = defaultdict(float)
    for process, role in _processes(launcher):
        with suppress(psutil.Error):
            times = process.cpu_times()
            found[role.name] += times.user + times.system
    return found


@contextmanager
def _whole_platform() -> Iterator[psutil.Process]:
    """Have everything running that `make run` starts, its example carried out."""
    home = HOME / "idle"
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    platform = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "up"],
        env=env | {"LOCAL_DIR": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert platform.stdout is not None  # noqa: S101 - asked for as a pipe
    try:
        told = []
        for line in platform.stdout:
            told.append(line)
            if "the example" in line and "ended with status" in line:
                break
        else:
            sys.exit("The platform did not start:\n" + "".join(told))
        yield psutil.Process(platform.pid)
    finally:
        platform.terminate()
        platform.communicate(timeout=60)
        embedded.remove(home)
