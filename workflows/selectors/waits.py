"""What steps wait for from outside, and have waited for."""

from uuid import UUID

from workflows.models import Wait
from workflows.selectors.paging import PAGE, Order, Page, page_of
from workflows.selectors.shapes import WaitDocument, json_time, json_time_or_none
from workflows.selectors.steps import must_exist

BY_STEP = Order(("path", "attempt"))


def list_waits(
    run_id: UUID, *, is_open: bool | None = True, after: str | None = None, limit: int = PAGE
) -> Page[WaitDocument]:
    """Return a page of what the steps of a run wait for, by step. Raises `MissingError`.

    Those that are open, unless `is_open` says otherwise; None: all.
    """
    must_exist(run_id)
    found = Wait.objects.filter(run=run_id).select_related("step")
    if is_open is not None:
        found = found.filter(closed_at__isnull=is_open)
    return page_of(found, BY_STEP, after=after, limit=limit).of(wait_document)


def wait_document(wait: Wait) -> WaitDocument:
    """Return a wait as JSON."""
    is_open = wait.closed_at is None
    return {
        "path": wait.path,
        "attempt": wait.attempt,
        "kind": wait.kind,
        "name": wait.name,
        "request": wait.request,
        "opened_at": json_time(wait.opened_at),
        "until": json_time_or_none(wait.step.wake_at) if is_open else None,
        "closed_at": json_time_or_none(wait.closed_at),
        "end": wait.end or None,
        "answer": wait.answer,
        "answered_by": wait.answered_by or None,
    }
