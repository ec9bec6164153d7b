"""Every test session has a PostgreSQL and a Redis of its own, started here, removed at the end."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil
import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.backends.postgresql.operations import DatabaseOperations
from django.utils import timezone
from psycopg.errors import DeadlockDetected
from pytest_django.fixtures import Settings
from pytest_django.plugin import DjangoDbBlocker

from environments.services import ensure_default
from orchestrator import embedded
from orchestrator.celery import app
from orchestrator.supervisor import Child, Supervisor, end_marked
from tests.support.home import PREFIX, is_of_tests
from tests.support.platform import Platform, ticking
from tests.support.publisher import RECORDER
from workflows import dispatch
from workflows.store.clock import Reading, clock

WORKERS_WITHIN = 30.0
FLUSHES = 5
"""How often the tables are emptied after a test, at most, when somebody is in the way."""

LET_GO = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
"""Ends the sessions of processes that are gone, and of threads that nobody waits for."""


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the services, once for a session and all its xdist workers."""
    home = settings.EMBEDDED_HOME
    if home is None or _is_xdist_worker(session.config):
        return
    if not is_of_tests(home):
        message = (
            f"The services in {home} are not those of a test, and would be removed at the end: run "
            "the tests with the settings tests.settings (is DJANGO_SETTINGS_MODULE set?)."
        )
        raise pytest.UsageError(message)
    _remove_what_killed_sessions_left(home.parent)
    embedded.start(home, **settings.ENV.embedded_parts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the services and remove their files."""
    home = settings.EMBEDDED_HOME
    if home is None or _is_xdist_worker(session.config) or not is_of_tests(home):
        return
    embedded.remove(home)


def _is_xdist_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _remove_what_killed_sessions_left(parent: Path) -> None:
    for home in parent.glob(f"{PREFIX}*"):
        pid = home.name.removeprefix(PREFIX)
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            end_marked(home)
            embedded.remove(home)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The database of the tests, which nobody is connected to any more when it is removed."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(LET_GO)


@pytest.fixture(scope="session", autouse=True)
def _patient_flush() -> Iterator[None]:
    """Empty the tables once more when a worker of the session was at two of them just then."""
    flush = DatabaseOperations.execute_sql_flush

    def patiently(self: DatabaseOperations, statements: list[str]) -> None:
        for _ in range(FLUSHES - 1):
            try:
                return flush(self, statements)
            except OperationalError as error:
                if not isinstance(error.__cause__, DeadlockDetected):
                    raise
        return flush(self, statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", patiently)
        yield


@pytest.fixture(scope="session")
def process_env(django_db_setup: None) -> dict[str, str]:
    """What a process must have in its environment to work on the database of the tests."""
    database = settings.DATABASES["default"]
    address = urlencode({"host": database["HOST"], "port": database["PORT"] or 5432})
    login = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}"
    return {
        "DATABASE_URL": f"postgresql://{login}@/{connection.settings_dict['NAME']}?{address}",
        "BROKER_URL": settings.CELERY_BROKER_URL,
        "RESULT_URL": settings.CELERY_RESULT_BACKEND,
        "SECRET_KEY": settings.SECRET_KEY,
        "VAULT_KEY": ",".join(settings.ORCHESTRATOR["VAULT_KEYS"]),
    }


@pytest.fixture(scope="session")
def celery_workers(
    process_env: dict[str, str], django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Real workers: the engine's, and that of the environment `default`, until the session ends."""
    with django_db_blocker.unblock():
        ensure_default()
    # Marked as this database's own: another xdist worker ends its own, and only those.
    supervisor = Supervisor(settings.ENV.home / connection.settings_dict["NAME"])
    for name, arguments in {"engine": ["engine"], "env-default": ["worker", "default"]}.items():
        command = (sys.executable, "-m", "orchestrator", *arguments)
        supervisor.keep(Child(name, command, process_env | {"LOG_LEVEL": "WARNING"}))
    supervisor.watch()
    try:
        deadline = time.monotonic() + WORKERS_WITHIN
        while len(app.control.ping(timeout=0.5)) < len(supervisor.names):
            assert time.monotonic() < deadline, "the workers did not come up; see their output"
        yield
    finally:
        supervisor.stop()


@pytest.fixture(autouse=True)
def _clock() -> None:
    """Have no test ask the database for the time: what statements there are is counted."""
    clock.reading, clock.due = Reading(timezone.now(), time.monotonic()), math.inf


@pytest.fixture
def platform(
    transactional_db: None, celery_workers: None, process_env: dict[str, str]
) -> Iterator[Platform]:
    """The running platform: real workers, and the clock of the engine; with `default`."""
    ensure_default()
    with ticking():
        yield Platform(process_env)


@pytest.fixture(autouse=True)
def _publisher(request: pytest.FixtureRequest, settings: Settings) -> Iterator[None]:
    """Have messages remembered instead of sent, but for a test that asks for real workers.

    The workers of one test file go on through the session, and would carry out the runs of others.
    """
    if "celery_workers" in request.fixturenames:
        yield
        return
    recording = {"PUBLISHER": "tests.support.publisher.the_recorder"}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | recording
    dispatch.publisher.cache_clear()
    RECORDER.forget()
    yield
    dispatch.publisher.cache_clear()
