"""Events: what came from outside, and what each did."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from workflows.models import EffectKind, EventEffect, ReceivedEvent
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import NEWEST_FIRST, OLDEST_FIRST, PAGE, Page, page_of
from workflows.selectors.shapes import EffectDocument, EventDocument, EventSummary, json_time


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events: all that is given must hold; `id` is the one that the source gave."""

    type: str | None = None
    source: str | None = None
    id: str | None = None


EVERY_EVENT = EventFilter()


def events(where: EventFilter = EVERY_EVENT) -> QuerySet[ReceivedEvent]:
    """Return the events without what they say."""
    wanted = {"type": where.type, "source": where.source, "given_id": where.id}
    given = {key: value for key, value in wanted.items() if value is not None}
    return ReceivedEvent.objects.defer("envelope").filter(**given)


def list_events(
    where: EventFilter = EVERY_EVENT, *, after: str | None = None, limit: int = PAGE
) -> Page[EventSummary]:
    """Return a page of events, the newest first."""
    return page_of(events(where), NEWEST_FIRST, after=after, limit=limit).of(event_summary)


def get_event(event_id: UUID) -> ReceivedEvent:
    """Return the event. Raises `MissingError`."""
    try:
        return ReceivedEvent.objects.get(pk=event_id)
    except ReceivedEvent.DoesNotExist:
        raise MissingError("event", event_id) from None


def effects(event_id: UUID) -> QuerySet[EventEffect]:
    """Return what an event did."""
    return EventEffect.objects.filter(event=event_id).select_related("workflow")


def refused_starts(event_id: UUID) -> int:
    """Return how many runs an event should have started that were refused."""
    return effects(event_id).filter(kind=EffectKind.REFUSED.value).count()


def list_effects(
    event_id: UUID, *, after: str | None = None, limit: int = PAGE
) -> Page[EffectDocument]:
    """Return a page of what an event did, in the order that it did it. Raises `MissingError`."""
    if not ReceivedEvent.objects.filter(pk=event_id).exists():
        raise MissingError("event", event_id)
    page = page_of(effects(event_id), OLDEST_FIRST, after=after, limit=limit)
    return page.of(effect_document)


def event_summary(event: ReceivedEvent) -> EventSummary:
    """Return an event as a list shows it."""
    return {
        "id": str(event.pk),
        "event_id": event.given_id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject or None,
        "received_at": json_time(event.received_at),
        "received_by": event.received_by,
        "handed_out": event.wake_at is None,
    }


def event_document(event: ReceivedEvent) -> EventDocument:
    """Return an event with all that it says."""
    envelope: Mapping[str, Any] = event.envelope
    return {
        **event_summary(event),
        "event": dict(envelope),
        "refused_starts": refused_starts(event.pk),
    }


def effect_document(effect: EventEffect) -> EffectDocument:
    """Return a thing that an event did."""
    return {
        "id": str(effect.pk),
        "kind": effect.kind,
        "workflow": effect.workflow.name,
        "run": str(effect.run_id) if effect.run_id else None,
        "path": effect.path or None,
        "reason": effect.reason or None,
        "at": json_time(effect.at),
        "by": effect.by,
    }
