"""Incidents of a run that is cancelled: nobody need look at them any more."""

from uuid import UUID

from workflows import store
from workflows.language.words import ErrorClass
from workflows.models import Incident, Resolution


def close_incidents(run_id: UUID, by: str) -> None:
    """Close the open incidents of a run, but for those of effects that are uncertain."""
    found = Incident.objects.filter(run_id=run_id, resolution="")
    found.exclude(error_class=ErrorClass.UNCERTAIN.value).update(
        resolution=Resolution.CANCELLED.value,
        resolved_by=by,
        resolved_at=store.now(),
        note="The run was cancelled.",
    )
