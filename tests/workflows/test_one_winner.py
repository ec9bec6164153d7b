"""One winner per attempt: what comes late, twice or from a loser changes nothing."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    any_claimed,
    at_once,
    claim,
    claimed,
    ends,
    everything,
    fail,
    finish,
    in_future,
    journal,
    meanwhile,
    set_due,
    sql,
    state,
    states,
    step,
    task,
)
from workflows.models import Run
from workflows.services.claiming import claim_step
from workflows.services.plans import pinned
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run, resume_run
from workflows.services.scopes import settle_scope
from workflows.services.timers import tick
from workflows.services.work import Taker, Work

pytestmark = pytest.mark.usefixtures("committed")

OTHER = Taker("worker-2", TAKER.queue)


def test_an_attempt_is_claimed_once() -> None:
    run = a_run(task("only"))

    first, second = claim(run, "only"), claim(run, "only", taker=OTHER)

    assert first is not None
    assert second is None
    assert step(run, "only").worker == TAKER.worker


def test_many_workers_that_claim_at_the_same_time_have_one_winner() -> None:
    run = a_run(task("only"))
    takers = [Taker(f"worker-{n}", TAKER.queue) for n in range(8)]

    works = at_once(*(lambda t=taker: claim(run, "only", taker=t) for taker in takers))

    assert len([work for work in works if work is not None]) == 1
    assert journal(run, "only").count(("only", "QUEUED", "RUNNING")) == 1


def test_many_workers_that_take_anything_get_a_step_each() -> None:
    run = a_run(*(task(f"s{n}", needs=[]) for n in range(10)))

    works = at_once(*(lambda: any_claimed(run) for _ in range(10)))

    taken = [work.path for work in works if work is not None]
    assert len(taken) == len(set(taken)) > 0


@pytest.mark.parametrize("attempt", [0, 2, 7])
def test_a_message_with_another_fence_claims_nothing(attempt: int) -> None:
    run = a_run(task("only"))
    before = everything(run)

    assert claim(run, "only", attempt) is None
    assert everything(run) == before


def test_an_outcome_that_comes_twice_counts_once() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    finish(work, {"n": 1})
    finish(work, {"n": 2})
    fail(work)

    assert step(run, "first").output == {"n": 1}
    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}
    assert ends(run, "first") == [(1, "completed")]


def test_an_outcome_whose_message_came_twice_is_no_superseded_one() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    finish(work, {"n": 1})
    finish(work, {"n": 1})

    assert step(run, "first").attempts.get().late is None


def test_two_outcomes_of_one_attempt_at_the_same_time_have_one_winner() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    at_once(lambda: finish(work), lambda: finish(work), lambda: fail(replace(work, seen=None)))

    assert len(ends(run, "first")) == 1
    assert len(journal(run, "first")) == 3


def test_a_late_result_is_kept_with_its_attempt_and_changes_nothing_else() -> None:
    run = a_run(task("only"))
    late = claimed(run, "only")
    set_due(run, "only")
    recover(now=timezone.now())
    before = everything(run)

    finish(late, {"rows": 7})

    attempt = step(run, "only").attempts.get(number=1)
    assert (attempt.end, attempt.late) == ("lost", {"output": {"rows": 7}, "error": None})
    assert everything(run)[:2] == before[:2]
    assert everything(run)[4] == before[4]


def test_the_first_late_result_is_the_one_that_is_kept() -> None:
    run = a_run(task("only"))
    late = claimed(run, "only")
    set_due(run, "only")
    recover(now=timezone.now())

    finish(late, 1)
    finish(late, 2)

    assert step(run, "only").attempts.get(number=1).late == {"output": 1, "error": None}


def test_a_late_worker_does_not_run_on() -> None:
    run = a_run(task("first"), task("second"))
    late = claimed(run, "first")
    set_due(run, "first")
    recover(now=timezone.now())

    assert finish(late, run_on=True) is None
    assert states(run) == {"first": "QUEUED", "second": "PENDING"}


def test_a_worker_does_not_run_on_with_what_an_exit_ends_in_the_same_moment() -> None:
    leave = {"id": "leave", "exit": {"status": "completed"}, "needs": ["first"]}
    run = a_run(task("first"), task("second", needs=["first"]), leave)

    assert finish(claimed(run, "first"), run_on=True) is None

    assert states(run) == {"first": "COMPLETED", "second": "CANCELLED", "leave": "COMPLETED"}
    assert state(run) == "COMPLETED"


def test_the_next_attempt_wins_however_late_the_first_comes() -> None:
    run = a_run(task("first"), task("second"))
    late = claimed(run, "first")
    set_due(run, "first")
    recover(now=timezone.now())

    finish(claimed(run, "first", 2), "second try")
    finish(late, "first try")

    assert step(run, "first").output == "second try"
    assert ends(run, "first") == [(1, "lost"), (2, "completed")]


def test_every_message_sent_again_changes_nothing() -> None:
    run = a_run(task("first"), {"id": "block", "parallel": [task("left"), task("right")]})
    for path in ("first", "block.left", "block.right"):
        finish(claimed(run, path))
    assert state(run) == "COMPLETED"
    before = everything(run)

    for path in states(run):
        assert claim(run, path) is None
        settle_scope(pin=pinned(run.pk), scope=path, now=timezone.now())
    settle_scope(pin=pinned(run.pk), scope="", now=timezone.now())
    tick(now=in_future(3600))
    recover(now=in_future(3600))

    assert everything(run) == before


def test_a_scope_that_lives_is_not_settled() -> None:
    run = a_run({"id": "block", "parallel": [task("left"), task("right")]})
    finish(claimed(run, "block.left"))
    before = everything(run)

    settle_scope(pin=pinned(run.pk), scope="block", now=timezone.now())
    settle_scope(pin=pinned(run.pk), scope="", now=timezone.now())

    assert everything(run) == before


def test_the_last_two_branches_may_end_at_the_same_moment() -> None:
    block = {"id": "block", "parallel": [task("left"), task("right")]}
    run = a_run(block, task("after"))
    works = [claimed(run, "block.left"), claimed(run, "block.right")]

    at_once(*(lambda w=work: finish(w) for work in works))

    assert states(run)["block"] == "COMPLETED"
    assert states(run)["after"] == "QUEUED"
    assert journal(run, "block").count(("block", "WAITING", "COMPLETED")) == 1


@pytest.mark.parametrize("seen", [True, False])
def test_a_join_of_many_that_end_at_the_same_moment_is_told_of_each(seen: bool) -> None:
    names = [f"s{n}" for n in range(6)]
    run = a_run(*(task(name, needs=[]) for name in names), task("join", needs=names))
    works = [claimed(run, name) for name in names]
    works = works if seen else [replace(work, seen=None) for work in works]

    at_once(*(lambda w=work: finish(w) for work in works))

    assert states(run)["join"] == "QUEUED"
    assert step(run, "join").ok == 6


def test_an_outcome_whose_connection_was_lost_is_recorded_on_another() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    lose_connection()
    finish(work)

    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}


def test_a_claim_whose_connection_was_lost_is_made_on_another() -> None:
    run = a_run(task("only"))
    plan = pinned(run.pk)

    lose_connection()
    work = claim_step(pin=plan, path="only", attempt=1, taker=TAKER, now=timezone.now())

    assert work is not None


NESTED = {
    "id": "block",
    "fail_fast": True,
    "parallel": [
        task("bad"),
        {"id": "branch", "steps": [task("x"), {"id": "inner", "parallel": [task("y"), task("z")]}]},
    ],
}


def failing(run: Run, work: Work) -> Callable[[], object]:
    """Have another branch of the block fail, which ends the block."""
    return lambda: fail(work)


def cancelling(run: Run, work: Work) -> Callable[[], object]:
    """Have a person end the run."""
    return lambda: cancel_run(run_id=run.pk, by=ANN)


@pytest.mark.parametrize("ending", [failing, cancelling])
def test_what_is_born_while_its_block_is_ended_is_ended_with_it(ending: Any) -> None:
    run = a_run(NESTED)
    bad, x = claimed(run, "block.bad"), claimed(run, "block.branch.x")

    with transaction.atomic():
        finish(x)
        other = meanwhile(ending(run, bad))
        other.__enter__()
        wait_until_someone_waits()
    other.__exit__(None, None, None)

    born = {path: where for path, where in states(run).items() if ".inner" in path}
    assert born == dict.fromkeys(
        ["block.branch.inner", "block.branch.inner.y", "block.branch.inner.z"], "CANCELLED"
    )


@pytest.mark.parametrize("first", ["outcome", "resume"])
def test_a_step_that_is_ready_while_its_run_is_resumed_is_sent_by_one_of_the_two(
    first: str, sent: Recorder
) -> None:
    run = a_run(task("one"), task("two"))
    work = claimed(run, "one")
    pause_run(run_id=run.pk, by=ANN)
    sent.forget()
    works = [lambda: finish(work), lambda: resume_run(run_id=run.pk, by=ANN)]
    now, then = works if first == "outcome" else reversed(works)

    with transaction.atomic():
        now()
        other = meanwhile(then)
        other.__enter__()
        wait_until_someone_waits()
    other.__exit__(None, None, None)

    assert [(one.path, one.attempt) for one in sent.sent] == [("two", 1)]


def lose_connection() -> None:
    """Have the database end the connection of this test."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [mine] = cursor.fetchone()
    at_once(lambda: sql("SELECT pg_terminate_backend(%s)", mine))


def test_an_outcome_that_meets_a_deadlock_is_recorded_after_it() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    lock = "SELECT 1 FROM workflows_step WHERE run_id = %s AND path = %s FOR UPDATE"

    with transaction.atomic():
        sql("SET LOCAL deadlock_timeout = '20s'")
        sql(lock, run.pk, "second")
        recording = meanwhile(lambda: finish(work))
        recording.__enter__()
        wait_until_someone_waits()
        sql(lock, run.pk, "first")
    recording.__exit__(None, None, None)

    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}


def wait_until_someone_waits() -> None:
    """Wait until another connection waits for a lock of this one."""
    deadline = time.monotonic() + 20
    while not sql("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
