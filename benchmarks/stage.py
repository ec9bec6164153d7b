"""Sets the stage: services and workers that exist for the measurements alone."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings
from django.core.management import call_command

from orchestrator import embedded

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
BARE = "benchmarks.bare"
WARM_UP = 30.0
QUIET = {"PYTHONWARNINGS": "ignore"}
"""Celery warns of a superuser on standard error; it is the benchmark's own worker."""


@contextmanager
def stage() -> Iterator[None]:
    """Have services and both kinds of workers ready, and end them all afterwards."""
    embedded.start(settings.EMBEDDED_HOME, **settings.ENV.embedded_parts)
    workers: list[subprocess.Popen[bytes]] = []
    try:
        call_command("migrate", verbosity=0)
        _make_environment()
        _forget_messages()
        workers = [
            _worker("orchestrator", "env.default.default,orchestrator"),
            _worker(BARE, "bare"),
        ]
        _until_ready()
        yield
    finally:
        for worker in workers:
            _end(worker)
        embedded.stop(settings.EMBEDDED_HOME)


def _make_environment() -> None:
    from environments.services import ensure_default

    ensure_default()


def _forget_messages() -> None:
    from benchmarks import bare

    bare.counter.flushdb()


def share_settings() -> None:
    """Hand the platform's Celery settings to bare Celery, before that is first imported."""
    shared = {
        name.removeprefix("CELERY_").lower(): getattr(settings, name)
        for name in dir(settings)
        if name.startswith("CELERY_") and not name.startswith(("CELERY_BEAT", "CELERY_CELERY"))
    }
    os.environ["BARE_CELERY_SETTINGS"] = json.dumps(shared)


def _worker(app: str, queues: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", "-Q", queues]
    options = ["--pool=prefork", f"--concurrency={WORKERS}", "--loglevel=error"]
    name = f"--hostname={app}@localhost"
    env = {**os.environ, **QUIET}
    if app == BARE:
        del env["DJANGO_SETTINGS_MODULE"]
    return subprocess.Popen([*command, *options, name], cwd=ROOT, env=env)


def _until_ready() -> None:
    from benchmarks import bare
    from orchestrator.celery import app as ours

    deadline = time.monotonic() + WARM_UP
    for app in (ours, bare.app):
        while not app.control.ping(timeout=0.3):
            if time.monotonic() > deadline:
                raise TimeoutError("the workers of the benchmark did not come up")


def _end(worker: subprocess.Popen[bytes]) -> None:
    children = psutil.Process(worker.pid).children(recursive=True)
    worker.terminate()
    try:
        worker.wait(timeout=15)
    except subprocess.TimeoutExpired:
        worker.kill()
    for child in children:
        if child.is_running():
            child.kill()
