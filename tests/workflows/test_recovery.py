"""Recovery and timers: what was lost is found, what is due is done, twice as well as once."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    at_once,
    claim,
    claimed,
    ends,
    everything,
    fail,
    finish,
    in_future,
    open_incidents,
    set_due,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows import store
from workflows.dispatch import Segment
from workflows.engine.events import Loss
from workflows.models import Step
from workflows.services.orders import Order
from workflows.services.plans import pinned, plan_of_version
from workflows.services.recovery import recover, release_all, release_worker
from workflows.services.runs import cancel_run, pause_run, resume_run, start_runs
from workflows.services.scopes import settle_scope
from workflows.services.timers import tick
from workflows.services.work import Taker

pytestmark = pytest.mark.usefixtures("committed")

BLOCK = {"id": "block", "parallel": [task("left"), task("right")]}
ONCE_ONLY = task("pay", "shell.run", **{"with": {"command": ["true"]}})


def test_a_step_whose_worker_fell_silent_is_tried_again_and_the_worker_is_named() -> None:
    run = a_run(task("only"))
    claimed(run, "only")

    report = recover(now=in_future(31))

    assert (states(run)["only"], step(run, "only").attempt) == ("QUEUED", 2)
    assert ends(run, "only") == [(1, "lost")]
    assert "worker-1" in step(run, "only").attempts.get().error["message"]
    assert report.lines == [f"run {run.pk} step only: the lease of attempt 1 expired"]


def test_a_lease_that_is_renewed_does_not_expire() -> None:
    run = a_run(task("only"))
    claimed(run, "only")

    store.renew(run.pk, "only", 1, until=in_future(60))
    recover(now=in_future(31))

    assert states(run)["only"] == "RUNNING"


def test_a_lease_from_before_an_outage_is_spared_until_its_worker_could_renew_it(
    cut_off: Callable[[], None],
) -> None:
    run = a_run(task("only"))
    claimed(run, "only", now=in_future(-60))
    cut_off()

    report = recover(now=timezone.now())
    assert states(run)["only"] == "RUNNING"
    assert [line.partition(";")[0] for line in report.lines] == [
        "1 leases have expired while the database was away"
    ]
    recover(now=in_future(31))

    assert (states(run)["only"], step(run, "only").attempt) == ("QUEUED", 2)


def test_an_attempt_that_began_after_an_outage_is_not_spared(cut_off: Callable[[], None]) -> None:
    run = a_run(task("only"))
    cut_off()
    claimed(run, "only")
    set_due(run, "only")

    recover(now=timezone.now())

    assert states(run)["only"] == "QUEUED"


def test_when_all_workers_are_known_to_be_gone_nothing_is_spared(
    cut_off: Callable[[], None],
) -> None:
    run = a_run(task("only"))
    claimed(run, "only", now=in_future(-60))
    cut_off()

    release_all(now=timezone.now())

    assert states(run)["only"] == "QUEUED"


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have every connection to the database be a new one: of this test's, of real workers too."""

    def cut() -> None:
        back = timezone.now()
        monkeypatch.setattr(store, "connected_since", lambda: back)

    return cut


def test_who_is_connected_knows_since_when() -> None:
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        [mine] = cursor.fetchone()

    assert store.connected_since() <= mine <= before


def test_lost_workers_have_a_budget_of_their_own() -> None:
    retry = {"max_attempts": 1, "worker_lost_attempts": 3}
    run = a_run(task("only", retry=retry))

    for attempt in (1, 2, 3):
        claimed(run, "only", attempt)
        set_due(run, "only")
        recover(now=timezone.now())

    assert ends(run, "only") == [(1, "lost"), (2, "lost"), (3, "lost")]
    assert state(run) == "FAILED"
    assert [one.error_class for one in open_incidents(run)] == ["worker_lost"]


def test_a_lost_worker_uses_up_no_try() -> None:
    run = a_run(task("only", retry={"max_attempts": 2, "initial_delay": "0s"}))
    claimed(run, "only")
    recover(now=in_future(31))

    fail(claimed(run, "only", 2), "transient")

    assert (states(run)["only"], step(run, "only").attempt) == ("QUEUED", 3)


def test_what_must_not_be_done_twice_is_left_to_a_person() -> None:
    run = a_run(ONCE_ONLY)
    claimed(run, "pay")

    recover(now=in_future(31))

    assert states(run) == {"pay": "FAILED"}
    assert [one.error_class for one in open_incidents(run)] == ["uncertain"]


