"""Publishing events from a shell, and looking at what they did."""

import pytest

from environments.services import ensure_default
from tests.commands.builders import manage
from workflows import store
from workflows.models import EventEffect, ReceivedEvent, Run
from workflows.services.definitions import apply_definition
from workflows.services.events import hand_out

pytestmark = pytest.mark.django_db

BY_EVENT = """
workflow: by-event
input: {type: object, required: [order], properties: {order: {type: string}}}
triggers: [{event: {type: order.paid}}]
steps: [{id: ship, uses: log, with: {message: shipping}}]
"""


def test_an_event_is_published_with_its_data() -> None:
    answer = manage(
        "event", "publish", "order.paid", "--data", '{"order": "A-1"}', "--subject", "x"
    )

    stored = ReceivedEvent.objects.get()
    assert answer.status == 0
    assert f"manage.py event show {stored.pk}" in answer.out
    assert (stored.type, stored.source, stored.subject) == ("order.paid", "/manage.py", "x")
    assert stored.envelope["data"] == {"order": "A-1"}
    assert stored.received_by.startswith("command:")


def test_the_same_id_again_says_when_it_was_received() -> None:
    manage("event", "publish", "order.paid", "--id", "7")

    again = manage("event", "publish", "order.paid", "--id", "7")
    as_json = manage("event", "publish", "order.paid", "--id", "7", "--json").json()

    assert "The event 7 of /manage.py was received on" in again.out
    assert "nothing was done" in again.out
    assert as_json == {"id": str(ReceivedEvent.objects.get().pk), "duplicate": True}


def test_a_whole_event_is_published_as_it_is() -> None:
    event = '{"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}'

    manage("event", "publish", "--event", event)

    assert ReceivedEvent.objects.get().source == "/shop"


def test_an_event_without_a_type_is_refused_with_what_is_missing() -> None:
    answer = manage("event", "publish")

    assert answer.status == 2
    assert "type" in answer.err


def test_events_are_listed_and_shown_with_what_they_did() -> None:
    ensure_default()
    apply_definition(text=BY_EVENT, source="test", by="person:ann")
    manage("event", "publish", "order.paid", "--data", '{"order": "A-1"}')
    manage("event", "publish", "order.sent", "--id", "9")
    hand_out(now=store.now())
    paid = ReceivedEvent.objects.get(type="order.paid")

    listed = manage("event", "list", "--type", "order.paid", "--json").json()["results"]
    shown = manage("event", "show", paid.pk, "--json").json()
    sent = manage("event", "show", ReceivedEvent.objects.get(type="order.sent").pk).out

    assert [one["id"] for one in listed] == [str(paid.pk)]
    assert shown["effects"]["results"][0]["run"] == str(Run.objects.get().pk)
    assert "Nobody waited for it" in sent
    assert "order.sent" in manage("event", "list").out


def test_what_was_refused_says_why_and_how_to_start_it_again() -> None:
    ensure_default()
    apply_definition(text=BY_EVENT, source="test", by="person:ann")
    manage("event", "publish", "order.paid", "--data", "7")
    hand_out(now=store.now())
    event = ReceivedEvent.objects.get()

    shown = manage("event", "show", event.pk).out
    again = manage("event", "start-again", event.pk)

    assert f"manage.py event start-again {event.pk}" in shown
    assert again.status == 2
    assert "Give the trigger an input" in again.err


def test_what_can_be_started_by_now_is_started_again() -> None:
    ensure_default()
    apply_definition(text=BY_EVENT, source="test", by="person:ann")
    manage("event", "publish", "order.paid", "--data", "7")
    hand_out(now=store.now())
    mended = BY_EVENT.replace("order.paid}", "order.paid, input: {order: A-1}}")
    apply_definition(text=mended, source="test", by="person:ann")

    answer = manage("event", "start-again", ReceivedEvent.objects.get().pk)

    assert answer.out == "Start: 1 done.\n"
    assert EventEffect.objects.get().run_id == Run.objects.get().pk


def test_an_event_that_is_not_there_is_named() -> None:
    answer = manage("event", "show", "00000000-0000-7000-8000-000000000000")

    assert answer.status == 2
    assert "There is no event 00000000" in answer.err
