"""PostgreSQL and Redis for a checkout, without a package manager, a port or a daemon of the system.

`start` is idempotent: it adopts what runs, clears away what a `kill -9` left behind and starts the
rest. Everything lives below one home directory (`.local`), so two checkouts never meet. Where the
services are is derived from the home alone (`services_of`), whether they run or not.
"""

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orchestrator.embedded import postgres, redis
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.places import make_directory, places_of

__all__ = [
    "EmbeddedError",
    "Services",
    "remove",
    "services_of",
    "start",
    "status",
    "stop",
    "why_unreachable",
]


@dataclass(frozen=True, slots=True)
class Services:
    """The addresses of one checkout's services."""

    database_url: str
    broker_url: str


def services_of(home: Path) -> Services:
    """Derive the addresses that the services of the home directory have whenever they run."""
    places = places_of(home)
    return Services(
        database_url=f"postgresql://{postgres.SUPERUSER}@/{postgres.DATABASE}"
        f"?host={quote(str(places.sockets), safe='')}",
        broker_url=f"redis+socket://{quote(str(places.redis_socket))}",
    )


def start(home: Path) -> Services:
    """Have both services running and return their addresses.

    Raises:
        EmbeddedError: if a directory, a socket or a server cannot be had.

    """
    places = places_of(home)
    with _alone(home):
        postgres.start(places)
        redis.start(places)
    return services_of(home)


def stop(home: Path) -> None:
    """Stop both services. Stopping what does not run is not an error."""
    places = places_of(home)
    with _alone(home):
        redis.stop(places)
        postgres.stop(places)


def remove(home: Path) -> None:
    """Stop both services and delete everything they keep."""
    stop(home)
    places = places_of(home)
    for directory in (places.sockets, places.base, places.home):
        shutil.rmtree(directory, ignore_errors=True)


def status(home: Path) -> dict[str, int | None]:
    """Return the process id of each service, or None for one that does not run."""
    places = places_of(home)
    return {"postgresql": postgres.pid_of(places), "redis": redis.pid_of(places)}


def why_unreachable() -> str:
    """Say what to do about a database that does not answer."""
    from django.conf import settings

    if settings.EMBEDDED_HOME is None:
        return "The database at DATABASE_URL does not answer. Check the address and the server."
    return (
        f"The embedded PostgreSQL in {settings.EMBEDDED_HOME} does not answer. "
        "Start it with `make run`, or alone with `manage.py services start`."
    )


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    make_directory(home, mode=0o755)
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