@pytest.mark.parametrize(
    ("step_of_it", "end"),
    [({**ONCE_ONLY, "idempotent": True}, "QUEUED"), (task("pay", idempotent=False), "FAILED")],
)
def test_a_step_may_say_other_than_its_task_type_whether_it_may_be_done_twice(
    step_of_it: dict[str, Any], end: str
) -> None:
    run = a_run(step_of_it)
    claimed(run, "pay")

    recover(now=in_future(31))

    assert states(run) == {"pay": end}
    assert len(open_incidents(run)) == (end == "FAILED")


@pytest.mark.parametrize(
    ("spoken_for", "end", "code"), [(5, "lost", "worker.lost"), (15, "failed", "task.timeout")]
)
def test_who_was_alive_when_the_time_was_up_has_timed_out(
    spoken_for: int, end: str, code: str
) -> None:
    run = a_run(task("only", timeout=10, retry={"initial_delay": "0s"}))
    claimed(run, "only")
    store.renew(run.pk, "only", 1, until=in_future(spoken_for + 30))

    recover(now=in_future(60))

    attempt = step(run, "only").attempts.get()
    assert (attempt.end, attempt.error["code"]) == (end, code)


def test_a_worker_that_is_known_to_be_gone_leaves_its_steps_at_once_and_others_keep_theirs() -> (
    None
):
    gone, there = a_run(task("only")), a_run(task("only"))
    queue = "env.default.default"
    claimed(gone, "only", taker=Taker("env-default@box/aa11.7-x", queue))
    claimed(there, "only", taker=Taker("env-default@box/aa11.71-x", queue))

    report = release_worker(worker="env-default@box/aa11.7-", loss=Loss.DIED, now=timezone.now())

    assert report.lines == [f"run {gone.pk} step only: the worker of attempt 1 is gone (died)"]
    assert (states(gone)["only"], step(gone, "only").attempt) == ("QUEUED", 2)
    assert states(there)["only"] == "RUNNING"


def test_a_worker_that_stops_hands_back_what_all_its_processes_did() -> None:
    runs = [a_run(task("only")) for _ in range(3)]
    for run, worker in zip(runs, ("box/aa11.7-", "box/aa11.8", "box/bb22.7"), strict=True):
        claimed(run, "only", taker=Taker(worker, "env.default.default"))

    release_worker(worker="box/aa11.", loss=Loss.STOPPED, now=timezone.now())

    assert [states(run)["only"] for run in runs] == ["QUEUED", "QUEUED", "RUNNING"]
    assert step(runs[0], "only").losses == 0


def test_what_a_process_whose_clock_was_early_did_is_handed_back_as_well() -> None:
    run = a_run(task("only"))
    claimed(run, "only", taker=Taker("box/aa11.7-", "env.default.default"))
    early = timezone.now() - timedelta(seconds=2)

    release_worker(worker="box/aa11.", loss=Loss.STOPPED, now=early)

    assert states(run)["only"] == "QUEUED"


def test_a_queued_step_that_nobody_claimed_is_sent_again_with_its_own_fence(sent: Recorder) -> None:
    run = a_run(task("only"))
    sent.forget()

    recover(now=in_future(29))
    assert not sent.sent
    recover(now=in_future(31))

    assert sent.sent == [Segment(run.pk, run.version_id, "only", 1, "env.default.default")]


def test_a_step_is_not_sent_again_before_its_time_has_passed_once_more(sent: Recorder) -> None:
    a_run(task("only"))
    recover(now=in_future(31))
    sent.forget()

    recover(now=in_future(40))

    assert not sent.sent


def test_the_steps_of_a_paused_run_are_not_sent_again(sent: Recorder) -> None:
    run = a_run(task("only"))
    pause_run(run_id=run.pk, by=ANN)
    sent.forget()

    recover(now=in_future(31))

    assert not sent.sent


def test_a_lost_step_of_a_paused_run_goes_on_when_the_run_does(sent: Recorder) -> None:
    run = a_run(task("only"))
    claimed(run, "only")
    pause_run(run_id=run.pk, by=ANN)
    recover(now=in_future(31))
    sent.forget()

    resume_run(run_id=run.pk, by=ANN)

    assert [(one.path, one.attempt) for one in sent.sent] == [("only", 2)]


def leave_unsettled(scope: str) -> Taker:
    return Taker("worker-1", "env.default.default", fan=scope)


def test_a_scope_whose_settling_was_lost_is_settled() -> None:
    run = a_run(BLOCK, task("after"))
    taker = leave_unsettled("block")
    for path in ("block.left", "block.right"):
        finish(claimed(run, path, taker=taker), taker=taker)
    assert states(run)["block"] == "WAITING"

    recover(now=timezone.now())
    assert states(run)["block"] == "WAITING"
    recover(now=in_future(11))

    assert (states(run)["block"], states(run)["after"]) == ("COMPLETED", "QUEUED")


