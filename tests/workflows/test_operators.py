"""Pause, resume and cancel: what a worker has begun is finished, nothing else is started."""

from collections.abc import Callable
from datetime import datetime

import pytest

from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    a_run,
    any_claimed,
    at_once,
    claim,
    claimed,
    ends,
    fail,
    finish,
    journal,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows import store
from workflows.models import Journal
from workflows.services.errors import NotFoundError, StateRefusedError
from workflows.services.runs import cancel_many, cancel_run, pause_run, resume_run

pytestmark = pytest.mark.usefixtures("committed")

BLOCK = {"id": "block", "parallel": [task("left"), task("right")]}


def test_a_paused_run_starts_nothing() -> None:
    run = a_run(task("first"), task("second"))

    pause_run(run_id=run.pk, by=ANN)

    assert state(run) == "PAUSED"
    assert claim(run, "first") is None
    assert any_claimed(run) is None
    assert states(run) == {"first": "QUEUED", "second": "PENDING"}


def test_what_runs_while_a_run_is_paused_is_finished_and_nothing_is_sent(sent: Recorder) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    pause_run(run_id=run.pk, by=ANN)
    sent.forget()

    assert finish(work, run_on=True) is None

    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}
    assert not sent.sent


def test_a_resumed_run_is_sent_what_was_held(sent: Recorder) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    pause_run(run_id=run.pk, by=ANN)
    finish(work)
    sent.forget()

    resume_run(run_id=run.pk, by=ANN)

    assert [(one.path, one.attempt) for one in sent.sent] == [("second", 1)]
    work_off(run)
    assert state(run) == "COMPLETED"


def test_a_run_whose_last_step_ended_while_it_was_paused_ends_when_it_is_resumed() -> None:
    run = a_run(task("only"))
    work = claimed(run, "only")
    pause_run(run_id=run.pk, by=ANN)
    finish(work)
    assert state(run) == "PAUSED"

    resume_run(run_id=run.pk, by=ANN)

    assert state(run) == "COMPLETED"


def test_a_cancelled_run_ends_at_once_when_nothing_runs() -> None:
    run = a_run(task("first"), BLOCK)

    cancel_run(run_id=run.pk, by=ANN)

    assert state(run) == "CANCELLED"
    assert set(states(run).values()) == {"CANCELLED"}
    assert claim(run, "first") is None


def test_a_cancelled_run_waits_for_the_worker_that_has_a_step_and_tells_it_to_stop() -> None:
    run = a_run(BLOCK, task("after"))
    work = claimed(run, "block.left")

    cancel_run(run_id=run.pk, by=ANN)

    assert state(run) == "CANCELLING"
    assert states(run) == {
        "after": "CANCELLED",
        "block": "WAITING",
        "block.left": "RUNNING",
        "block.right": "CANCELLED",
    }
    assert store.cancel_requested(run.pk, "block.left", 1) is True
    fail(work, "cancelled")
    assert state(run) == "CANCELLED"
    assert ends(run, "block.left") == [(1, "cancelled")]


def test_a_step_that_was_done_before_it_heard_of_the_end_is_done() -> None:
    run = a_run(task("only"), task("after"))
    work = claimed(run, "only")
    cancel_run(run_id=run.pk, by=ANN)

    assert finish(work, {"rows": 7}, run_on=True) is None

    assert state(run) == "CANCELLED"
    assert states(run) == {"only": "COMPLETED", "after": "CANCELLED"}
    assert step(run, "only").output == {"rows": 7}


def test_a_paused_run_can_be_cancelled() -> None:
    run = a_run(task("only"))
    pause_run(run_id=run.pk, by=ANN)

    cancel_run(run_id=run.pk, by=ANN)

    assert journal(run, "") == [
        ("", "PENDING", "RUNNING"),
        ("", "RUNNING", "PAUSED"),
        ("", "PAUSED", "CANCELLING"),
        ("", "CANCELLING", "CANCELLED"),
    ]


def test_every_line_of_a_cancel_bears_the_name_of_who_asked() -> None:
    run = a_run(BLOCK)

    cancel_run(run_id=run.pk, by="person:ben")

    lines = Journal.objects.filter(run=run, after__in=["CANCELLING", "CANCELLED"])
    assert lines.count() == 5
    assert set(lines.values_list("actor", flat=True)) == {"person:ben"}


@pytest.mark.parametrize("operate", [pause_run, resume_run, cancel_run])
def test_a_run_that_has_ended_takes_no_orders(operate: object) -> None:
    run = a_run(task("only"))
    work_off(run)

    with pytest.raises(StateRefusedError, match="is COMPLETED and cannot be"):
        operate(run_id=run.pk, by=ANN)  # type: ignore[operator]

    assert state(run) == "COMPLETED"


@pytest.mark.parametrize("operate", [pause_run, cancel_run])
def test_an_order_that_comes_while_the_run_ends_is_refused(
    operate: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(task("only"))
    work = claimed(run, "only")

    def at_the_last_moment() -> datetime:
        monkeypatch.undo()
        at_once(lambda: finish(work))
        return store.now()

    monkeypatch.setattr(store, "now", at_the_last_moment)
    with pytest.raises(StateRefusedError, match="is COMPLETED and cannot be"):
        operate(run_id=run.pk, by=ANN)


def test_a_run_that_is_not_there_takes_no_orders() -> None:
    run = a_run(task("only"))

    with pytest.raises(NotFoundError, match=str(run.version_id)):
        pause_run(run_id=run.version_id, by=ANN)


def test_of_many_runs_those_that_cannot_be_cancelled_are_named() -> None:
    done, live = a_run(task("only")), a_run(task("only"))
    work_off(done)

    report = cancel_many(run_ids=[done.pk, live.pk], by=ANN)

    assert report.done == (live.pk,)
    assert [refusal.id for refusal in report.refused] == [done.pk]
