"""Sets the stage: services, the platform's own programs, and workers of bare Celery."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery
from django.conf import settings
from django.core.management import call_command

from benchmarks.bare import SETTINGS, Bare, build
from benchmarks.variants import Variant
from orchestrator import embedded
from orchestrator.supervisor import Child, Supervisor, say

READY_WITHIN = 30.0
FAREWELL = "Warm shutdown"
HOME: Path = settings.ENV.home
QUIET = {"LOG_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
"""Celery warns of a superuser on standard error; they are the benchmark's own workers."""


@contextmanager
def services() -> Iterator[None]:
    """Have empty services with the schema and the default environment, and stop them afterwards."""
    embedded.remove(HOME)
    embedded.start(HOME, **settings.ENV.embedded_parts)
    try:
        call_command("migrate", verbosity=0)
        from environments.services import ensure_default

        ensure_default()
        yield
    finally:
        embedded.stop(HOME)


@contextmanager
def platform() -> Iterator[Supervisor]:
    """Have the platform's clock, engine and worker running, by the commands that users run."""
    from orchestrator.celery import app

    programs = {"beat": ["beat"], "engine": ["engine"], "worker": ["worker", "default"]}
    children = [
        Child(name, (sys.executable, "-m", "orchestrator", *arguments), QUIET)
        for name, arguments in programs.items()
    ]
    with _kept(HOME / "platform", children) as supervisor:
        _until_answered(app, 2)
        yield supervisor


@contextmanager
def bare_celery(variant: Variant) -> Iterator[Bare]:
    """Have the workers of a variant of bare Celery running, and yield its application."""
    bare = build(variant.settings)
    bare.redis.flushdb()
    told = QUIET | {SETTINGS: json.dumps(dict(variant.settings)), "DJANGO_SETTINGS_MODULE": ""}
    celery = (sys.executable, "-m", "celery", "--quiet", "-A", "benchmarks.bare_worker", "worker")
    children = [
        Child(f"bare-{n}", (*celery, "--loglevel=error", *variant.options, f"-nbare{n}@%h"), told)
        for n in range(variant.workers)
    ]
    with _kept(HOME / "bare" / _slug(variant.name), children):
        _until_answered(bare.app, variant.workers)
        yield bare
    bare.app.close()
    bare.redis.close()


@contextmanager
def _kept(home: Path, children: list[Child]) -> Iterator[Supervisor]:
    supervisor = Supervisor(home, say=_say)
    for child in children:
        supervisor.keep(child)
    try:
        supervisor.watch()
        yield supervisor
    finally:
        supervisor.stop()


def _say(name: str, line: str) -> None:
    if FAREWELL not in line:
        say(name, line)


def _until_answered(app: Celery, workers: int) -> None:
    until(lambda: len(app.control.ping(timeout=0.3)) >= workers, 0.1, READY_WITHIN)


def until(is_so: Callable[[], bool], pause: float, patience: float) -> None:
    """Look again and again until it is so. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what the benchmark waits for was not there after {patience:g} s")
        time.sleep(pause)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
