from typing import Any
from unittest.mock import patch

import psycopg
import pytest
from django.db import OperationalError

from tests.api.builders import API, a_client, problem_of
from workflows.api.parsers import MAX_BODY_BYTES
from workflows.models import Run

pytestmark = pytest.mark.django_db


def send(body: bytes, content_type: str = "application/json") -> Any:
    client = a_client("start_workflow")
    return client.generic("POST", f"{API}/runs/", body, content_type=content_type)


def test_a_problem_says_what_was_wrong_and_what_to_do() -> None:
    problem = problem_of(a_client().get(f"{API}/runs/"), 403)

    assert set(problem) == {"type", "code", "title", "status", "detail", "hint", "findings"}
    assert problem["detail"] == "You need the permission workflows.view_run."
    assert "administrator" in problem["hint"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff{}",
        b'{"workflow": NaN}',
        b'{"workflow": "a", "workflow": "b"}',
        b'{"workflow": "a", "input": {"x": 1e999}}',
        b'{"workflow": "a", "input": {"x": "\\u0000"}}',
        b'{"workflow": "a", "input": {"\\ud800": 1}}',
        b'{"workflow": "a", "input": ' + b"[" * 101 + b"]" * 101 + b"}",
        b"[" * 200_000,
        b"9" * 5_000,
    ],
)
def test_a_body_that_could_not_be_stored_is_refused(body: bytes) -> None:
    problem = problem_of(send(body), 400)

    assert problem["code"] == "unreadable_body"
    assert not Run.objects.exists()


def test_a_body_may_begin_with_a_byte_order_mark() -> None:
    response = send(b'\xef\xbb\xbf{"workflow": "none"}')

    assert problem_of(response, 404)["code"] == "not_found"


def test_a_body_that_is_too_large_is_not_read() -> None:
    refused = send(b" " * (MAX_BODY_BYTES + 1))

    assert "8 MiB" in problem_of(refused, 413)["detail"]


def test_a_body_of_another_type_is_refused() -> None:
    assert problem_of(send(b"workflow: x", "text/yaml"), 415)["code"] == "unsupported_media_type"


@pytest.mark.parametrize("path", ["/runs", "/run/", "/runs/1/", "/", "/runs/bulk/x/"])
def test_an_unknown_address_is_a_problem_too(path: str) -> None:
    missing = a_client("view_run").get(API + path)

    assert problem_of(missing, 404)["code"] == "no_such_address"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_an_unknown_method_is_a_problem_too(method: str) -> None:
    refused = a_client("view_run", "start_workflow").generic(method, f"{API}/runs/")

    assert problem_of(refused, 405)["code"] == "method_not_allowed"


def test_an_answer_in_another_format_is_refused() -> None:
    refused = a_client("view_run").get(f"{API}/runs/", headers={"Accept": "text/csv"})

    assert problem_of(refused, 406)["code"] == "not_acceptable"


@pytest.mark.parametrize("error", [OperationalError("gone"), psycopg.OperationalError("gone")])
def test_a_database_that_is_away_is_worth_another_try(error: Exception) -> None:
    client = a_client("start_workflow")
    with patch("workflows.api.runs.start_run", side_effect=error):
        response = client.post(f"{API}/runs/", {"workflow": "nightly"})

    problem = problem_of(response, 503)
    assert response["Retry-After"] == "5"
    assert "gone" not in problem["detail"]


def test_a_user_who_asks_too_often_is_told_when_to_come_back() -> None:
    client = a_client("view_run")
    with patch("rest_framework.throttling.UserRateThrottle.rate", "2/min", create=True):
        answers = [client.get(f"{API}/runs/") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2]["Retry-After"]) > 0
