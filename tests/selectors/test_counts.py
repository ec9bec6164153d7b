from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.selectors.builders import a_failed_run, a_run, an_incident
from workflows.selectors.counts import (
    live_runs_by_state,
    open_incidents_by_class,
    open_incidents_by_code,
    runs_by_state,
    steps_by_state,
)
from workflows.services.runs import cancel_run, pause_run

pytestmark = pytest.mark.django_db


def test_runs_that_have_ended_are_not_counted_as_live() -> None:
    a_run()
    pause_run(run_id=a_run().pk, by="person:ann")
    cancel_run(run_id=a_run().pk, by="person:ann")

    assert live_runs_by_state() == {"RUNNING": 1, "PAUSED": 1}


def test_runs_are_counted_from_a_time_on() -> None:
    a_run()
    now = timezone.now()

    assert runs_by_state(since=now - timedelta(minutes=1)) == {"RUNNING": 1}
    assert runs_by_state(since=now + timedelta(minutes=1)) == {}


def test_open_incidents_are_counted_by_what_they_have_in_common() -> None:
    a_failed_run()
    for _ in range(2):
        an_incident(a_run())

    assert open_incidents_by_class() == {"permanent": 1, "transient": 2}
    assert open_incidents_by_code() == {"disk.full": 1, "http.503": 2}


def test_the_steps_of_many_runs_are_counted_with_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    ids = [a_run().pk, a_run().pk]

    with django_assert_num_queries(1):
        counts = steps_by_state(ids)

    assert counts == {run_id: {"QUEUED": 1, "PENDING": 1} for run_id in ids}