def test_a_scope_that_is_to_end_and_whose_settling_was_lost_is_settled() -> None:
    run = a_run({"id": "outer", "steps": [{"id": "all", "parallel": [task("a"), task("b")]}]})
    work = claimed(run, "outer.all.a", taker=leave_unsettled("outer.all"))
    cancel_run(run_id=run.pk, by=ANN)
    finish(work, taker=leave_unsettled("outer.all"))
    assert states(run)["outer.all"] == "WAITING"

    recover(now=in_future(3600))

    assert states(run)["outer.all"] == "CANCELLED"
    assert state(run) == "CANCELLED"


def test_a_run_whose_settling_was_lost_is_ended() -> None:
    run = a_run(task("left", needs=[]), task("right", needs=[]))
    taker = leave_unsettled("")
    for path in ("left", "right"):
        finish(claimed(run, path, taker=taker), taker=taker)
    assert state(run) == "RUNNING"

    recover(now=in_future(11))

    assert state(run) == "COMPLETED"


def test_when_all_workers_are_known_to_be_gone_every_lease_ends_at_once() -> None:
    runs = [a_run(task("only")) for _ in range(3)]
    for run in runs:
        claimed(run, "only")

    report = release_all(now=timezone.now())

    assert len(report.lines) == 3
    assert [step(run, "only").attempt for run in runs] == [2, 2, 2]


def test_release_reaches_more_steps_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflows.services.recovery.LEASES", 2)
    run = a_run(*(task(f"s{n}", needs=[]) for n in range(5)))
    for n in range(5):
        claimed(run, f"s{n}")

    release_all(now=timezone.now())

    assert set(states(run).values()) == {"QUEUED"}


def test_a_lease_that_somebody_is_at_keeps_no_sweep_from_the_others() -> None:
    held, free = a_run(task("only")), a_run(task("only"))
    for run in (held, free):
        claimed(run, "only")

    with transaction.atomic():
        sql("SELECT 1 FROM workflows_step WHERE run_id = %s FOR UPDATE", held.pk)
        at_once(lambda: recover(now=in_future(31)))

    assert (states(held)["only"], states(free)["only"]) == ("RUNNING", "QUEUED")


def expire_everything() -> None:
    """Have workers take all that is queued, and be silent ever since."""
    sql(
        "UPDATE workflows_step SET state = 'RUNNING', worker = 'gone', started_at = now(),"
        " wake_at = now() WHERE state = 'QUEUED'"
    )


def test_two_thousand_leases_that_expire_at_once_are_ended_by_one_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workflows.services.recovery.LEASES_WITHIN", math.inf)
    name = a_version(*(task(f"s{n}", needs=[]) for n in range(100))).workflow.name
    start_runs(orders=[Order(name)] * 20, by=ANN)
    expire_everything()

    report = recover(now=timezone.now())

    assert len([line for line in report.lines if "expired" in line]) == 2000
    assert set(Step.objects.values_list("state", "attempt")) == {("QUEUED", 2)}


def test_a_sweep_that_has_spent_its_time_on_leases_goes_on_with_the_rest(
    monkeypatch: pytest.MonkeyPatch, sent: Recorder
) -> None:
    monkeypatch.setattr("workflows.services.recovery.LEASES_WITHIN", 0)
    lost, waiting = a_run(task("only")), a_run(task("only"))
    claimed(lost, "only")
    sent.forget()

    recover(now=in_future(31))

    assert states(lost)["only"] == "RUNNING"
    assert [one.run for one in sent.sent] == [waiting.pk]


def test_many_sweeps_at_once_do_what_one_does(sent: Recorder) -> None:
    lost, waiting = a_run(task("only")), a_run(task("only"))
    claimed(lost, "only")
    sent.forget()

    at_once(*(lambda: recover(now=in_future(31)) for _ in range(5)))

    assert (step(lost, "only").attempt, step(waiting, "only").attempt) == (2, 1)
    assert ends(lost, "only") == [(1, "lost")]
    assert [(one.run, one.attempt) for one in sent.sent if one.run == waiting.pk] == [
        (waiting.pk, 1)
    ]


def test_a_sweep_right_after_a_sweep_finds_nothing() -> None:
    run = a_run(task("only"), BLOCK)
    claimed(run, "only")
    recover(now=in_future(31))
    before = everything(run)

    assert recover(now=in_future(31)).lines == []
    assert everything(run) == before


