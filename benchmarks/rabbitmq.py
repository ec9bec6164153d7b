"""A RabbitMQ for one benchmark: private directories, free ports, nothing of the system touched.

RabbitMQ is no part of the platform's own installation. Where it is not installed, bare Celery is
measured without it.
"""

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.launcher import any_free_port
from orchestrator.supervisor import Child, Supervisor

PLACES = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/opt/homebrew/sbin", "/usr/local/sbin")
READY_WITHIN = 60.0
NOWHERE = "nowhere"


def program() -> str | None:
    """Return the server's own start script; a distribution's wrapper would change the user."""
    return shutil.which("rabbitmq-server", path=os.pathsep.join(PLACES))


@contextmanager
def rabbitmq(home: Path, *, wanted: bool = True) -> Iterator[str | None]:
    """Have a RabbitMQ running and yield its address, or None if there is none."""
    server = program() if wanted else None
    if server is None:
        yield None
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    port = any_free_port()
    supervisor = Supervisor(home, say=lambda *_: None)
    supervisor.keep(Child("rabbitmq", (server,), _environment(home, port)))
    try:
        supervisor.watch()
        _wait_for(port)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        supervisor.stop()
        shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path, port: int) -> dict[str, str]:
    private = {
        "HOME": home,
        "RABBITMQ_MNESIA_BASE": home / "mnesia",
        "RABBITMQ_LOG_BASE": home / "log",
        "RABBITMQ_PID_FILE": home / "pid",
        "RABBITMQ_ENABLED_PLUGINS_FILE": home / NOWHERE,
        "RABBITMQ_CONFIG_FILE": home / NOWHERE,
        "RABBITMQ_CONF_ENV_FILE": home / NOWHERE,
        "RABBITMQ_NODENAME": f"benchmark-{os.getpid()}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": any_free_port(),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": any_free_port(),
    }
    return {name: str(value) for name, value in private.items()}


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    sys.exit(f"RabbitMQ did not come up in {READY_WITHIN:g} s. Remove it, or mend it.")
