"""The running platform, for tests: real workers on the test database, and the clock of the engine.

`Platform` is what a test holds; `celery_workers` of `tests/conftest.py` starts the
processes once for a session. The clock sends what beat would send, only more often, so that a
retry of a second takes a second.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from orchestrator.celery import ENGINE_QUEUE, app
from orchestrator.supervisor import MARK
from workflows.models import Run

TICK_EVERY = 0.25
STOPS_WITHIN = 15.0


class Platform:
    """What a test may do with the running platform."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)

    def finished(self, run: Run, *, seconds: float = 60.0) -> Run:
        """Wait until the run has ended, and return it as it is then."""
        return self.reached(run, seconds=seconds)

    def reached(self, run: Run, *states: str, seconds: float = 60.0) -> Run:
        """Wait until the run is in one of the states, or without any: until it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            found = Run.objects.get(pk=run.pk)
            if found.state in states if states else found.finished_at is not None:
                return found
            assert time.monotonic() < deadline, f"in {seconds:g} s only this: {story_of(run.pk)}"
            time.sleep(0.05)

    @contextmanager
    def worker(
        self, environment: str = "default", *, processes: int = 2
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Have one more worker of an environment; a test may kill it."""
        env = self._env | {"WORKER_CONCURRENCY": str(processes)}
        with a_process(env, "worker", environment) as worker:
            yield worker


@contextmanager
def a_process(env: Mapping[str, str], *program: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have one more process of the platform, such as `beat`, until the block ends."""
    mark = {MARK: f"one more process of {os.getpid()}", "LOG_LEVEL": "WARNING"}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *program],
        env=os.environ | mark | dict(env),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        stop(process)


def story_of(run_id: UUID) -> str:
    """Tell how far a run has come, for the message of a test that waited in vain."""
    run = Run.objects.get(pk=run_id)
    steps = ", ".join(
        f"{step.path} {step.state} {step.attempt} {step.error or ''}"
        for step in run.steps.order_by("path")
    )
    return f"{run.state} {run.error or ''}: {steps}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, and kill it when it does not."""
    process.terminate()
    try:
        process.wait(timeout=STOPS_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def ticking() -> Iterator[None]:
    """Send the engine's worker what is due, again and again."""
    stopping = threading.Event()

    def tick() -> None:
        while not stopping.wait(TICK_EVERY):
            for name in ("workers.tick", "workers.recover"):
                app.send_task(name, queue=ENGINE_QUEUE, expires=5)

    thread = threading.Thread(target=tick, name="clock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
