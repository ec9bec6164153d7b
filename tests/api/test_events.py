"""Publishing CloudEvents in all their ways, and reading what came of them."""

import base64
import json
from typing import Any
from uuid import uuid4

import pytest
from rest_framework.test import APIClient

from tests.api.builders import API, a_client, problem_of
from tests.selectors.builders import a_version
from workflows import store
from workflows.language.limits import LARGEST_VALUE
from workflows.models import ReceivedEvent
from workflows.services.definitions import apply_definition
from workflows.services.events import hand_out

pytestmark = pytest.mark.django_db

ONE = "application/cloudevents+json"
MANY = "application/cloudevents-batch+json"
STARTED_BY_EVENTS = """
workflow: by-event
input: {type: object, properties: {order: {type: string}}}
triggers: [{event: {type: order.paid}}]
steps: [{id: ship, uses: log, with: {message: shipping}}]
"""


def an_event(**more: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid", **more}


def publish(body: Any, kind: str = ONE, client: APIClient | None = None, **headers: str) -> Any:
    raw = body if isinstance(body, bytes | str) else json.dumps(body)
    client = client or a_client("publish_event")
    return client.generic("POST", f"{API}/events/", raw, content_type=kind, headers=headers)


def attributes(**more: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in {**an_event(), **more}.items()}


def test_a_structured_event_is_received() -> None:
    answer = publish(an_event(data={"order": "A-1"}, subject="A-1", time="2026-01-31T12:00:00Z"))

    [told] = answer.json()["events"]
    stored = ReceivedEvent.objects.get()
    assert answer.status_code == 202
    assert (told["id"], told["duplicate"]) == (str(stored.pk), False)
    assert stored.envelope["data"] == {"order": "A-1"}
    assert stored.received_by.startswith("token:")


def test_the_same_event_again_is_a_duplicate_and_does_nothing() -> None:
    publish(an_event(data=1))

    again = publish(an_event(data=2))

    assert again.status_code == 200
    assert (again.json()["received"], again.json()["duplicates"]) == (0, 1)
    assert ReceivedEvent.objects.get().envelope["data"] == 1


def test_another_source_may_give_the_same_id() -> None:
    publish(an_event())

    other = publish(an_event(source="/warehouse"))

    assert other.status_code == 202
    assert ReceivedEvent.objects.count() == 2


def test_a_batch_is_received_and_what_stands_in_it_twice_is_one() -> None:
    answer = publish([an_event(), an_event(id="2"), an_event()], MANY)

    told = answer.json()
    assert (answer.status_code, told["received"], told["duplicates"]) == (202, 2, 1)
    assert [one["duplicate"] for one in told["events"]] == [False, False, True]


def test_an_empty_batch_is_nothing() -> None:
    answer = publish([], MANY)

    assert (answer.status_code, answer.json()["events"]) == (200, [])


def test_a_batch_with_a_wrong_event_is_refused_whole_with_every_finding() -> None:
    wrong = an_event(id="", time="yesterday", data=1, data_base64="eA==", Order="x")

    refused = publish([an_event(), wrong, 7], MANY)

    findings = {one["path"]: one["message"] for one in problem_of(refused, 422)["findings"]}
    assert set(findings) == {"[1].id", "[1].time", "[2]"}
    assert "2026-01-31T12:00:00Z" in findings["[1].time"]
    assert not ReceivedEvent.objects.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data": 1, "data_base64": "eA=="}, "both data and data_base64"),
        ({"data_base64": "%"}, "base64"),
        ({"specversion": "0.3"}, "'1.0'"),
        ({"traceParent": "x"}, "small letters and digits"),
        ({"trace": {"a": 1}}, "no text, whole number"),
        ({"time": "2026-01-31T12:00:00"}, "not a time"),
        ({"type": None}, "required"),
    ],
)
def test_an_event_that_is_no_cloudevent_is_refused(more: Any, said: str) -> None:
    refused = publish(an_event(**more))

    assert said in problem_of(refused, 422)["findings"][0]["message"]


def test_what_is_null_is_not_given() -> None:
    publish(an_event(subject=None, data=None))

    assert ReceivedEvent.objects.get().envelope == an_event()


def test_an_event_in_binary_mode_has_its_attributes_in_headers() -> None:
    named = attributes(subject="Z%C3%BCrich", traceparent="00-1")
    answer = publish({"order": "A-1"}, "application/json; charset=utf-8", **named)

    assert answer.status_code == 202
    assert ReceivedEvent.objects.get().envelope == an_event(
        subject="Zürich",
        traceparent="00-1",
        datacontenttype="application/json; charset=utf-8",
        data={"order": "A-1"},
    )