def test_one_run_that_cannot_be_helped_does_not_keep_the_others_from_it() -> None:
    broken, whole = a_run(task("only")), a_run(task("only"))
    claimed(broken, "only")
    claimed(whole, "only")
    sql("SET session_replication_role = replica")
    sql("UPDATE workflows_version SET plan = '{}' WHERE id = %s", broken.version_id)
    sql("SET session_replication_role = origin")
    plan_of_version.cache_clear()

    recover(now=in_future(31))

    assert states(whole) == {"only": "QUEUED"}
    assert states(broken) == {"only": "RUNNING"}


def test_a_lease_that_was_renewed_at_the_last_moment_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = a_run(task("only"))
    claimed(run, "only")
    found = store.expired_leases

    def found_and_renewed(**facts: Any) -> object:
        rows = found(**facts)
        store.renew(run.pk, "only", 1, until=in_future(90))
        return rows

    monkeypatch.setattr(store, "expired_leases", found_and_renewed)
    recover(now=in_future(31))

    assert states(run)["only"] == "RUNNING"


def test_a_retry_is_queued_when_it_is_due_and_not_before(sent: Recorder) -> None:
    retry = {"max_attempts": 2, "initial_delay": "10s", "jitter": 0}
    run = a_run(task("only", retry=retry))
    fail(claimed(run, "only"), "transient")
    sent.forget()

    tick(now=in_future(9))
    assert states(run)["only"] == "RETRYING"
    tick(now=in_future(11))

    assert (states(run)["only"], step(run, "only").attempt) == ("QUEUED", 2)
    assert [(one.path, one.attempt) for one in sent.sent] == [("only", 2)]


def test_many_clocks_at_once_queue_a_retry_once(sent: Recorder) -> None:
    run = a_run(task("only", retry={"max_attempts": 5, "initial_delay": "10s"}))
    fail(claimed(run, "only"), "transient")
    sent.forget()

    at_once(*(lambda: tick(now=in_future(20)) for _ in range(5)))

    assert step(run, "only").attempt == 2
    assert len(sent.sent) == 1


def test_a_waiting_retry_holds_no_worker_and_takes_no_message() -> None:
    run = a_run(task("only", retry={"max_attempts": 2, "initial_delay": "10s"}))
    fail(claimed(run, "only"), "transient")

    assert claim(run, "only", 1) is None
    assert claim(run, "only", 2) is None


def test_a_block_that_takes_too_long_is_ended_and_asks_its_workers_to_stop() -> None:
    run = a_run({**BLOCK, "timeout": 60})
    work = claimed(run, "block.left")

    tick(now=in_future(59))
    assert store.cancel_requested(run.pk, "block.left", 1) is False
    tick(now=in_future(61))

    assert states(run)["block.right"] == "CANCELLED"
    assert store.cancel_requested(run.pk, "block.left", 1) is True
    fail(work, "cancelled")
    assert [one.code for one in open_incidents(run)] == ["scope.timeout"]


def test_a_run_that_takes_too_long_fails() -> None:
    run = a_run(task("only"), task("after"), timeout=60)

    tick(now=in_future(59))
    assert state(run) == "RUNNING"
    tick(now=in_future(61))

    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("FAILED", "run.timeout")
    assert set(states(run).values()) == {"CANCELLED"}


def test_a_run_that_is_paused_does_not_run_out_of_time_until_it_goes_on() -> None:
    run = a_run(task("only"), timeout=60)
    pause_run(run_id=run.pk, by=ANN)
    tick(now=in_future(61))
    assert state(run) == "PAUSED"

    resume_run(run_id=run.pk, by=ANN)
    tick(now=in_future(61))

    assert state(run) == "FAILED"


def test_nothing_is_due_in_a_run_that_has_ended() -> None:
    run = a_run(task("only"), timeout=60)
    work_off(run)

    assert tick(now=timezone.now() + timedelta(days=1)) == 0


def test_a_worker_whose_connection_was_cut_goes_on_with_a_new_one() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [backend] = cursor.fetchone()
    with psycopg.connect(**connection.get_connection_params()) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))

    with contextlib.suppress(psycopg.OperationalError):
        tick(now=timezone.now())

    assert tick(now=timezone.now()) == 0


def test_a_run_that_has_been_removed_has_nothing_to_settle() -> None:
    run = a_run(task("only"))
    pin = replace(pinned(run.pk), run=uuid4())

    settle_scope(pin=pin, scope="", now=timezone.now())

    assert state(run) == "RUNNING"
