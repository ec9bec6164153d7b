"""Waits that are stored: the row of each, who ends it, and the time that comes."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.utils import timezone

from tests.support.invariants import broken
from tests.workflows.builders import (
    ANN,
    a_run,
    at_once,
    claimed,
    fail,
    finish,
    in_future,
    journal,
    open_incidents,
    set_due,
    sql,
    state,
    states,
    step,
    task,
)
from workflows.engine.events import Answered
from workflows.engine.states import Reason
from workflows.models import Run, Wait
from workflows.services.incidents import replay_incident
from workflows.services.plans import pinned
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run, resume_run
from workflows.services.timers import tick
from workflows.services.waits import answer_wait

pytestmark = pytest.mark.usefixtures("committed")


def rest(name: str = "rest", **keys: Any) -> dict[str, Any]:
    """Return a step that waits for ten minutes."""
    return {"id": name, "wait": {"for": "10m"}, **keys}


def the_wait(run: Run, path: str = "rest") -> Wait:
    """Return the last wait of a step."""
    return Wait.objects.filter(run=run, path=path).latest("attempt")


def test_a_step_that_waits_has_an_open_row_and_holds_no_worker() -> None:
    run = a_run(task("before"), rest())

    assert finish(claimed(run, "before"), run_on=True) is None

    row, waiting = the_wait(run), step(run, "rest")
    assert (waiting.state, waiting.reason, waiting.worker) == ("WAITING", "time", "")
    assert waiting.wake_at is not None
    assert row.request == {"until": waiting.wake_at.isoformat()}
    assert (row.step_id, row.kind, row.attempt, row.closed_at) == (waiting.pk, "time", 1, None)
    assert broken() == []


def test_time_comes_and_the_run_goes_on() -> None:
    run = a_run(rest(), task("after"))

    assert tick(now=in_future(590)) == 0
    assert tick(now=in_future(610)) == 1

    row = the_wait(run)
    assert states(run) == {"rest": "COMPLETED", "after": "QUEUED"}
    assert row.closed_at is not None
    assert (row.end, row.answered_by) == ("completed", "engine")
    assert broken() == []


def test_what_is_due_is_found_by_recovery_too() -> None:
    run = a_run(rest())
    set_due(run, "rest")

    report = recover(now=timezone.now())

    assert state(run) == "COMPLETED"
    assert report.lines == ["1 timers were due and have fired"]


def test_of_many_clocks_one_ends_a_wait() -> None:
    run = a_run(rest(), task("after"))
    later = in_future(610)

    ended = at_once(*[lambda: tick(now=later)] * 4)

    assert sum(ended) == 1
    assert journal(run, "rest")[-1] == ("rest", "WAITING", "COMPLETED")
    assert broken() == []


def test_a_wait_for_what_has_passed_is_none() -> None:
    run = a_run({"id": "rest", "wait": {"until": "2020-02-02T20:20:20Z"}}, task("after"))

    assert states(run) == {"rest": "COMPLETED", "after": "QUEUED"}
    assert not Wait.objects.filter(run=run).exists()
    assert broken() == []


def test_who_cancels_a_run_closes_its_waits() -> None:
    run = a_run(rest())

    cancel_run(run_id=run.pk, by=ANN)

    row = the_wait(run)
    assert (state(run), row.end, row.answered_by) == ("CANCELLED", "cancelled", ANN)
    assert broken() == []


def test_a_failure_closes_the_waits_beside_it_and_a_replay_opens_them_again() -> None:
    both = {"id": "both", "fail_fast": True, "parallel": [rest(), task("work")]}
    run = a_run(both)
    fail(claimed(run, "both.work"))

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)

    rows = Wait.objects.filter(run=run).order_by("attempt")
    assert [(row.attempt, row.end) for row in rows] == [(1, "cancelled"), (2, "")]
    assert broken() == []


def test_a_paused_run_lets_time_pass_and_begins_no_work() -> None:
    run = a_run(rest(), task("after"))
    pause_run(run_id=run.pk, by=ANN)

    tick(now=in_future(610))
    resume_run(run_id=run.pk, by=ANN)

    assert states(run) == {"rest": "COMPLETED", "after": "QUEUED"}
    assert finish(claimed(run, "after")) is None
    assert state(run) == "COMPLETED"


def test_a_wait_that_took_too_long_can_be_replayed() -> None:
    run = a_run(rest(timeout="1m"))
    tick(now=in_future(61))
    [incident] = open_incidents(run)

    replay_incident(incident_id=incident.pk, by=ANN)

    assert (incident.code, incident.error_class) == ("wait.timeout", "timeout")
    assert (step(run, "rest").attempt, the_wait(run).closed_at) == (2, None)
    assert list(step(run, "rest").attempts.values_list("number", "end")) == [(1, "failed")]
    assert broken() == []


def test_each_wait_keeps_how_it_ended() -> None:
    run = a_run({"id": "vendor", "callback": {"timeout": "1m"}})
    tick(now=in_future(61))
    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)

    answer = Answered("vendor", Reason.CALLBACK, "here", attempt=2, answer={"by": "hand"})
    assert answer_wait(pin=pinned(run.pk), answer=answer, now=in_future(1), by=ANN)

    rows = Wait.objects.filter(run=run).order_by("attempt")
    assert [(row.end, row.answered_by, row.answer) for row in rows] == [
        ("failed", "engine", None),
        ("completed", ANN, {"by": "hand"}),
    ]
    assert (state(run), step(run, "vendor").output) == ("COMPLETED", "here")


def test_a_long_wait_costs_no_tick() -> None:
    run = a_run({"id": "rest", "wait": {"for": "3650d"}})

    assert tick(now=timezone.now() + timedelta(days=3649)) == 0
    assert state(run) == "RUNNING"


def test_a_wait_cannot_be_closed_without_a_word() -> None:
    run = a_run(rest())

    with pytest.raises(IntegrityError, match="a_closed_wait_says_how_and_by_whom"):
        sql("UPDATE workflows_wait SET closed_at = now() WHERE run_id = %s", run.pk)
