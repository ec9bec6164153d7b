"""A Redis that a test may stop, block and make refuse, and an application that sends through it."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from celery import Celery, current_app

from orchestrator import embedded
from orchestrator.celery import application
from tests.support.platform import Platform, a_process

NAME = "of-a-test"
"""What tells a fleet's worker from others of its environment."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A Redis of one test's own, whatever is done to it."""

    home: Path
    url: str

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url.replace("redis+socket:", "unix:"))

    @property
    def pid(self) -> int:
        found = embedded.status(self.home)["redis"]
        assert found is not None, "the broker does not run"
        return found

    def start(self) -> None:
        embedded.start(self.home, postgresql=False)

    def stop(self) -> None:
        embedded.stop(self.home)

    def block(self) -> None:
        """Have it take connections and answer nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def unblock(self) -> None:
        if (pid := embedded.status(self.home)["redis"]) is not None:
            os.kill(pid, signal.SIGCONT)

    def fill(self) -> None:
        """Have its memory be full."""
        self.client.config_set("maxmemory", "1")

    def follow(self) -> None:
        """Have it be the replica of a server that is not there: it takes no writes."""
        self.client.replicaof("127.0.0.1", "1")

    def lock(self) -> None:
        """Have it want a password that nobody has."""
        self.client.config_set("requirepass", "another")
        redis.Redis.from_url(
            self.url.replace("redis+socket:", "unix:"), password="another"
        ).client_kill_filter(_type="normal")

    def lengths(self, *queues: str) -> int:
        """Return how many messages wait in the queues."""
        return sum(int(self.client.llen(queue)) for queue in queues)  # type: ignore[arg-type]


@contextmanager
def a_broker() -> Iterator[Broker]:
    """Have a Redis until the block ends."""
    with tempfile.TemporaryDirectory() as parent:
        home = Path(parent, "home")
        broker = Broker(home, embedded.start(home, postgresql=False).broker_url)
        try:
            yield broker
        finally:
            broker.unblock()
            embedded.remove(home)


@contextmanager
def sending_through(broker: Broker) -> Iterator[Celery]:
    """Have the current application of this process be one that sends through the broker."""
    before = current_app._get_current_object()
    own = application()
    own.conf.update(broker_url=broker.url, result_backend=broker.url)
    own.set_current()
    try:
        yield own
    finally:
        own.close()
        before.set_current()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The processes of a platform whose broker is a test's own, by the program that they are."""

    broker: Broker
    platform: Platform
    processes: dict[str, "subprocess.Popen[bytes]"]

    def lives(self) -> bool:
        return all(process.poll() is None for process in self.processes.values())


@contextmanager
def a_fleet(broker: Broker, env: Mapping[str, str]) -> Iterator[Fleet]:
    """Have beat, the engine's worker and one of `default` until the block ends.

    The worker has a name of its own, for the session's workers may be on the same database.
    """
    env = dict(env) | {"BROKER_URL": broker.url, "RESULT_URL": broker.url}
    more = {"worker default": ("--name", NAME)}
    with ExitStack() as stack:
        processes = {
            program: stack.enter_context(a_process(env, *program.split(), *more.get(program, ())))
            for program in ("engine", "worker default", "beat")
        }
        yield Fleet(broker, Platform(env), processes)
