"""The names of workers: on one machine each belongs to one process at a time.

Celery and the table of pulses know a worker by its name. A name is held as an address that the
kernel gives to one process and takes back when that is gone, whatever it died of.
"""

import errno
import hashlib
import os
import socket

MOST = 1000
_held: list[socket.socket] = []


class NameTakenError(SystemExit):
    """Another worker of the platform on this machine has the name."""


def hold(name: str, *, platform: str, exactly: bool = False) -> str:
    """Hold a name until this process ends, and return it; with a number if others have it.

    `platform` tells apart what has nothing to do with each other on this machine. Raises
    NameTakenError when the name is to be had `exactly`, and is not.
    """
    for number in range(1, 2 if exactly else MOST):
        wanted = name if number == 1 else f"{name}-{number}"
        if _is_mine(f"{platform}\n{wanted}"):
            return wanted
    raise NameTakenError(
        f"A worker that is called {name} runs on this machine already. "
        "Start this one with another --name, or without: then it finds one by itself."
    )


def _is_mine(fact: str) -> bool:
    """Bind an abstract address, which is no file. Children do not keep it from whoever is next."""
    address = f"\0orchestrator-{hashlib.sha256(fact.encode()).hexdigest()}"
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        door.bind(address)
    except OSError as error:
        door.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    os.register_at_fork(after_in_child=door.close)
    _held.append(door)
    return True
