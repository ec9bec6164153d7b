"""Dispatch values become Celery messages, chains and chords. Tasks are named, never imported."""

from collections.abc import Sequence
from typing import Any, assert_never
from uuid import UUID

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
        except OperationalError as error:
            raise OSError(str(error)) from error


def canvas_of(dispatch: Dispatch) -> Any:
    """Return what Celery is to send for a dispatch."""
    match dispatch:
        case Segment():
            return _segment(dispatch)
        case Line(segments):
            pairs = zip(segments, [*segments[1:], None], strict=True)
            return chain(*(_segment(one, after.path if after else "") for one, after in pairs))
        case FanOut(run, queue, width, scope):
            takers = [taker_of(run, queue, scope) for _ in range(width)]
            body = _signature(SETTLE, ENGINE_QUEUE, run=str(run), scope=scope)
            return chord(takers, body)
        case _:
            assert_never(dispatch)


def taker_of(run: UUID, queue: str, scope: str) -> Signature[Any]:
    """Return the message to one taker of a fan-out."""
    return _signature(TAKE, queue, run=str(run), scope=scope)


def _segment(segment: Segment, brings: str = "") -> Signature:
    fence: dict[str, Any] = {
        "run": str(segment.run),
        "path": segment.path,
        "attempt": segment.attempt,
    }
    if brings:
        fence["brings"] = brings
    return _signature(SEGMENT, segment.queue, **fence)


def _signature(task: str, queue: str, **ids: Any) -> Signature:
    return Signature(task, kwargs=ids, options={"queue": queue}, immutable=True)
