"""The processes of the platform, each by one name: `python -m orchestrator web|beat|engine|...`.

The launcher and the containers start the same programs, so the options of each stand here alone.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING

from orchestrator import names, supervisor
from orchestrator.env import Env

if TYPE_CHECKING:
    from click import Command

PR_SET_PDEATHSIG = 1
ADMIN, ADMIN_WITHOUT_PAGES = "django.contrib.admin", "django.contrib.admin.apps.SimpleAdminConfig"


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
    _end_with_the_launcher()
    _set_up()
    from celery.bin.beat import beat

    _celery(beat, "--pidfile=")


def engine(env: Env) -> None:
    """Be a worker of the engine's own queue."""
    _worker(names.hold("engine", platform=env.database), ["orchestrator"], env.engine_concurrency)


def worker(env: Env, environment: str, name: str = "") -> None:
    """Be a worker of one environment: of all its queues, and of no other's.

    A second one on the same machine has a number in its name, or the name that it is given.
    """
    _spare_children_of_sigterm()
    _set_up()
    from orchestrator.fleet import queues_of

    usual = f"env-{environment}"
    wanted = f"{usual}-{name}" if name else usual
    known_as = names.hold(wanted, platform=env.database, exactly=bool(name))
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
    _end_with_the_launcher()
    _set_up()
    from orchestrator.celery import app

    arguments = [
        "--quiet",
        "flower",
        f"--address={env.flower_host}",
        f"--port={url.port}",
        "--url_prefix=flower",
        "--read_only=True",
        "--persistent=False",
        "--max_tasks=2000",
    ]
    sys.exit(app.start(arguments))


def _worker(name: str, queues: list[str], processes: int) -> None:
    """Be a Celery worker; `workers.warden` says what it does when it is told to stop."""
    _end_with_the_launcher()
    _spare_children_of_sigterm()
    _set_up()
    _spare_children_a_parser()
    _make_no_folders()
    from celery.bin.worker import worker

    # Celery warns root of pickled messages, which no worker of ours accepts.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    _celery(worker, *worker_options(name, queues, processes))


def _spare_children_of_sigterm() -> None:
    """Have the children hear SIGQUIT instead; systemd sends SIGTERM to all processes at once.

    Billiard reads this when it is imported, which `django.setup` does already.
    """
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"


def _spare_children_a_parser() -> None:
    """Have the children tell Linux that they end with their parent as this module does it.

    Billiard's own way to that one system call parses C where cffi is installed, in every child.
    """
    from celery import platforms

    platforms._set_pdeathsig = _end_with_the_parent  # type: ignore[attr-defined] # noqa: SLF001


def _make_no_folders() -> None:
    """Have shared memory lie where a file without a name can: no folder is there to be left behind.

    A pool makes one for each parent process, which a parent that is killed does not remove.
    """
    multiprocessing.current_process()._config["tempdir"] = tempfile.gettempdir()  # type: ignore[attr-defined] # noqa: SLF001


def worker_options(name: str, queues: list[str], processes: int) -> list[str]:
    """Return the options of a Celery worker of the platform."""
    return [
        f"--hostname={name}@%h",
        f"--queues={','.join(queues)}",
        f"--concurrency={processes}",
        "--without-gossip",
        "--without-mingle",
    ]


def _set_up() -> None:
    """Set Django up for a program that serves no pages: it does not load them.

    All applications are there, so that every table is known. But the admin does not look for its
    pages, and Celery does not run Django's checks, which load every page and whose findings it
    would not read; `orchestrator.urls` loads the pages for who wants an address all the same.
    """
    os.environ["CELERY_SKIP_CHECKS"] = "true"
    import django
    from django.conf import settings

    settings.INSTALLED_APPS = [
        ADMIN_WITHOUT_PAGES if name == ADMIN else name for name in settings.INSTALLED_APPS
    ]
    django.setup()


def _celery(command: "Command", *arguments: str) -> None:
    """Carry out one command of Celery; its whole command line would load a shell and Flower."""
    from celery.bin.base import CLIContext

    from orchestrator.celery import app

    context = CLIContext(app=app, no_color=False, workdir=None, quiet=True)
    sys.exit(command.main(arguments, obj=context, standalone_mode=False))


def _end_with_the_launcher() -> None:
    """End in good order when the launcher dies."""
    if supervisor.MARK in os.environ:
        _end_with_the_parent(signal.SIGTERM)


def _end_with_the_parent(number: int) -> None:
    """Ask Linux for a signal when the parent process dies, whatever it dies of."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
