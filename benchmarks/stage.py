"""Sets the stage: services, the platform's own programs, and workers of bare Celery."""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from celery import Celery
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from knox.models import AuthToken

from benchmarks.bare import SETTINGS, Bare, build
from benchmarks.variants import Variant
from environments.services import ensure_default
from orchestrator import embedded
from orchestrator.celery import app as our_app
from orchestrator.launcher import any_free_port
from orchestrator.supervisor import Child, Supervisor, say

READY_WITHIN = 30.0
FAREWELL = " shutdown (MainProcess)"
HOME: Path = settings.ENV.home
CLIENT = "benchmarks"
USUAL: str = settings.DATABASES["default"]["NAME"]
QUIET = {"LOG_LEVEL": "WARNING", "PYTHONWARNINGS": "ignore"}
"""Celery warns of a superuser on standard error; they are the benchmark's own workers."""


@dataclass(frozen=True, slots=True)
class Platform:
    """The running platform: where its web server is, and how a client says who it is."""

    url: str
    login: Mapping[str, str]


@contextmanager
def services() -> Iterator[None]:
    """Have empty services with the schema, an environment and a client; remove them afterwards."""
    if not all(settings.ENV.embedded_parts.values()):
        sys.exit(
            "The benchmarks fill and empty the services they use, so they use none but their own. "
            "Unset DATABASE_URL and BROKER_URL."
        )
    embedded.remove(HOME)
    embedded.start(HOME)
    try:
        call_command("migrate", verbosity=0)
        ensure_default()
        get_user_model().objects.create_superuser(CLIENT)
        yield
    finally:
        connection.close()
        embedded.remove(HOME)


@contextmanager
def platform() -> Iterator[Platform]:
    """Have the platform's own programs running, by the commands that users run."""
    port = any_free_port()
    own = QUIET | {"WEB_PORT": str(port)}
    if connection.settings_dict["NAME"] != USUAL:
        own |= _elsewhere()
    programs = {
        "web": ["web"],
        "beat": ["beat"],
        "engine": ["engine"],
        "worker": ["worker", "default"],
    }
    children = [
        Child(name, (sys.executable, "-m", "orchestrator", *arguments), own)
        for name, arguments in programs.items()
    ]
    _, token = AuthToken.objects.create(get_user_model().objects.get(username=CLIENT))
    ours = Platform(f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {token}"})
    with _kept(HOME / "platform", children):
        _until_answered(our_app, 2)
        until(lambda: _answers(ours), 0.1, READY_WITHIN)
        yield ours


def _elsewhere() -> dict[str, str]:
    """Return what tells the programs of another database of the same server."""
    name = connection.settings_dict["NAME"]
    address = settings.ENV.database.replace(f"/{USUAL}?", f"/{name}?")
    keys = ",".join(settings.ORCHESTRATOR["VAULT_KEYS"])
    secrets = {"SECRET_KEY": settings.SECRET_KEY, "VAULT_KEY": keys}
    return {"DATABASE_URL": address, "EXAMPLES": "true"} | secrets


def _answers(platform: Platform) -> bool:
    with suppress(httpx.TransportError):
        address = f"{platform.url}/api/v1/workflows/"
        return httpx.get(address, headers=platform.login, timeout=5).is_success
    return False


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
    try:
        with _kept(HOME / "bare" / variant.slug, children):
            _until_answered(bare.app, variant.workers)
            yield bare
            gc.collect()  # Results in cycles say goodbye to Redis, which must be there to hear it.
    finally:
        bare.app.close()
        bare.redis.close()


@contextmanager
def _kept(home: Path, children: list[Child]) -> Iterator[None]:
    supervisor = Supervisor(home, say=_say)
    for child in children:
        supervisor.keep(child)
    try:
        supervisor.watch()
        yield
    finally:
        supervisor.stop()


def _say(name: str, line: str) -> None:
    if FAREWELL not in line and "Hitting Ctrl+C again" not in line:
        say(name, line)


def _until_answered(app: Celery, workers: int) -> None:
    until(lambda: len(app.control.ping(timeout=0.3) or ()) >= workers, 0.1, READY_WITHIN)


def until(is_so: Callable[[], Any], pause: float, patience: float) -> None:
    """Look again and again until it is so. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what the benchmark waits for was not there after {patience:g} s")
        time.sleep(pause)
