"""The whole platform from one command: services, schema, account, examples, processes.

Everything here can be done again at any moment: what exists is kept, what a killed launcher left
behind is ended first, and leaving by Ctrl-C, SIGTERM or an error stops all that was started.
"""

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx

from orchestrator import embedded
from orchestrator.env import FIRST_PORT, ROOT, Env, url_of
from orchestrator.supervisor import MARK, Child, Supervisor, end_marked, say

PORTS_TRIED = 100
WEB_WITHIN = 60.0
ANSWER_WITHIN = 2.0
ENVIRONMENTS_EVERY = 5.0
QUIET = "WARNING"
MAIN_EXAMPLE = "backup-verification"


class LaunchError(Exception):
    """The platform cannot be started; the sentence says why and what to do."""


def up(env: Env, *, once: bool) -> int:
    """Run the platform until it is told to stop, or with `once` until the main example ended.

    Returns:
        The exit status: the example's with `once`, else 0.

    Raises:
        LaunchError: if the platform already runs here, or a port is taken.
        embedded.EmbeddedError: if an embedded service cannot be had.

    """
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    with _only_launcher(env.home), _services(env):
        prepare()
        return _supervise(env, stopping, once=once)


def down(env: Env, *, remove: bool) -> None:
    """End whatever a launcher that was killed left running; with `remove`, delete all data too."""
    with _only_launcher(env.home):
        ended = end_marked(env.home)
        if remove:
            embedded.remove(env.home)
        else:
            embedded.stop(env.home)
    say("launcher", f"stopped; {ended} leftover processes were ended")


