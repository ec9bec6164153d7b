"""The door for callbacks, as a vendor meets it: with a URL and nothing else."""

import io
import json
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from environments.services import ensure_default
from tests.api.builders import API, a_client, problem_of
from tests.workflows.builders import a_run, claimed, finish, in_future, state, step, task
from workflows import links
from workflows.models import Callback, Run
from workflows.services.timers import tick

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _default(db: None) -> None:
    ensure_default()


def a_waiting_run(**keys: Any) -> Run:
    """Return a run that waits for a callback."""
    return a_run({"id": "vendor", "callback": {"timeout": "7d"}, **keys})


def url_of(run: Run, path: str = "vendor", attempt: int = 1) -> str:
    """Return the URL that the platform gives out, as the web server sees it."""
    return urlsplit(links.callback_url(run.pk, path, attempt)).path


def send(url: str, body: Any = None, **facts: Any) -> Any:
    """Send JSON, as whoever has no login does."""
    return Client().post(url, json.dumps(body), content_type="application/json", **facts)


def test_the_links_lead_to_the_door() -> None:
    run, path = uuid4(), "pack[3].vendor"
    url = links.callback_url(run, path, 2)
    signature = url.rstrip("/").rpartition("/")[2]

    address = reverse("api:callback", args=[run, path, 2, signature])

    assert url == f"http://127.0.0.1:8000{address}"


def test_whoever_has_the_url_answers_the_step() -> None:
    run = a_waiting_run()

    answer = send(url_of(run), {"ok": True})

    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "received", "detail": "The step vendor goes on."},
    )
    assert (state(run), step(run, "vendor").output) == ("COMPLETED", {"ok": True})


def test_a_callback_that_comes_early_is_accepted() -> None:
    run = a_run(task("before"), {"id": "vendor", "callback": {}})

    early = send(url_of(run), 1)
    finish(claimed(run, "before"))

    assert (early.status_code, early.json()["status"]) == (202, "kept")
    assert step(run, "vendor").output == 1


def test_the_same_again_is_told_so_and_another_is_refused() -> None:
    run = a_waiting_run()
    send(url_of(run), {"ok": True})

    again, other = send(url_of(run), {"ok": True}), send(url_of(run), {"ok": False})

    assert (again.status_code, again.json()["status"]) == (200, "already received")
    assert problem_of(other, 409)["code"] == "callback_mismatch"


def forged(url: str) -> str:
    """Return the URL with another signature."""
    place, _, signature = url.rstrip("/").rpartition("/")
    return f"{place}/{signature.swapcase()}/"


@pytest.mark.parametrize("wrong", [forged, lambda url: url.replace("/1/", "/2/")])
def test_a_wrong_signature_is_refused_and_told_nothing(wrong: Any) -> None:
    run = a_waiting_run()
    elsewhere = url_of(Run(id=uuid4()))

    refused = send(wrong(url_of(run)), 1)
    unknown = send(wrong(elsewhere), 1)

    assert problem_of(refused, 403)["code"] == "wrong_signature"
    assert refused.json() == unknown.json()
    assert not Callback.objects.exists()


def test_a_signature_is_looked_at_before_anything_else(
    django_assert_num_queries: Any,
) -> None:
    wrong = forged(url_of(Run(id=uuid4())))

    with django_assert_num_queries(0):
        send(wrong, "no matter")


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": 1, "a": 2}', b'"\\u0000"', b"a=1"])
def test_what_is_not_json_is_refused_and_nothing_is_lost(body: bytes) -> None:
    run = a_waiting_run()

    refused = Client().post(url_of(run), body, content_type="application/json")
    answer = send(url_of(run), "right")

    assert problem_of(refused, 400)["code"] == "unreadable_body"
    assert answer.status_code == 200
    assert step(run, "vendor").output == "right"


def test_a_body_that_is_too_large_is_refused() -> None:
    run = a_waiting_run()

    refused = send(url_of(run), "x" * 262_144)

    assert problem_of(refused, 413)["detail"] == "The body is larger than 256 KiB."
    assert state(run) == "RUNNING"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "a/b+json"])
def test_json_is_json_whatever_its_sender_calls_it(kind: str) -> None:
    run = a_waiting_run()

    answer = Client().post(f"{url_of(run)}?utm=1", b'{"ok": true}', content_type=kind)

    assert answer.status_code == 200
    assert step(run, "vendor").output == {"ok": True}


def test_a_bare_knock_is_an_answer_too() -> None:
    run = a_waiting_run()

    answer = Client().generic("POST", url_of(run))

    assert answer.status_code == 200
    assert (state(run), step(run, "vendor").output) == ("COMPLETED", None)


def test_a_body_of_unannounced_length_is_read() -> None:
    run = a_waiting_run()
    chunked = {"wsgi.input": io.BytesIO(b'{"ok": true}'), "wsgi.input_terminated": True}

    answer = Client().generic("POST", url_of(run), **chunked)

    assert answer.status_code == 200
    assert step(run, "vendor").output == {"ok": True}


def test_what_comes_too_late_is_gone() -> None:
    run = a_waiting_run()
    tick(now=in_future(8 * 86400))

    late = problem_of(send(url_of(run), 1), 410)

    assert late["code"] == "callback_over"
    assert late["detail"].endswith("is FAILED and waits for nothing any more.")


def test_a_callback_is_sent_not_fetched() -> None:
    run = a_waiting_run()

    assert Client().get(url_of(run)).status_code == 405
    assert state(run) == "RUNNING"


def test_the_url_is_shown_to_those_who_may_see_it() -> None:
    run = a_waiting_run()
    address = f"{API}/runs/{run.pk}/steps/vendor/callback/"

    shown = a_client("see_callback_url").get(address)
    refused = a_client("view_run", "view_step").get(address)

    assert shown.json() == {"url": links.callback_url(run.pk, "vendor", 1), "attempt": 1}
    assert (
        problem_of(refused, 403)["detail"] == "You need the permission workflows.see_callback_url."
    )


@pytest.mark.parametrize("path", ["other", "none"])
def test_a_step_that_waits_for_no_callback_has_no_url(path: str) -> None:
    run = a_waiting_run() if path == "none" else a_run(task("other"))

    answer = a_client("see_callback_url").get(f"{API}/runs/{run.pk}/steps/{path}/callback/")

    assert (
        problem_of(answer, 404)["detail"]
        == f"There is no step that waits for a callback at {path}."
    )


def test_the_waits_of_a_run_are_listed() -> None:
    run = a_run(
        {"id": "vendor", "callback": {}}, {"id": "rest", "needs": [], "wait": {"for": "1h"}}
    )
    send(url_of(run), 1)
    client = a_client("view_run")

    opened = client.get(f"{API}/runs/{run.pk}/waits/").json()["results"]
    closed = client.get(f"{API}/runs/{run.pk}/waits/?open=false").json()["results"]
    both = client.get(f"{API}/runs/{run.pk}/waits/?open=any&limit=1").json()

    assert [(one["path"], one["kind"], one["end"]) for one in opened] == [("rest", "time", None)]
    assert opened[0]["until"] > opened[0]["opened_at"]
    assert [(one["path"], one["end"], one["answered_by"]) for one in closed] == [
        ("vendor", "completed", "callback")
    ]
    assert both["next"] is not None


def test_nobody_without_the_permission_sees_what_is_waited_for() -> None:
    run = a_waiting_run()

    assert a_client().get(f"{API}/runs/{run.pk}/waits/").status_code == 403
    assert a_client("view_run").get(f"{API}/runs/{uuid4()}/waits/").status_code == 404
