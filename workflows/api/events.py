"""Events: publish, list, show, what each did, and start again what was refused."""

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.cloudevents import AnyBody, events_of
from workflows.api.door import Door
from workflows.api.forms import EventQuery, NoForm, PageQuery
from workflows.api.shapes import PublishedDocument, ReportDocument, report_document
from workflows.selectors.events import (
    EventFilter,
    event_document,
    get_event,
    list_effects,
    list_events,
)
from workflows.selectors.shapes import (
    EffectDocument,
    EventDocument,
    EventSummary,
    PageDocument,
    json_time,
)
from workflows.services.errors import StateRefusedError
from workflows.services.events import Published, publish_event, publish_events, start_again

BODIES = {
    "application/cloudevents+json": OpenApiTypes.OBJECT,
    "application/cloudevents-batch+json": {"type": "array", "items": {"type": "object"}},
    "application/json": OpenApiTypes.ANY,
}


class Events(Door):
    """All events."""

    parser_classes = [AnyBody]
    needs = {"GET": "workflows.view_receivedevent", "POST": "workflows.publish_event"}
    query = {"GET": EventQuery}

    @extend_schema(operation_id="list_events", responses=PageDocument[EventSummary])
    def get(self, request: Request) -> Response:
        """List events, the newest first."""
        return self.page(list_events(EventFilter(**self.asked.where), **self.asked.page))

    @extend_schema(
        operation_id="publish_events",
        request=BODIES,
        responses={202: PublishedDocument, 200: PublishedDocument},
    )
    def post(self, request: Request) -> Response:
        """Publish CloudEvents: 202 if any is new, 200 if all are known and nothing was done.

        One event or a batch as JSON, or one event as the body and `ce-` headers.
        """
        events = events_of(request)
        if isinstance(events, list):
            published = publish_events(events=events, by=self.actor)
        else:
            published = [publish_event(event=events, by=self.actor)]
        created = sum(one.created for one in published)
        answer = {
            "received": created,
            "duplicates": len(published) - created,
            "events": [_published(one) for one in published],
        }
        return Response(answer, status=202 if created else 200)


class OneEvent(Door):
    """An event."""

    needs = {"GET": "workflows.view_receivedevent"}

    @extend_schema(operation_id="show_event", responses=EventDocument)
    def get(self, request: Request, event_id: UUID) -> Response:
        """Show an event and all that it says."""
        return Response(event_document(get_event(event_id)))


class EffectsOfEvent(Door):
    """What an event did."""

    needs = {"GET": "workflows.view_receivedevent"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_effects", responses=PageDocument[EffectDocument])
    def get(self, request: Request, event_id: UUID) -> Response:
        """List what an event did: steps it woke, runs it started, starts that were refused."""
        return self.page(list_effects(event_id, **self.asked.page))


class StartAgain(Door):
    """Start what was refused."""

    needs = {"POST": "workflows.start_workflow"}

    @extend_schema(operation_id="start_again", request=NoForm, responses=ReportDocument)
    def post(self, request: Request, event_id: UUID) -> Response:
        """Start the runs that the event should have started and that were refused."""
        self.body(NoForm)
        report = start_again(event_id=event_id, by=self.actor)
        if not report.done:
            raise StateRefusedError(report.sentence())
        return Response(report_document(report))


def _published(one: Published) -> dict[str, Any]:
    return {
        "id": str(one.id),
        "event_id": one.event["id"],
        "source": one.event["source"],
        "type": one.event["type"],
        "duplicate": not one.created,
        "received_at": json_time(one.received_at),
    }
