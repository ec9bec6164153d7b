"""Every test session has a PostgreSQL and a Redis of its own, started here, removed at the end."""

from pathlib import Path

import psutil
import pytest
from django.conf import settings

from orchestrator import embedded


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the services, once for a session and all its xdist workers."""
    home = settings.EMBEDDED_HOME
    if home is None or _is_xdist_worker(session.config):
        return
    _remove_what_killed_sessions_left(home.parent)
    embedded.start(home, **settings.ENV.embedded_parts)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the services and remove their files."""
    home = settings.EMBEDDED_HOME
    if home is None or _is_xdist_worker(session.config):
        return
    embedded.remove(home)


def _is_xdist_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _remove_what_killed_sessions_left(parent: Path) -> None:
    for home in parent.glob("test-*"):
        pid = home.name.removeprefix("test-")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            embedded.remove(home)