@pytest.mark.parametrize(
    ("kind", "body", "data"),
    [
        ("text/plain", "hällo", {"data": "hällo"}),
        ("application/vnd.shop+json", "[1]", {"data": [1]}),
        ("image/png", b"\x89PNG", {"data_base64": base64.b64encode(b"\x89PNG").decode()}),
        ("application/json", "", {}),
    ],
)
def test_the_data_of_a_binary_event_is_as_its_content_type_says(
    kind: str, body: Any, data: Any
) -> None:
    publish(body, kind, **attributes())

    stored = ReceivedEvent.objects.get().envelope
    assert {key: stored[key] for key in stored if key.startswith("data") and key in data} == data


def test_a_body_without_attributes_says_what_is_missing_and_how_to_give_it() -> None:
    refused = publish({"order": "A-1"}, "application/json")

    findings = problem_of(refused, 400)["findings"]
    paths = {one["path"] for one in findings}
    assert paths == {"ce-specversion", "ce-id", "ce-source", "ce-type"}
    assert ONE in findings[0]["message"]


@pytest.mark.parametrize("kind", ["application/cloudevents+xml", "application/cloudevents"])
def test_a_format_that_is_not_json_is_refused(kind: str) -> None:
    assert problem_of(publish("<x/>", kind), 415)["code"] == "unsupported_media_type"


@pytest.mark.parametrize(("kind", "body"), [(ONE, "[]"), (MANY, "{}"), (ONE, "{"), (ONE, "")])
def test_a_body_that_is_not_what_its_type_says_is_refused(kind: str, body: str) -> None:
    assert problem_of(publish(body, kind), 400)["code"] == "unreadable_body"


def test_an_event_that_is_too_large_is_refused() -> None:
    refused = publish(an_event(data="x" * LARGEST_VALUE))

    [finding] = problem_of(refused, 422)["findings"]
    assert "262,144" in finding["message"]
    assert not ReceivedEvent.objects.exists()


def test_too_many_events_at_once_are_refused() -> None:
    refused = publish([an_event(id=str(number)) for number in range(1001)], MANY)

    assert "at most 1000" in problem_of(refused, 422)["detail"]


def test_events_are_listed_the_newest_first_and_found_by_type_source_and_id() -> None:
    publish([an_event(), an_event(id="2"), an_event(id="3", type="order.sent")], MANY)
    client = a_client("view_receivedevent")

    listed = client.get(f"{API}/events/").json()["results"]
    found = client.get(f"{API}/events/?type=order.paid&source=/shop&event_id=2").json()["results"]

    assert [one["event_id"] for one in listed] == ["3", "2", "1"]
    assert [one["event_id"] for one in found] == ["2"]


def test_an_event_shows_what_it_says_and_what_it_did() -> None:
    a_version()
    apply_definition(text=STARTED_BY_EVENTS, source="test", by="person:ann")
    published = publish(an_event(data={"order": 7})).json()["events"][0]["id"]
    hand_out(now=store.now())
    client = a_client("view_receivedevent")

    shown = client.get(f"{API}/events/{published}/").json()
    [effect] = client.get(f"{API}/events/{published}/effects/").json()["results"]

    assert (shown["handed_out"], shown["refused_starts"]) == (True, 1)
    assert shown["event"] == an_event(data={"order": 7})
    assert (effect["kind"], effect["workflow"], effect["run"]) == ("refused", "by-event", None)
    assert "order" in effect["reason"]


def test_what_is_still_refused_is_answered_with_the_reason() -> None:
    a_version()
    apply_definition(text=STARTED_BY_EVENTS, source="test", by="person:ann")
    published = publish(an_event(data={"order": 7})).json()["events"][0]["id"]
    hand_out(now=store.now())

    refused = a_client("start_workflow").post(f"{API}/events/{published}/start-again/")

    assert "order" in problem_of(refused, 409)["detail"]


def test_an_event_that_is_not_there_is_not_found() -> None:
    client = a_client("view_receivedevent")

    assert problem_of(client.get(f"{API}/events/{uuid4()}/"), 404)["code"] == "not_found"
    assert problem_of(client.get(f"{API}/events/{uuid4()}/effects/"), 404)["code"] == "not_found"
