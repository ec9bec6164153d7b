"""The pulse of a worker: a thread of its parent process says that it lives, and watches itself.

Celery's own ping is answered by a worker that has stopped consuming, so it proves nothing. This
says what the worker has taken, and when; and a worker that takes nothing of what waits for it,
and carries out nothing, ends itself, for its supervisor to start it anew.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from celery import Celery
from celery.signals import task_received, worker_ready, worker_shutdown
from django.db import Error, connection
from kombu.exceptions import OperationalError

from workers.canaries import periods
from workers.models import Pulse
from workers.publisher import message_count

log = structlog.get_logger(__name__)

ENDS_WITHIN = 30.0
"""Seconds that a wedged worker has to end in good order before it is ended in bad."""

LEAVES_WITHIN = 5.0
"""Seconds that a worker which ends waits for the thread."""

BEAT = """
    INSERT INTO workers_pulse (
        name, queues, processes, seen_at, uptime, broker_uptime, taken, waiting
    )
    VALUES (%s, %s, %s, clock_timestamp(), %s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET
        queues = EXCLUDED.queues, processes = EXCLUDED.processes, seen_at = EXCLUDED.seen_at,
        uptime = EXCLUDED.uptime, broker_uptime = EXCLUDED.broker_uptime, taken = EXCLUDED.taken,
        waiting = EXCLUDED.waiting
"""


@dataclass(slots=True)
class Stopwatch:
    """What a worker knows of itself; times are its own monotonic clock's."""

    queues: Sequence[str]
    processes: int
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    broker_since: float | None = None
    taken: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    waited_since: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def took(self, queue: str) -> None:
        """Note that a message was taken from a queue."""
        self.taken[queue] = self.clock()

    def saw(self, waiting: dict[str, int] | None) -> None:
        """Note what waits in the queues; None when the broker does not answer."""
        now = self.clock()
        if waiting is None:
            self.broker_since = None
            self.waited_since.clear()
            return
        self.broker_since = now if self.broker_since is None else self.broker_since
        self.waiting = waiting
        for queue, number in waiting.items():
            if number:
                self.waited_since.setdefault(queue, now)
            else:
                self.waited_since.pop(queue, None)

    def stuck_for(self) -> float:
        """Return for how long messages have waited in a queue of which nothing was taken."""
        now = self.clock()
        ages = [
            now - max(since, self.taken.get(queue, 0.0))
            for queue, since in self.waited_since.items()
        ]
        return max(ages, default=0.0)

    def row(self, name: str) -> list[Any]:
        """Return what is said: ages instead of times."""
        now = self.clock()
        return [
            name,
            json.dumps(list(self.queues)),
            self.processes,
            now - self.started,
            None if self.broker_since is None else now - self.broker_since,
            json.dumps({queue: now - at for queue, at in self.taken.items()}),
            json.dumps(self.waiting),
        ]


class Heart(threading.Thread):
    """Beats until it is told to stop."""

    def __init__(self, app: Celery, name: str, watch: Stopwatch, active: Callable[[], int]) -> None:
        super().__init__(name="pulse", daemon=True)
        self._app = app
        self._worker = name
        self.watch = watch
        self._active = active
        self._stopping = threading.Event()
        self._broker: Any = None

    def run(self) -> None:
        """Look, speak, and watch, again and again."""
        was_stuck = False
        while True:
            self.watch.saw(self._look())
            self._speak()
            is_stuck = self.watch.stuck_for() > periods().restart and not self._active()
            if is_stuck and was_stuck:
                self._end()
            was_stuck = is_stuck  # Once may be the moment between a long step and the next.
            if self._stopping.wait(periods().pulse):
                return

    def leave(self) -> None:
        """Say goodbye: a worker that has ended in good order is not missed."""
        self._stopping.set()
        self.join(timeout=LEAVES_WITHIN)
        try:
            Pulse.objects.filter(name=self._worker).delete()
        except Error as error:
            log.warning("pulse.unheard", error=str(error))
        finally:
            connection.close()

    def _look(self) -> dict[str, int] | None:
        try:
            if self._broker is None:
                self._broker = self._app.connection_for_write()
            channel = self._broker.default_channel
            return {queue: message_count(channel, queue) for queue in self.watch.queues}
        except (OperationalError, OSError, *self._broker.connection_errors) as error:
            if self.watch.broker_since is not None:
                log.warning("pulse.broker_away", worker=self._worker, error=str(error))
            self._broker, broker = None, self._broker
            broker.collect()
            return None

    def _speak(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(BEAT, self.watch.row(self._worker))
        except Error as error:
            log.warning("pulse.unheard", error=str(error))
        finally:
            connection.close()

    def _end(self) -> None:
        log.error(
            "worker.wedged",
            worker=self._worker,
            waiting=self.watch.waiting,
            seconds=round(self.watch.stuck_for()),
            next="It ends; its supervisor starts it anew.",
        )
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stopping.wait(ENDS_WITHIN):
            os._exit(1)


_heart: Heart | None = None


@worker_ready.connect
def begin(sender: Any, **_: object) -> None:
    """Begin to beat, once, when the worker consumes for the first time."""
    global _heart  # noqa: PLW0603 - signals have no other place to keep what they begin
    if _heart is not None:
        return
    watch = Stopwatch(list(sender.app.amqp.queues.consume_from), sender.pool.num_processes)
    active = sender.controller.state.active_requests
    _heart = Heart(sender.app, str(sender.hostname), watch, lambda: len(active))
    _heart.start()


@task_received.connect
def take(request: Any, **_: object) -> None:
    """Note which queue a message came from."""
    if _heart is not None:
        _heart.watch.took(request.delivery_info["routing_key"])


@worker_shutdown.connect
def leave(**_: object) -> None:
    """Say goodbye."""
    if _heart is not None:
        _heart.leave()
