"""Beat's scheduler: what it costs, and what it says while the broker is away."""

from types import SimpleNamespace

import pytest
from celery.beat import SchedulingError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from orchestrator.celery import app
from orchestrator.clock import Clock

pytestmark = pytest.mark.django_db
RECOVER = SimpleNamespace(name="recover", task="workers.recover")


@pytest.fixture
def clock() -> Clock:
    return Clock(app=app, lazy=True)


def test_many_messages_ask_the_database_once_whether_the_schedule_has_changed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_celery_beat.schedulers.close_old_connections", lambda: None)

    with CaptureQueriesContext(connection) as captured:
        changed = [clock.schedule_changed() for _ in range(10)]

    assert changed == [False] * 10
    assert len(captured) == 1


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter([SchedulingError("no broker"), SchedulingError("no broker"), None, None])

    def sent(*_: object, **__: object) -> None:
        if (outcome := next(outcomes)) is not None:
            raise outcome

    monkeypatch.setattr(clock, "apply_async", sent)

    with capture_logs() as said:
        for _ in range(4):
            clock.apply_entry(RECOVER)

    assert [one["event"] for one in said] == ["clock.broker_away", "clock.broker_back"]
