"""Who waits for a place among the runs of a workflow with the same key: behind whom, for whom."""

from django.db.models import Q

from workflows.engine.states import PLACE_HOLDERS, RunState
from workflows.models import Run
from workflows.selectors.shapes import PlaceDocument

MOST_COUNTED = 1000
"""Nobody looks further down a line."""

SHOWN = 10


def place_in_line(run: Run) -> PlaceDocument | None:
    """Return what a run waits for that has not begun; None when it waits for no place."""
    if run.state != RunState.PENDING or run.concurrency_key is None:
        return None
    same = Run.objects.filter(workflow=run.workflow_id, concurrency_key=run.concurrency_key)
    before = Q(created_at__lt=run.created_at) | Q(created_at=run.created_at, pk__lt=run.pk)
    ahead = same.filter(before, state=RunState.PENDING.value).order_by()[:MOST_COUNTED].count()
    holding = same.filter(state__in=[state.value for state in PLACE_HOLDERS]).order_by("pk")
    return {
        "key": run.concurrency_key,
        "limit": run.concurrency_limit or 1,
        "number": ahead + 1,
        "runs": [str(pk) for pk in holding.values_list("pk", flat=True)[:SHOWN]],
    }
