"""What has come for a step before it began to wait: it is told in the same transaction.

So a step whose answer is there already waits for nobody. An answer that comes at just this moment
is told by whoever brings it, and in the worst case by the next sweep of recovery.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from workflows import store
from workflows.engine.decision import Awaited
from workflows.engine.events import Answered
from workflows.engine.states import Reason
from workflows.store import KeptCallback


def may_have_come(waits: Iterable[Awaited]) -> bool:
    """Say whether what is waited for may be there already."""
    return any(awaited.kind is Reason.CALLBACK for awaited in waits)


def answers(run_id: UUID, waits: Sequence[Awaited], *, now: datetime) -> list[Answered]:
    """Take what has come already for steps that begin to wait. The caller holds their locks."""
    wanted = [(one.path, one.attempt) for one in waits if one.kind is Reason.CALLBACK]
    if not wanted:
        return []
    kept = store.kept_callbacks(run_id, wanted)
    if kept:
        store.mark_delivered([one.id for one in kept], at=now)
    return [answer_of(one) for one in kept]


def answer_of(callback: KeptCallback) -> Answered:
    """Return what the step that a callback is kept for is told."""
    return Answered(
        callback.path,
        Reason.CALLBACK,
        callback.body,
        attempt=callback.attempt,
        answer={"callback": str(callback.id)},
    )