@contextlib.contextmanager
def _only_launcher(home: Path) -> Iterator[None]:
    embedded.make_home(home)
    with (home / "launcher.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise LaunchError(
                f"The platform already runs in {ROOT}, started by process {lock.read().strip()}. "
                "Use it, or stop that process first (Ctrl-C in its terminal)."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def _services(env: Env) -> Iterator[None]:
    if left := end_marked(env.home):
        say("launcher", f"ended {left} processes that an earlier start left behind")
    embedded.start(env.home, **env.embedded_parts)
    try:
        yield
    finally:
        embedded.stop(env.home)


def prepare() -> None:
    """Bring schema, account, environment and examples to what they should be."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    django.setup()
    from orchestrator.accounts import ensure_admin

    if advice := settings.ENV.advice():
        say("launcher", advice)
    call_command("migrate", verbosity=0)
    if settings.ENV.embedded_parts["postgresql"]:
        _release_steps_of_ended_workers()
    if account := ensure_admin():
        say("launcher", f"admin account: {account.username}, password: {account.password}")
        say("launcher", "the password is shown this once; `manage.py changepassword` sets another")
    from environments import services

    services.ensure_default()
    if examples := settings.ENV.installed_examples:
        paths = (ROOT / name.replace(".", "/") / "workflow.yaml" for name in examples)
        call_command("workflow", "apply", *map(str, paths))


def _release_steps_of_ended_workers() -> None:
    """Let steps go on that were running when everything was killed: nobody works on them now.

    Only with the embedded database, whose workers are this launcher's and have been ended.
    """
    from workflows import store
    from workflows.services import recovery

    for line in recovery.release_all(now=store.now()).lines:
        say("launcher", line)


def _supervise(env: Env, stopping: threading.Event, *, once: bool) -> int:
    with listen(env.web_host, env.web_port) as door:
        return _supervise_behind(door, env, stopping, once=once)


def _supervise_behind(
    door: socket.socket, env: Env, stopping: threading.Event, *, once: bool
) -> int:
    url = url_of(env.web_host, door.getsockname()[1])
    flower = f"http://flower:{secrets.token_hex(16)}@127.0.0.1:{any_free_port()}"
    supervisor = Supervisor(env.home, patience=env.soft_shutdown_seconds)
    shared = {"FLOWER_URL": flower, "PUBLIC_URL": env.public_url or url}
    if "log_level" not in env.model_fields_set:
        shared["LOG_LEVEL"] = QUIET
    web = [sys.executable, "-m", "orchestrator", "web", f"--socket={door.fileno()}"]
    supervisor.keep(Child("web", tuple(web), shared, inherits=(door.fileno(),)))
    for name in ("beat", "flower", "engine"):
        supervisor.keep(_child(name, [name], shared))
    fleet = _Fleet(supervisor, shared)

    def watch() -> bool:
        fleet.follow()
        supervisor.watch()
        return not stopping.wait(0.2)

    try:
        if _wait_for_web(url, watch):
            _announce(url)
        status = _run_main_example(env.home, watch) if env.installed_examples else 0
        if env.installed_examples and not once and not stopping.is_set():
            _announce(url)  # what was said of it before the example has scrolled away
        while not once and watch():
            pass
    finally:
        say("launcher", "stopping")
        supervisor.stop()
    return status if once else 0


class _Fleet:
    """Keeps one worker for each active environment, also for those activated or retired later."""

    def __init__(self, supervisor: Supervisor, shared: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._shared = shared
        self._kept: set[str] = set()
        self._due = 0.0
        self._away = False

    def follow(self) -> None:
        """Start and stop workers as the environments say, every few seconds."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + ENVIRONMENTS_EVERY
        active = self._active()
        for name in sorted(active - self._kept):
            self._supervisor.keep(_child(f"env-{name}", ["worker", name], self._shared))
        for name in sorted(self._kept - active):
            self._supervisor.release(f"env-{name}")
        self._kept = active

    def _active(self) -> set[str]:
        from django.db import DatabaseError, connection

        from orchestrator.fleet import active_environments

        try:
            if connection.connection is not None and not connection.is_usable():
                connection.close()
            found = set(active_environments())
        except DatabaseError as error:
            if not self._away:
                say("launcher", f"the environments cannot be read: {error}")
            self._away = True
            connection.close()
            return self._kept
        else:
            self._away = False
            return found


def _child(name: str, arguments: list[str], environment: Mapping[str, str]) -> Child:
    return Child(name, (sys.executable, "-m", "orchestrator", *arguments), environment)


def _wait_for_web(url: str, watch: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + WEB_WITHIN
    while watch() and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/admin/login/", timeout=ANSWER_WITHIN).is_success:
                return True
    say("launcher", f"the web server does not answer at {url}; see its lines above")
    return False


def _announce(url: str) -> None:
    say("launcher", f"admin     {url}/admin/")
    say("launcher", f"REST API  {url}/api/v1/docs/")
    say("launcher", f"Flower    {url}/flower/  (staff only)")
    say("launcher", "stop with Ctrl-C")


def _run_main_example(home: Path, watch: Callable[[], bool]) -> int:
    """Run the main example to its end, its own output on the terminal; return its exit status."""
    example = subprocess.Popen(
        [sys.executable, "manage.py", "workflow", "run", MAIN_EXAMPLE, "--wait"],
        cwd=ROOT,
        env=os.environ | {MARK: str(home)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    while (status := example.poll()) is None:
        if not watch():
            example.terminate()
            return example.wait()
    say("launcher", f"the example {MAIN_EXAMPLE} ended with status {status}")
    return status


def listen(host: str, wanted: int | None) -> socket.socket:
    """Listen at the wanted port; without a wish at the first free one from 8000.

    The port is held from here on, so that no other platform can take it before the web server
    answers there.

    Raises:
        LaunchError: if the wanted port, or every tried one, is taken.

    """
    tried = range(FIRST_PORT, FIRST_PORT + PORTS_TRIED) if wanted is None else [wanted]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in tried:
        with contextlib.suppress(OSError):
            return socket.create_server((host, port), family=family)
    if wanted is None:
        raise LaunchError(
            f"Every port of {host} from {FIRST_PORT} to {tried[-1]} is taken. "
            "Free one, or set WEB_PORT."
        )
    raise LaunchError(
        f"Port {wanted} of {host} cannot be had: another program has it, or it needs more rights. "
        "Set WEB_PORT to another port, or leave it unset to take the next free one."
    )


def any_free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
