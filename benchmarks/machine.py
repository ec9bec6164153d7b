"""On what, and with which versions, the figures were made. No name or path of the machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
from django.conf import settings
from django.db import connection
from kombu import Connection
from redis import Redis

from benchmarks.bare import redis_url

ROOT = Path(__file__).resolve().parent.parent
GIB = 2**30
PACKAGES = ("celery", "kombu", "redis", "django", "psycopg", "gunicorn")
DURABILITY = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "wal_compression",
)
QUIET_LOAD = 0.5


def machine() -> dict[str, str]:
    """Describe the machine."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / GIB:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
    }


def load_warning() -> str:
    """Say that the machine is busy, if it is: then the figures tell little."""
    load = os.getloadavg()[0]
    if load <= QUIET_LOAD:
        return ""
    return (
        f"The load average was {load:.2f} at the start: others worked on this machine, and the"
        " figures are lower and more scattered than they are on a quiet one."
    )


def versions(rabbitmq: str | None) -> dict[str, str]:
    """Return the versions of everything that takes part; the services must be running."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgresql = str(cursor.fetchone()[0])
    with Redis.from_url(redis_url(settings.ENV.broker)) as client:
        redis = str(client.info("server")["redis_version"])
    return {
        "Python": platform.python_version(),
        "PostgreSQL": postgresql,
        "Redis": redis,
        "RabbitMQ": _rabbitmq_version(rabbitmq),
        **{name: version(name) for name in PACKAGES},
    }


def durability() -> dict[str, str]:
    """Return PostgreSQL's settings that decide what a commit costs."""
    found = {}
    with connection.cursor() as cursor:
        for name in DURABILITY:
            cursor.execute(f"SHOW {name}")
            found[name] = str(cursor.fetchone()[0])
    return found


def revision() -> str:
    """Return the commit that was measured, and whether something was changed since."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _rabbitmq_version(address: str | None) -> str:
    if address is None:
        return "not installed"
    with Connection(address) as client:
        client.connect()
        return str(client.connection.server_properties["version"])
