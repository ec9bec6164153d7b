"""Dispatch values become Celery messages, chains and chords. Tasks are named, never imported."""

from collections.abc import Sequence
from typing import Any, assert_never

from celery import Signature, chain, chord, current_app
from kombu.exceptions import OperationalError

from workflows.dispatch import Dispatch, FanOut, Line, Segment

SEGMENT = "workers.run_segment"
TAKE = "workers.take_queued"
SETTLE = "workers.settle"
ENGINE_QUEUE = "orchestrator"


class CeleryPublisher:
    """Sends dispatches through the broker of the current Celery application."""

    def publish(self, dispatches: Sequence[Dispatch]) -> None:
        """Send each; raises OSError when the broker cannot be reached."""
        try:
            with current_app.producer_or_acquire() as producer:
                for dispatch in dispatches:
                    canvas_of(dispatch).apply_async(producer=producer)
        except (OperationalError, RuntimeError) as error:
            # A RuntimeError is how Celery's Redis results say that they cannot be reached.
            raise OSError(str(error)) from error


def canvas_of(dispatch: Dispatch) -> Any:
    """Return what Celery is to send for a dispatch."""
    match dispatch:
        case Segment():
            return _segment(dispatch)
        case Line(segments):
            pairs = zip(segments, [*segments[1:], None], strict=True)
            return chain(*(_segment(one, after.path if after else "") for one, after in pairs))
        case FanOut():
            return _fan_out(dispatch)
        case _:
            assert_never(dispatch)


def _fan_out(fan: FanOut) -> Signature[Any]:
    run, version = str(fan.run), str(fan.version)
    takers = [
        taker_of(fan.queue, run=run, version=version, scope=fan.scope) for _ in range(fan.width)
    ]
    return chord(
        takers, _signature(SETTLE, ENGINE_QUEUE, run=run, version=version, scope=fan.scope)
    )


def taker_of(queue: str, *, run: str, version: str, scope: str) -> Signature[Any]:
    """Return the message to one taker of a fan-out."""
    return _signature(TAKE, queue, run=run, version=version, scope=scope)


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


def _signature(task: str, queue: str, **ids: Any) -> Signature[Any]:
    """Return a message; only the takers of a chord keep a result, which its body waits for."""
    keeps = task == TAKE
    options = {"queue": queue, "ignore_result": not keeps}
    return Signature(task, kwargs=ids, options=options, immutable=True)
