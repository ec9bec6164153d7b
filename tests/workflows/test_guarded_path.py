"""The guarded way stores a decision in one statement, or nothing: then the locks decide."""

import pytest
from django.utils import timezone

from tests.workflows.builders import (
    ANN,
    a_run,
    claimed,
    fail,
    finish,
    journal,
    set_due,
    sql,
    state,
    states,
    task,
)
from workflows.services import progress
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run, resume_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The decisions that were made under the locks."""
    made: list[object] = []
    advance_run = progress.advance_run

    def noted(*facts: object, **more: object) -> object:
        made.append(facts)
        return advance_run(*facts, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("workflows.services.claiming.advance_run", noted)
    monkeypatch.setattr("workflows.services.recording.advance_run", noted)
    return made


def test_a_step_that_meets_nobody_is_decided_without_locks(locked: list[object]) -> None:
    run = a_run(task("first"), task("second"))

    work = finish(claimed(run, "first"), run_on=True)
    assert work is not None
    finish(work)

    assert state(run) == "COMPLETED"
    assert not locked


def test_a_cancel_between_the_look_and_the_commit_is_heard(locked: list[object]) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    cancel_run(run_id=run.pk, by=ANN)
    assert finish(work, run_on=True) is None

    assert len(locked) == 1
    assert states(run) == {"first": "COMPLETED", "second": "CANCELLED"}
    assert state(run) == "CANCELLED"


def test_a_pause_between_the_look_and_the_commit_is_heard(locked: list[object]) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    pause_run(run_id=run.pk, by=ANN)
    assert finish(work, run_on=True) is None

    assert len(locked) == 1
    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}


def test_a_pause_that_is_over_again_is_no_matter(locked: list[object]) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    pause_run(run_id=run.pk, by=ANN)
    resume_run(run_id=run.pk, by=ANN)
    finish(work)

    assert not locked
    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}


def test_another_branch_that_ended_meanwhile_is_counted(locked: list[object]) -> None:
    run = a_run(
        task("left", needs=[]), task("right", needs=[]), task("join", needs=["left", "right"])
    )
    left, right = claimed(run, "left"), claimed(run, "right")

    finish(right)
    assert states(run)["join"] == "PENDING"
    finish(left)

    assert len(locked) == 1
    assert states(run)["join"] == "QUEUED"


def test_another_branch_that_failed_meanwhile_fails_the_run() -> None:
    run = a_run(task("left", needs=[]), task("right", needs=[]))
    left, right = claimed(run, "left"), claimed(run, "right")

    fail(right)
    finish(left)

    run.refresh_from_db()
    assert (run.state, run.error["message"]) == ("FAILED", "right: It broke.")


def test_a_branch_that_was_the_only_one_left_alive_ends_the_run() -> None:
    run = a_run(task("left", needs=[]), task("right", needs=[]))
    finish(claimed(run, "left"))
    right = claimed(run, "right")

    finish(right)

    assert state(run) == "COMPLETED"


def test_a_lease_that_expired_meanwhile_makes_the_outcome_late(locked: list[object]) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    set_due(run, "first")
    recover(now=timezone.now())
    finish(work)

    assert len(locked) == 1
    assert states(run) == {"first": "QUEUED", "second": "PENDING"}


def test_a_block_whose_time_was_up_meanwhile_lets_the_step_go() -> None:
    run = a_run({"id": "block", "steps": [task("first"), task("second")], "timeout": 60})
    work = claimed(run, "block.first")
    set_due(run, "block")
    tick(now=timezone.now())

    assert finish(work, run_on=True) is None

    assert states(run)["block.second"] == "CANCELLED"
    assert journal(run, "block")[-1] == ("block", "WAITING", "FAILED")


def test_a_run_that_heads_for_an_end_meanwhile_ends_that_way(locked: list[object]) -> None:
    run = a_run(task("only"))
    only = claimed(run, "only")
    sql(
        "UPDATE workflows_run SET ending = %s WHERE id = %s",
        '{"status": "cancelled", "output": null, "error": null}',
        run.pk,
    )

    finish(only)

    assert state(run) == "CANCELLED"
    assert locked


def test_a_step_that_was_told_to_stop_meanwhile_is_not_tried_again() -> None:
    left = task("left", retry={"max_attempts": 3})
    run = a_run({"id": "all", "parallel": [left, task("right")], "fail_fast": True})
    works = claimed(run, "all.left"), claimed(run, "all.right")

    fail(works[1])
    fail(works[0], "transient")

    assert states(run)["all.left"] == "CANCELLED"
    assert state(run) == "FAILED"
