"""Flower is seen by staff who may see runs, through the platform's own door."""

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

pytestmark = pytest.mark.django_db


@pytest.fixture
def flower(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    url = httpserver.url_for("").replace("http://", "http://flower:secret@")
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"flower_url": url}))
    return httpserver


def client_of(*, staff: bool, superuser: bool) -> Client:
    user = get_user_model().objects.create_user("someone", is_staff=staff, is_superuser=superuser)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_a_stranger_is_sent_to_the_login(flower: HTTPServer) -> None:
    answer = Client().get("/flower/workers")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")
    assert flower.log == []


def test_staff_without_the_permission_are_refused(flower: HTTPServer) -> None:
    answer = client_of(staff=True, superuser=False).get("/flower/workers")

    assert answer.status_code == 403
    assert flower.log == []


def test_staff_see_flowers_page_without_knowing_its_password(flower: HTTPServer) -> None:
    def page(request: Request) -> Response:
        assert request.authorization
        return Response(f"{request.authorization.password} {request.query_string.decode()}")

    flower.expect_request("/flower/workers").respond_with_handler(page)

    answer = client_of(staff=True, superuser=True).get("/flower/workers?refresh=1")

    assert answer.content == b"secret refresh=1"
    assert "Content-Security-Policy" in answer.headers


def test_the_task_table_may_ask_for_its_rows(flower: HTTPServer) -> None:
    flower.expect_request(
        "/flower/tasks/datatable", method="POST", data="draw=1"
    ).respond_with_json({"data": []})

    answer = client_of(staff=True, superuser=True).post(
        "/flower/tasks/datatable", "draw=1", content_type="application/x-www-form-urlencoded"
    )

    assert answer.json() == {"data": []}


def test_nothing_is_changed_through_flower(flower: HTTPServer) -> None:
    answer = client_of(staff=True, superuser=True).post("/flower/api/task/revoke/some-id")

    assert answer.status_code == 405
    assert flower.log == []


def test_a_flower_that_does_not_answer_is_reported(
    flower: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = settings.ENV.model_copy(update={"flower_url": "http://127.0.0.1:1"})
    monkeypatch.setattr(settings, "ENV", nobody)

    answer = client_of(staff=True, superuser=True).get("/flower/")

    assert answer.status_code == 503
    assert b"Flower does not answer" in answer.content
