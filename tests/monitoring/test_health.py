"""What probes and monitoring are told."""

import pytest
from django.db import DatabaseError
from django.test import Client

from environments.services import ensure_default
from tests.admin.builders import person
from workers.models import CanaryMark, Pulse

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture(autouse=True)
def _nobody_has_spoken(db: None) -> None:
    """Forget the workers of tests before, which may be on the same database."""
    Pulse.objects.all().delete()
    CanaryMark.objects.all().delete()


def test_a_process_that_answers_is_alive_and_ready() -> None:
    client = Client()

    answers = [client.get(f"/health/{what}/").json() for what in ("live", "ready")]

    assert answers == [{"status": "alive"}, {"status": "ready"}]


def test_a_stranger_hears_how_many_queues_are_how_and_no_names() -> None:
    ensure_default()

    answer = Client().get("/health/")

    assert answer.status_code == 503
    assert answer.json() == {
        "status": "trouble",
        "database": "ok",
        "broker": "ok",
        "queues": {"unserved": 2},
    }


def test_who_may_see_runs_hears_what_to_do() -> None:
    ensure_default()
    client = Client()
    client.force_login(person("viewers"), backend=BACKEND)

    [engine, queue] = client.get("/health/").json()["details"]

    assert (engine["queue"], queue["queue"]) == ("orchestrator", "env.default.default")
    assert queue["matter"] == "No worker listens on it."
    assert queue["next"] == "Start one: python -m orchestrator worker default"


@pytest.mark.parametrize("what", ["", "ready/"])
def test_without_a_database_there_is_trouble_and_no_error(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise DatabaseError("the database is gone")

    monkeypatch.setattr("monitoring.health.verdicts", gone)
    monkeypatch.setattr("monitoring.health.connection.cursor", gone)

    answer = Client().get(f"/health/{what}")

    assert answer.status_code == 503
    assert answer.json() == {"status": "trouble", "database": "away"}
