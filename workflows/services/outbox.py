"""The outbox: queued steps are its rows. They are sent after the commit, which waits for nobody.

What the broker does not take is due at once, so that recovery sends it when the broker is back,
instead of when the step's message would have been missed.
"""

from collections.abc import Sequence
from typing import assert_never
from uuid import UUID

import psycopg
import structlog
from django.db import DatabaseError

from workflows import dispatch, store
from workflows.dispatch import Attend, Dispatch, FanOut, Line, Look, Refill, Segment, Vacated

log = structlog.get_logger(__name__)


def send(dispatches: Sequence[Dispatch]) -> bool:
    """Send what has been committed, and say whether it was taken; trouble is not the caller's."""
    if not dispatches or dispatch.publish(dispatches):
        return True
    try:
        store.make_due(
            steps=[segment for one in dispatches if (segment := _first(one)) is not None],
            fans=[(fan.run, fan.scope, fan.width) for fan in dispatches if isinstance(fan, FanOut)],
        )
    except (psycopg.Error, DatabaseError) as error:
        log.warning("outbox.not_hastened", error=str(error))
    return False


def _first(one: Dispatch) -> tuple[UUID, str, int] | None:
    match one:
        case Segment():
            segment = one
        case Line(segments):
            segment = segments[0]
        case FanOut() | Refill() | Look() | Attend() | Vacated():
            return None
        case _:
            assert_never(one)
    return segment.run, segment.path, segment.attempt
