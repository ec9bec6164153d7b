"""Runs that park, runs that are late, and steps whose attempts have a time together: as stored."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.workflows.builders import (
    ANN,
    a_run,
    at_once,
    claimed,
    ends,
    fail,
    finish,
    in_future,
    open_incidents,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows import store
from workflows.models import Incident, Run
from workflows.services.incidents import discard_incident, replay_incident, skip_incident
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run, resume_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")


def a_parked_run() -> tuple[Run, Incident]:
    run = a_run(task("load"), task("report"), on_failure="park")
    fail(claimed(run, "load"))
    [incident] = open_incidents(run)
    return run, incident


def where(run: Run) -> tuple[str, str]:
    found: tuple[str, str] = Run.objects.values_list("state", "reason").get(pk=run.pk)
    return found


def test_a_run_with_nothing_left_but_an_incident_parks_and_no_sweep_ends_it() -> None:
    run, _ = a_parked_run()

    report = recover(now=in_future(3600))

    assert where(run) == ("RUNNING", "parked")
    assert report.lines == []


def test_a_replay_takes_a_parked_run_to_its_end() -> None:
    run, incident = a_parked_run()

    replay_incident(incident_id=incident.pk, by=ANN)
    assert where(run) == ("RUNNING", "")
    work_off(run)

    assert state(run) == "COMPLETED"


def test_a_skip_takes_a_parked_run_on() -> None:
    run, incident = a_parked_run()

    skip_incident(incident_id=incident.pk, by=ANN)
    work_off(run)

    assert states(run) == {"load": "SKIPPED", "report": "COMPLETED"}
    assert where(run) == ("COMPLETED", "")


def test_discarding_the_last_incident_ends_a_parked_run_as_failed() -> None:
    run, incident = a_parked_run()

    discard_incident(incident_id=incident.pk, note="not needed", by=ANN)

    assert where(run) == ("FAILED", "")


def test_of_two_who_discard_at_once_the_later_ends_the_run() -> None:
    run = a_run(task("a"), task("b", needs=[]), on_failure="park")
    fail(claimed(run, "a"))
    fail(claimed(run, "b"))
    first, second = open_incidents(run)

    at_once(
        lambda: discard_incident(incident_id=first.pk, note="no", by=ANN),
        lambda: discard_incident(incident_id=second.pk, note="no", by=ANN),
    )

    assert where(run) == ("FAILED", "")


def test_a_skip_beside_a_discarded_failure_ends_the_run_as_failed() -> None:
    run = a_run(task("a"), task("b", needs=[]), on_failure="park")
    fail(claimed(run, "a"))
    fail(claimed(run, "b"))
    first, second = open_incidents(run)

    discard_incident(incident_id=first.pk, note="no", by=ANN)
    assert where(run) == ("RUNNING", "parked")
    skip_incident(incident_id=second.pk, by=ANN)

    assert where(run) == ("FAILED", "")


def test_a_parked_run_is_parked_again_after_a_pause_and_can_be_cancelled() -> None:
    run, _ = a_parked_run()

    pause_run(run_id=run.pk, by=ANN)
    resume_run(run_id=run.pk, by=ANN)
    assert where(run) == ("RUNNING", "parked")
    cancel_run(run_id=run.pk, by=ANN)

    assert where(run) == ("CANCELLED", "")


def test_a_step_is_not_tried_again_when_the_time_of_all_its_attempts_is_up() -> None:
    retry = {"initial_delay": "4s", "jitter": 0, "max_attempts": 9, "max_duration": "10s"}
    run = a_run(task("only", retry=retry))
    begun = timezone.now()

    fail(claimed(run, "only", now=begun), "transient", now=begun + timedelta(seconds=1))
    tick(now=begun + timedelta(seconds=5))
    second = claimed(run, "only", 2, now=begun + timedelta(seconds=5))
    fail(second, "transient", now=begun + timedelta(seconds=6))

    assert ends(run, "only") == [(1, "failed"), (2, "failed")]
    assert step(run, "only").retry_until == begun + timedelta(seconds=10)
    assert "could only be in 8 s" in open_incidents(run)[0].message


def test_a_late_run_is_recorded_once_and_goes_on() -> None:
    run = a_run(task("only"), sla="10m")

    assert tick(now=in_future(599)) == 0
    assert store.any_due(now=in_future(601))
    assert [tick(now=in_future(601)), tick(now=in_future(602))] == [1, 0]

    late = Run.objects.get(pk=run.pk)
    assert late.sla_breached_at == late.created_at + timedelta(minutes=10)
    work_off(run)
    assert state(run) == "COMPLETED"


def test_a_run_that_ends_in_time_is_never_late() -> None:
    run = a_run(task("only"), sla="10m")
    finish(claimed(run, "only"))

    assert tick(now=in_future(601)) == 0
    assert Run.objects.get(pk=run.pk).sla_breached_at is None


def test_a_run_that_ends_late_before_anybody_looked_is_late() -> None:
    run = a_run(task("only"), sla="10m")

    finish(claimed(run, "only"), now=in_future(700))

    late = Run.objects.get(pk=run.pk)
    assert late.sla_breached_at == late.created_at + timedelta(minutes=10)


def test_a_failed_run_that_goes_on_is_late_by_the_time_it_was_created() -> None:
    run = a_run(task("only"), sla="10m")
    fail(claimed(run, "only"))
    sql("UPDATE workflows_run SET created_at = created_at - interval '9 min' WHERE id = %s", run.pk)

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)

    assert tick(now=in_future(61)) == 1
    assert Run.objects.get(pk=run.pk).sla_breached_at is not None
