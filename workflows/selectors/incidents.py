"""Incidents: the dead letters. Open ones, unless a reader asks for others."""

from dataclasses import dataclass
from uuid import UUID

from django.db.models import QuerySet

from workflows.models import Incident
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import NEWEST_FIRST, PAGE, Page, page_of
from workflows.selectors.shapes import IncidentDocument, json_time, json_time_or_none


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """Which incidents: all that is given must hold; `open` as None means open and resolved."""

    open: bool | None = True
    error_class: str | None = None
    code: str | None = None
    workflow: str | None = None
    environment: str | None = None
    run: UUID | None = None


OPEN = IncidentFilter()


def incidents(where: IncidentFilter = OPEN) -> QuerySet[Incident]:
    """Return the incidents with the names they show."""
    found = Incident.objects.select_related("run__workflow", "run__environment").defer(
        "run__input", "run__output", "run__vars", "run__ending", "run__error"
    )
    if where.open is not None:
        found = found.filter(resolution="") if where.open else found.exclude(resolution="")
    wanted = {
        "error_class": where.error_class,
        "code": where.code,
        "run__workflow__name": where.workflow,
        "run__environment__name": where.environment,
        "run": where.run,
    }
    return found.filter(**{key: value for key, value in wanted.items() if value is not None})


def list_incidents(
    where: IncidentFilter = OPEN, *, after: str | None = None, limit: int = PAGE
) -> Page[IncidentDocument]:
    """Return a page of incidents, the newest first."""
    return page_of(incidents(where), NEWEST_FIRST, after=after, limit=limit).of(incident_document)


def get_incident(incident_id: UUID) -> Incident:
    """Return the incident, open or resolved. Raises `MissingError`."""
    try:
        return incidents(IncidentFilter(open=None)).get(pk=incident_id)
    except Incident.DoesNotExist:
        raise MissingError("incident", incident_id) from None


def incident_document(incident: Incident) -> IncidentDocument:
    """Return an incident as JSON."""
    return {
        "id": str(incident.pk),
        "run": str(incident.run_id),
        "workflow": incident.run.workflow.name,
        "environment": incident.run.environment.name,
        "path": incident.path,
        "attempt": incident.attempt,
        "error": {
            "class": incident.error_class,
            "code": incident.code,
            "message": incident.message,
            "details": incident.details,
        },
        "opened_at": json_time(incident.opened_at),
        "resolution": incident.resolution or None,  # type: ignore[typeddict-item] # the column's choices
        "resolved_at": json_time_or_none(incident.resolved_at),
        "resolved_by": incident.resolved_by or None,
        "note": incident.note,
    }
