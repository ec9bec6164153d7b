"""The pages of events: what came, what each did, and what was refused to start."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from environments.services import ensure_default, move_environment
from tests.admin.builders import started
from workflows import store
from workflows.models import EventEffect, ReceivedEvent, Run
from workflows.services.definitions import apply_definition
from workflows.services.events import hand_out, publish_event

Door = Callable[[str], Client]

LIST = "admin:workflows_receivedevent_changelist"
BY_EVENT = """
workflow: by-event
triggers: [{event: {type: order.paid}}]
steps: [{id: ship, uses: log, with: {message: shipping}}]
"""
WAITS = """
workflow: waits
steps: [{id: paid, event: {type: order.paid}}]
"""


def an_event(number: int = 1, **more: Any) -> ReceivedEvent:
    """Publish an event and hand it out."""
    event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "order.paid"}
    published = publish_event(event={**event, **more}, by="person:ann")
    hand_out(now=store.now())
    return ReceivedEvent.objects.get(pk=published.id)


def a_refused_start() -> ReceivedEvent:
    """Have an event meet a closed environment, which is open again by now."""
    ensure_default()
    apply_definition(text=BY_EVENT, source="test", by="person:ann")
    move_environment(name="default", state="DRAINING", by="person:ann")
    event = an_event(data={})
    move_environment(name="default", state="ACTIVE", by="person:ann")
    return event


def page_of(client: Client, event: ReceivedEvent) -> str:
    url = reverse("admin:workflows_receivedevent_change", args=[event.pk])
    return client.get(url).content.decode()


def test_the_list_says_what_each_event_did(door: Door) -> None:
    started(WAITS, none="")
    an_event(1)
    an_event(2)

    seen = door("viewers").get(reverse(LIST)).content.decode()

    assert "Woke steps" in seen
    assert "Nobody waited" in seen


def test_a_list_of_twenty_events_costs_as_many_queries_as_a_list_of_one(door: Door) -> None:
    client = door("viewers")
    an_event(0)
    client.get(reverse(LIST))
    costs = []

    for numbers in (range(1, 2), range(2, 20)):
        for number in numbers:
            an_event(number)
        with CaptureQueriesContext(connection) as captured:
            client.get(reverse(LIST))
        costs.append(len(captured))

    assert costs[0] == costs[1]


def test_events_are_found_by_the_id_that_their_source_gave_them(door: Door) -> None:
    an_event(1, subject="order A-1")
    an_event(2, subject="order A-2")

    found = door("viewers").get(reverse(LIST), {"q": "2"}).content.decode()

    assert "order A-2" in found
    assert "order A-1" not in found


def test_the_page_of_an_event_names_the_runs_that_it_woke(door: Door) -> None:
    run = started(WAITS, none="")
    event = an_event(data={"sum": 12})

    seen = page_of(door("viewers"), event)

    assert reverse("admin:workflows_run_change", args=[run.pk]) in seen
    assert "&quot;sum&quot;: 12" in seen


def test_a_refused_start_is_found_with_its_reason_and_started_again(door: Door) -> None:
    event = a_refused_start()
    client = door("operators")

    listed = client.get(reverse(LIST), {"starts": "refused"}).content.decode()
    seen = page_of(client, event)
    url = reverse("admin:workflows_receivedevent_start_again", args=[event.pk])
    client.post(url)

    assert "Refused to start" in listed
    assert "DRAINING" in seen
    assert url in seen
    assert EventEffect.objects.get(event=event).kind == "started"
    assert Run.objects.get().started_by == "person:operators-ann"
    assert url not in page_of(client, event)


def test_a_viewer_cannot_start_again(door: Door) -> None:
    event = a_refused_start()
    url = reverse("admin:workflows_receivedevent_start_again", args=[event.pk])
    client = door("viewers")

    answer = client.post(url)

    assert answer.status_code == 403
    assert url not in page_of(client, event)
    assert not Run.objects.exists()


@pytest.mark.parametrize("object_id", ["none", "00000000-0000-7000-8000-000000000000"])
def test_an_event_that_is_not_there_is_not_found(object_id: str, door: Door) -> None:
    url = reverse("admin:workflows_receivedevent_change", args=[object_id])

    assert door("viewers").get(url).status_code == 404
