"""The processes of the platform, each by one name: `python -m orchestrator web|beat|engine|...`.

The launcher and the containers start the same programs, so the options of each stand here alone.
"""

import ctypes
import os
import signal
import sys
import warnings

from orchestrator import supervisor
from orchestrator.env import Env

PR_SET_PDEATHSIG = 1


def web(env: Env, place: str) -> None:
    """Become the web server at `host:port` or `fd://N`: gunicorn with threads.

    Threads, for a request mostly waits.
    """
    _end_with_the_launcher()
    arguments = [
        "gunicorn",
        "orchestrator.wsgi",
        f"--bind={place}",
        "--worker-class=gthread",
        f"--workers={env.web_workers}",
        f"--threads={env.web_threads}",
        "--max-requests=20000",
        "--max-requests-jitter=2000",
        "--graceful-timeout=10",
        "--log-level=warning",
        "--no-control-socket",
    ]
    os.execv(sys.executable, [sys.executable, "-m", *arguments])  # noqa: S606


def beat() -> None:
    """Be the clock, whose schedule is in the database."""
    _celery("beat", "--pidfile=")


def engine(env: Env) -> None:
    """Be a worker of the engine's own queue."""
    _worker("engine", ["orchestrator"], env.engine_concurrency)


def worker(env: Env, environment: str, name: str = "") -> None:
    """Be a worker of one environment: of all its queues, and of no other's.

    A second one on the same machine needs a name: Celery knows workers by name and host.
    """
    _spare_children_of_sigterm()
    import django

    django.setup()
    from orchestrator.fleet import queues_of

    known_as = f"env-{environment}-{name}" if name else f"env-{environment}"
    _worker(known_as, queues_of(environment), env.worker_concurrency)


def flower(env: Env) -> None:
    """Be Flower, for reading only, at the address and behind the password of FLOWER_URL."""
    from urllib.parse import urlsplit

    if env.flower_url is None:
        raise SystemExit(
            "Setting FLOWER_URL is missing: the address and password to serve Flower at."
        )
    url = urlsplit(env.flower_url)
    os.environ["FLOWER_BASIC_AUTH"] = f"{url.username}:{url.password}"
    _celery(
        "flower",
        f"--address={env.flower_host}",
        f"--port={url.port}",
        "--url_prefix=flower",
        "--read_only=True",
        "--persistent=False",
        "--max_tasks=2000",
    )


def _worker(name: str, queues: list[str], processes: int) -> None:
    """Be a Celery worker; `workers.warden` says what it does when it is told to stop."""
    _spare_children_of_sigterm()
    # Celery warns root of pickled messages, which no worker of ours accepts.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    _celery("worker", *worker_options(name, queues, processes))


def _spare_children_of_sigterm() -> None:
    """Have the children hear SIGQUIT instead; systemd sends SIGTERM to all processes at once.

    Billiard reads this when it is imported, which `django.setup` does already.
    """
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"


def worker_options(name: str, queues: list[str], processes: int) -> list[str]:
    """Return the options of a Celery worker of the platform."""
    return [
        f"--hostname={name}@%h",
        f"--queues={','.join(queues)}",
        f"--concurrency={processes}",
        "--without-gossip",
        "--without-mingle",
    ]


def _celery(*arguments: str) -> None:
    _end_with_the_launcher()
    from orchestrator.celery import app

    sys.exit(app.start(["--quiet", *arguments]))


def _end_with_the_launcher() -> None:
    """Ask Linux for a SIGTERM when the launcher dies, whatever it dies of."""
    if supervisor.MARK in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
