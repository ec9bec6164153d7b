"""Dispatch values become Celery messages, chains and chords. Tasks are named, never imported."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, assert_never

import structlog
from celery import Signature, chain, chord, current_app, group
from celery.exceptions import QueueNotFound
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from workflows.dispatch import (
    ABREAST,
    Attend,
    Dispatch,
    FanOut,
    Line,
    Look,
    Refill,
    Segment,
    Vacated,
)

log = structlog.get_logger(__name__)

SEGMENT = "workers.run_segment"
BUNDLE = "workers.run_bundle"
TAKE = "workers.take_queued"
SETTLE = "workers.settle"
REFILL = "workers.refill"
TICK = "workers.tick"
ATTEND = "workers.attend"
FILL = "workers.fill_places"
ENGINE_QUEUE = "orchestrator"
BUNDLES_AT_LEAST = 8
QUICK_BUNDLES_AT_LEAST = 2

TICK_WITHIN = 5.0
"""Seconds after which a tick that nobody has fetched is worthless: the next one does the same."""

GIVEN_UP_FOR = 3.0
"""Seconds for which nobody waits for a broker that has just not answered."""


class CeleryPublisher:
    """Sends dispatches through the broker of the current Celery application.

    The broker has a second to answer (`orchestrator.celery`). Where it has not, publishing is
    given up at once for a while: whoever starts a run waits once, not for every message.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._given_up_until = 0.0

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """Send each; raises OSError when the broker cannot be reached or refuses."""
        with self._answering(), current_app.producer_or_acquire() as producer:
            for dispatch in bundled(dispatches):
                try:
                    canvas_of(dispatch).apply_async(producer=producer)
                except QueueNotFound:
                    log.exception("dispatch.nobody_listens", dispatch=dispatch)

    def ask_to_tick(self) -> None:
        """Have the engine do what is due; raises OSError like `publish`."""
        with self._answering():
            _tick().apply_async()

    def waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue; raises OSError like `publish`."""
        with self._answering(), current_app.connection_or_acquire() as connection:
            return message_count(connection.default_channel, queue)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        if self._clock() < self._given_up_until:
            raise OSError("The broker did not answer a moment ago.")
        try:
            yield
        except (OperationalError, RedisError, OSError) as error:
            self._given_up_until = self._clock() + GIVEN_UP_FOR
            raise OSError(str(error)) from error


def message_count(channel: Any, queue: str) -> int:
    """Return how many messages wait in a queue; one that does not exist yet has none."""
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError:
        return 0


@dataclass(frozen=True, slots=True)
class Bundle:
    """Attempts on one queue that travel in one message; a worker begins one after the other."""

    segments: tuple[Segment, ...]


def bundled(dispatches: Sequence[Dispatch]) -> Iterator[Dispatch | Bundle]:
    """Put segments of one queue together where there are many: a message costs more than a step.

    There are always enough bundles for many workers to begin at once; two, of what is quick.
    """
    queues: dict[tuple[str, bool], list[Segment]] = {}
    for dispatch in dispatches:
        if isinstance(dispatch, Segment):
            queues.setdefault((dispatch.queue, dispatch.is_quick), []).append(dispatch)
        else:
            yield dispatch
    for (_, is_quick), segments in queues.items():
        bundles = QUICK_BUNDLES_AT_LEAST if is_quick else BUNDLES_AT_LEAST
        size = min(ABREAST, len(segments) // bundles)
        if size <= 1:
            yield from segments
        else:
            yield from map(Bundle, batched(segments, size))


def batched(segments: Sequence[Segment], size: int) -> Iterator[tuple[Segment, ...]]:
    """Cut into pieces of at most `size`."""
    for first in range(0, len(segments), size):
        yield tuple(segments[first : first + size])


def canvas_of(dispatch: Dispatch | Bundle) -> Any:  # noqa: PLR0911 - a table, one line each
    """Return what Celery is to send for a dispatch."""
    match dispatch:
        case Segment():
            return _segment(dispatch)
        case Line(segments):
            pairs = zip(segments, [*segments[1:], None], strict=True)
            return chain(*(_segment(one, after.path if after else "") for one, after in pairs))
        case FanOut():
            return _takers(dispatch) if dispatch.is_loop else _fan_out(dispatch)
        case Refill(run, version, loops):
            place: dict[str, Any] = {"run": str(run), "version": str(version)}
            return _signature(REFILL, ENGINE_QUEUE, **place, loops=list(loops))
        case Look():
            return _tick()
        case Attend(run):
            return _signature(ATTEND, ENGINE_QUEUE, run=str(run))
        case Vacated(run):
            return _signature(FILL, ENGINE_QUEUE, run=str(run))
        case Bundle(segments):
            fences = [
                [*map(str, (one.run, one.version, one.path)), one.attempt] for one in segments
            ]
            return _signature(BUNDLE, segments[0].queue, fences=fences)
        case _:
            assert_never(dispatch)


def _tick() -> Signature[Any]:
    options = {"queue": ENGINE_QUEUE, "expires": TICK_WITHIN, "ignore_result": True}
    return Signature(TICK, kwargs={}, options=options, immutable=True)


def _fan_out(fan: FanOut) -> Signature[Any]:
    run, version, scope = str(fan.run), str(fan.version), fan.scope
    takers = [taker_of(fan.queue, run=run, version=version, scope=scope) for _ in range(fan.width)]
    return chord(takers, _signature(SETTLE, ENGINE_QUEUE, run=run, version=version, scope=scope))


def _takers(fan: FanOut) -> Signature[Any]:
    run, version, scope = str(fan.run), str(fan.version), fan.scope
    one = _signature(TAKE, fan.queue, run=run, version=version, scope=scope)
    return group(one.clone() for _ in range(fan.width))


def taker_of(queue: str, *, run: str, version: str, scope: str) -> Signature[Any]:
    """Return the message to one taker of a chord."""
    return _signature(TAKE, queue, keeps=True, run=run, version=version, scope=scope)


def _segment(segment: Segment, brings: str = "") -> Signature[Any]:
    fence: dict[str, Any] = {
        "run": str(segment.run),
        "version": str(segment.version),
        "path": segment.path,
        "attempt": segment.attempt,
    }
    if brings:
        fence["brings"] = brings
    return _signature(SEGMENT, segment.queue, **fence)


def _signature(task: str, queue: str, *, keeps: bool = False, **ids: Any) -> Signature[Any]:
    """Return a message; only the takers of a chord keep a result, which its body waits for."""
    # Celery's own way to make what Flower shows of the ids takes a tenth of a publication.
    options = {"queue": queue, "ignore_result": not keeps, "kwargsrepr": repr(ids)}
    return Signature(task, kwargs=ids, options=options, immutable=True)
