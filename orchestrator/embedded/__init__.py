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

from orchestrator.embedded import postgres_server, redis_server
from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.places import make_directory, places_of

__all__ = [
    "EmbeddedError",
    "Services",
    "make_home",
    "remove",
    "services_of",
    "start",
    "status",
    "stop",
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
        database_url=f"postgresql://{postgres_server.SUPERUSER}@/{postgres_server.DATABASE}"
        f"?host={quote(str(places.sockets), safe='')}",
        broker_url=f"redis+socket://{quote(str(places.redis_socket))}",
    )


def start(home: Path, *, postgresql: bool = True, redis: bool = True) -> Services:
    """Have the wanted services running and return their addresses.

    Raises:
        EmbeddedError: if a directory, a socket or a server cannot be had.

    """
    places = places_of(home)
    with _alone(home):
        make_directory(places.base, mode=0o755)
        owner = postgres_server.owner_of(places) if postgresql else None
        make_directory(places.sockets, mode=0o700, owner=owner)
        if postgresql:
            postgres_server.start(places)
        if redis:
            redis_server.start(places)
    return services_of(home)


def stop(home: Path) -> None:
    """Stop both services. Stopping what does not run is not an error."""
    places = places_of(home)
    with _alone(home):
        redis_server.stop(places)
        postgres_server.stop(places)


def remove(home: Path) -> None:
    """Stop both services and delete everything they keep."""
    stop(home)
    places = places_of(home)
    for directory in (places.sockets, places.base, places.home):
        shutil.rmtree(directory, ignore_errors=True)


def status(home: Path) -> dict[str, int | None]:
    """Return the process id of each service, or None for one that does not run."""
    places = places_of(home)
    return {"postgresql": postgres_server.pid_of(places), "redis": redis_server.pid_of(places)}


def make_home(home: Path) -> None:
    """Make the home directory.

    Raises:
        EmbeddedError: if it cannot be made, or belongs to somebody else.

    """
    make_directory(home, mode=0o755)


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    make_home(home)
    with (home / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
