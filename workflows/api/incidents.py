"""Incidents: list, show, and the three things that can be done about one."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import OPEN, DiscardOrder, IncidentQuery, ReplayOrder, SkipOrder
from workflows.selectors.incidents import (
    IncidentFilter,
    get_incident,
    incident_document,
    list_incidents,
)
from workflows.selectors.shapes import IncidentDocument, PageDocument
from workflows.services.incidents import discard_incident, replay_incident, skip_incident


class Incidents(Door):
    """All incidents."""

    needs = {"GET": "workflows.view_incident"}
    query = {"GET": IncidentQuery}

    @extend_schema(operation_id="list_incidents", responses=PageDocument[IncidentDocument])
    def get(self, request: Request) -> Response:
        """List incidents, the newest first: the open ones, unless asked otherwise."""
        wanted = {**self.asked.where, "open": OPEN[self.asked.where["open"]]}
        return self.page(list_incidents(IncidentFilter(**wanted), **self.asked.page))


class OneIncident(Door):
    """An incident."""

    needs = {"GET": "workflows.view_incident"}

    @extend_schema(operation_id="show_incident", responses=IncidentDocument)
    def get(self, request: Request, incident_id: UUID) -> Response:
        """Show an incident, open or resolved."""
        return Response(incident_document(get_incident(incident_id)))


class ReplayIncident(Door):
    """Have the step tried again."""

    needs = {"POST": "workflows.replay_incident"}

    @extend_schema(operation_id="replay_incident", request=ReplayOrder, responses=IncidentDocument)
    def post(self, request: Request, incident_id: UUID) -> Response:
        """Have the step tried again, with corrected arguments if given."""
        replay_incident(incident_id=incident_id, **self.body(ReplayOrder), by=self.actor)
        return Response(incident_document(get_incident(incident_id)))


class SkipIncident(Door):
    """Count the step as done."""

    needs = {"POST": "workflows.skip_incident"}

    @extend_schema(operation_id="skip_incident", request=SkipOrder, responses=IncidentDocument)
    def post(self, request: Request, incident_id: UUID) -> Response:
        """Count the step as done, with the given output in its place."""
        skip_incident(incident_id=incident_id, **self.body(SkipOrder), by=self.actor)
        return Response(incident_document(get_incident(incident_id)))


class DiscardIncident(Door):
    """Give the step up."""

    needs = {"POST": "workflows.discard_incident"}

    @extend_schema(
        operation_id="discard_incident", request=DiscardOrder, responses=IncidentDocument
    )
    def post(self, request: Request, incident_id: UUID) -> Response:
        """Give the step up for good, and say why."""
        discard_incident(incident_id=incident_id, **self.body(DiscardOrder), by=self.actor)
        return Response(incident_document(get_incident(incident_id)))
