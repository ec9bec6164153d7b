"""While the database is away, pages, API and clock say so; then they go on by themselves."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import close_old_connections
from django.test import Client
from django_celery_beat.models import PeriodicTask

from orchestrator.celery import app
from orchestrator.clock import Clock
from tests.api.builders import API, a_client, problem_of
from tests.support.proxy import Proxy, proxied_database
from workflows.store import outage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def network() -> Iterator[Proxy]:
    with proxied_database() as made:
        yield made
    outage.over()


@pytest.fixture
def ann() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("ann"))
    return client


def served(client: Client, path: str) -> Any:
    """Ask as a server is asked: Django's own client leaves out the look at old connections."""
    close_old_connections()
    return client.get(path)


def test_a_page_says_that_nothing_is_lost_and_is_back_at_the_first_request(
    network: Proxy, ann: Client
) -> None:
    network.refuse()

    away = served(ann, "/admin/")
    network.resume()
    back = served(ann, "/admin/")

    assert (away.status_code, away["Retry-After"]) == (503, "5")
    assert "Nothing that was stored is lost" in away.content.decode()
    assert "Traceback" not in away.content.decode()
    assert back.status_code == 200


def test_a_connection_that_was_cut_between_two_requests_is_not_noticed(
    network: Proxy, ann: Client
) -> None:
    ann.get("/admin/")

    network.cut()

    assert served(ann, "/admin/").status_code == 200


def test_the_api_answers_with_a_problem_and_is_back_at_the_first_request(network: Proxy) -> None:
    client = a_client("view_run")
    network.refuse()

    problem = problem_of(client.get(f"{API}/runs/"), 503)
    network.resume()

    assert problem["code"] == "unavailable"
    assert "Nothing that was stored is lost" in problem["hint"]
    assert served(client, f"{API}/runs/").status_code == 200


def test_an_outage_is_one_line_in_the_log_of_a_web_process(
    network: Proxy, ann: Client, caplog: pytest.LogCaptureFixture
) -> None:
    network.refuse()

    for _ in range(5):
        ann.get("/admin/")
        ann.get(f"{API}/runs/")

    told = [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert [record.msg["event"] for record in told] == ["database.away"]


def test_an_error_that_is_no_outage_is_still_one(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.views.get_run", Mock(side_effect=LookupError("a mistake")))

    answer = ann.get(f"/monitoring/runs/{uuid4()}/live/")

    assert answer.status_code == 500


def look_now(clock: Clock) -> None:
    """Have the time come for every look at the database."""
    clock._looks_at = 0.0
    clock._last_full_sync = datetime.min  # noqa: DTZ901 - as naive as the library's


def test_the_clock_goes_on_with_the_schedule_it_has(
    network: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(app=app)
    names = set(clock.schedule)
    network.refuse()

    for _ in range(3):
        look_now(clock)
        assert set(clock.schedule) == names
    clock.sync()
    network.resume()
    PeriodicTask.objects.filter(name="prune").update(enabled=False)
    look_now(clock)

    assert names >= {"prune", "recover"}
    assert set(clock.schedule) == names - {"prune"}
    told = [record.msg for record in caplog.records if record.levelname != "INFO"]
    assert [one["event"] for one in told] == ["database.away", "database.back"]


def test_a_database_that_goes_while_the_schedule_is_read_does_not_end_the_clock(
    network: Proxy,
) -> None:
    clock = Clock(app=app)
    names = set(clock.schedule)

    for after in range(6):
        look_now(clock)
        network.lose_an_answer(after=after)
        assert set(clock.schedule) == names

    network.resume()
    look_now(clock)
    assert set(clock.schedule) == names
