"""Live runs go over to another version: safely or not at all, whoever is at them meanwhile."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError, transaction

from tests.support import invariants
from tests.workflows.builders import (
    ANN,
    QUEUE,
    TAKER,
    a_run,
    any_claimed,
    at_once,
    claim,
    claimed,
    everything,
    fail,
    finish,
    in_future,
    meanwhile,
    open_incidents,
    set_due,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from tests.workflows.test_one_winner import wait_until_someone_waits
from workflows.engine.events import Succeeded
from workflows.engine.examined import Verdict
from workflows.engine.plan import NO_LONGER
from workflows.models import Journal, Migration, Run, Version
from workflows.services import callbacks, concurrency, incidents, recovery, runs, timers
from workflows.services.claiming import claim_any_step, claim_step
from workflows.services.definitions import apply_definition
from workflows.services.errors import MigrationRefusedError, NotFoundError
from workflows.services.forking import fork_run
from workflows.services.migrating import migrate_run, migrate_runs, preflight_migration
from workflows.services.plans import pinned
from workflows.services.recording import record_outcomes
from workflows.services.scopes import settle_scope
from workflows.services.work import Taker, Work

pytestmark = pytest.mark.usefixtures("committed")


def next_version(run: Run, *steps: Mapping[str, Any], **document: Any) -> Version:
    """Apply another version of the run's workflow."""
    spec = {"workflow": run.workflow.name, "steps": list(steps), **document}
    return apply_definition(text=json.dumps(spec), source="test.yaml", by=ANN).version


def go_over(run: Run, **wish: Any) -> Run:
    return migrate_run(run_id=run.pk, by=ANN, **wish)


def verdict(run: Run, **wish: Any) -> Verdict:
    [found] = preflight_migration(run_ids=[run.pk], **wish)
    return found.verdict


def sound(run: Run) -> bool:
    """Say that what must hold of a run that is over does."""
    assert invariants.left_over(runs=[run.pk]) == []
    return True


def test_a_run_goes_over_and_ends_by_the_new_version() -> None:
    run = a_run(task("a"), task("b"))
    finish(claimed(run, "a"))
    next_version(run, task("zero", needs=[]), task("a", needs=[]), task("b"), task("c"))

    assert verdict(run) is Verdict.SAFE
    moved = go_over(run)

    assert moved.version.number == 2
    assert states(run) == {"a": "COMPLETED", "b": "QUEUED", "zero": "QUEUED", "c": "PENDING"}
    assert {step(run, path).node for path in ("zero", "a", "b", "c")} == {1, 2, 3, 4}
    work_off(run)
    assert state(run) == "COMPLETED"
    assert sound(run)


def test_the_journal_and_a_record_say_who_had_it_go_over_and_what_was_found() -> None:
    run = a_run(task("a"), task("b"))
    new = next_version(run, task("a"))

    go_over(run, mapping={"b": None})

    [record] = Migration.objects.filter(run=run)
    assert (record.before_id, record.after_id, record.by) == (run.version_id, new.pk, ANN)
    assert (record.number, record.mapping) == (1, {"b": None})
    line = Journal.objects.get(run=run, reason="migrated")
    assert (line.path, line.before, line.after, line.actor) == ("", "RUNNING", "RUNNING", ANN)


def test_nobody_changes_the_version_of_a_run_beside_a_migration() -> None:
    run = a_run(task("a"))
    new = next_version(run, task("a"), task("b"))

    with pytest.raises(DatabaseError, match="by migration alone"):
        sql("UPDATE workflows_run SET version_id = %s WHERE id = %s", new.pk, run.pk)


def test_a_record_of_a_migration_never_changes() -> None:
    run = a_run(task("a"))
    next_version(run, task("a"), task("b"))
    go_over(run)

    with pytest.raises(DatabaseError, match="Cannot update"):
        sql("UPDATE workflows_migration SET by = 'nobody'")
    with pytest.raises(DatabaseError, match="Cannot delete"):
        sql("DELETE FROM workflows_migration")


def test_what_is_not_safe_is_refused_with_its_reasons_and_changes_nothing() -> None:
    run = a_run(task("a"), task("b"))
    finish(claimed(run, "a"))
    next_version(run, task("b"))
    before = everything(run)

    with pytest.raises(MigrationRefusedError, match=r"NEEDS_MAPPING.*a: a is COMPLETED") as refused:
        go_over(run)

    assert refused.value.findings[0]["do"].startswith("Map it")
    assert everything(run) == before


def test_a_new_step_has_no_name_under_which_another_of_the_run_has_begun() -> None:
    """A late result of that one, and what it told others by its idempotency key, would be its."""
    run = a_run(task("a"), task("b"))
    finish(claimed(run, "a"))
    next_version(run, task("first"), task("b"), task("a"))

    with pytest.raises(MigrationRefusedError, match=r"BLOCKED.*another step of the run has begun"):
        go_over(run, mapping={"a": "first"})

    assert state(run) == "RUNNING"
    assert verdict(run, mapping={"a": "first", "b": "a"}) is Verdict.BLOCKED


def test_a_step_that_was_given_up_keeps_its_name_from_one_that_comes_back() -> None:
    run = a_run(task("a", needs=[]), task("b", needs=[]))
    fail(claimed(run, "a"))
    next_version(run, task("b", needs=[]))
    go_over(run, mapping={"a": None})

    next_version(run, task("a", needs=[]), task("b", needs=[]))

    assert verdict(run) is Verdict.BLOCKED
    assert verdict(run, mapping={"a": None}) is Verdict.SAFE


def test_what_has_another_name_in_the_new_version_may_have_its_own_again_in_the_old_one() -> None:
    run = a_run(task("a"), {"id": "ok", "approval": {"group": "finance"}}, task("b"))
    finish(claimed(run, "a"))
    next_version(run, task("one"), {"id": "signed", "approval": {"group": "finance"}}, task("b"))
    go_over(run, mapping={"a": "one", "ok": "signed"})

    back = go_over(run, version=1, mapping={"one": "a", "signed": "ok"})

    assert back.version.number == 1
    assert states(run) == {"a": "COMPLETED", "ok": "WAITING", "b": "PENDING"}


def test_a_preflight_changes_nothing() -> None:
    run = a_run(task("a"), task("b"))
    next_version(run, task("a"), task("b"), task("c"))
    before = everything(run)

    [found] = preflight_migration(run_ids=[run.pk])

    assert (found.before, found.after, found.verdict) == (1, 2, Verdict.SAFE)
    assert everything(run) == before


def test_to_migrate_twice_is_to_migrate_once() -> None:
    run = a_run(task("a"), task("b"))
    next_version(run, task("a"), task("b"), task("c"))
    go_over(run)
    before = everything(run)

    report = migrate_runs(run_ids=[run.pk, run.pk], by=ANN)

    assert (report.done, report.refused) == ((run.pk,), ())
    assert everything(run) == before
    assert Migration.objects.filter(run=run).count() == 1


def test_many_runs_go_over_each_by_itself() -> None:
    good, bad = (a_run(task("a"), task("b")) for _ in range(2))
    next_version(good, task("a"), task("c"))
    next_version(bad, task("b"))
    finish(claimed(bad, "a"))

    report = migrate_runs(run_ids=[good.pk, bad.pk], by=ANN)

    assert report.done == (good.pk,)
    assert [one.id for one in report.refused] == [bad.pk]
    assert "NEEDS_MAPPING" in report.refused[0].why


def test_a_version_that_the_workflow_does_not_have_is_not_found() -> None:
    run = a_run(task("a"))

    with pytest.raises(NotFoundError, match="v7"):
        go_over(run, version=7)


def test_input_that_does_not_fit_the_new_version_blocks_and_defaults_are_added() -> None:
    run = a_run(task("a"), task("b"))
    asked = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}
    next_version(run, task("a"), task("b"), input=asked)
    assert verdict(run) is Verdict.BLOCKED
    asked = {"type": "object", "properties": {"x": {"type": "integer", "default": 7}}}
    next_version(run, task("a"), task("b"), input=asked)

    go_over(run)

    assert Run.objects.get(pk=run.pk).input == {"x": 7}


def test_classes_of_workers_that_the_environment_does_not_have_block() -> None:
    run = a_run(task("a"), task("b"))
    next_version(run, task("a"), task("b", **{"class": "browser"}))

    [found] = preflight_migration(run_ids=[run.pk])

    assert found.verdict is Verdict.BLOCKED
    assert "browser" in found.findings[-1].what


# Whoever is at the run meanwhile.


def test_a_step_that_runs_meanwhile_ends_and_counts_by_the_new_version() -> None:
    run = a_run(task("a"), task("b"))
    work = claimed(run, "a")
    next_version(run, task("a"), task("between"), task("b"))
    go_over(run)

    after = finish(work, {"n": 1}, run_on=True)

    assert after is not None
    assert (after.path, after.pinned.version) == ("between", pinned(run.pk).version)
    finish(after)
    work_off(run)
    assert step(run, "a").output == {"n": 1}
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_step_that_runs_and_fails_meanwhile_does_what_the_new_version_says() -> None:
    run = a_run(task("a"), task("b"))
    work = claimed(run, "a")
    next_version(run, task("a", catch=[{"steps": [task("mend")]}]), task("b"))
    go_over(run)

    fail(work)

    assert states(run)["a.catch[0]"] == "WAITING"
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_message_that_was_sent_before_claims_nothing_after() -> None:
    run = a_run(task("a"), task("b"))
    sent = pinned(run.pk)
    next_version(run, task("new", needs=[]), task("a", needs=[]), task("b"))
    go_over(run)

    late = claim_step(pin=sent, path="a", attempt=1, taker=TAKER, now=in_future(0))

    assert late is None
    assert states(run)["a"] == "QUEUED"
    assert claim(run, "a") is not None


def test_the_takers_of_a_fan_out_that_was_sent_before_take_nothing_after() -> None:
    branches = [task(f"b{n}") for n in range(9)]
    run = a_run({"id": "all", "parallel": branches})
    sent = pinned(run.pk)
    next_version(run, {"id": "all", "parallel": [task("more"), *branches]})
    go_over(run)
    taker = Taker("worker-9", QUEUE, fan="all")

    assert claim_any_step(pin=sent, taker=taker, now=in_future(0)) is None
    settle_scope(pin=sent, scope="all", now=in_future(0))

    assert set(states(run).values()) == {"WAITING", "QUEUED"}
    assert any_claimed(run, taker) is not None
    sql("UPDATE workflows_step SET wake_at = wake_at - interval '1 h' WHERE state = 'RUNNING'")
    recovery.recover(now=in_future(1))
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


@pytest.mark.parametrize("turn", range(6))
def test_a_migration_and_an_outcome_at_the_same_time_are_one_after_the_other(turn: int) -> None:
    run = a_run(task("a"), task("b"), task("c"))
    work = claimed(run, "a")
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"), task("d"), task("c"))
    works = [lambda: go_over(run), lambda: finish(work, run_on=True)]

    at_once(*(works if turn % 2 else reversed(works)))

    running = [path for path, where in states(run).items() if where == "RUNNING"]
    recovery.release_all(now=in_future(60))
    set_due(run, running[0]) if states(run).get(running[0] if running else "") == "RETRYING" else 0
    timers.tick(now=in_future(120))
    work_off(run)
    assert Run.objects.get(pk=run.pk).version.number == 2
    assert (state(run), sound(run)) == ("COMPLETED", True)


@pytest.mark.parametrize("outcome", [finish, fail])
def test_who_waits_for_the_locks_of_a_migration_goes_on_by_the_new_version(
    outcome: Callable[[Work], Any],
) -> None:
    """The locked way as well: its statement has begun while the run was in the old version."""
    run = a_run(task("a"), task("b"))
    works = [replace(claimed(run, "a"), seen=None)]
    next_version(run, task("x", needs=[]), task("a", needs=[], optional=True), task("b"))

    with ExitStack() as stack, transaction.atomic():
        go_over(run)
        stack.enter_context(meanwhile(lambda: outcome(works[0])))
        wait_until_someone_waits()

    assert states(run)["b"] == "QUEUED"
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_cancel_that_waits_for_a_migration_ends_what_the_new_version_has() -> None:
    run = a_run(task("a"), task("b"))
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"))

    with ExitStack() as stack, transaction.atomic():
        go_over(run)
        stack.enter_context(meanwhile(lambda: runs.cancel_run(run_id=run.pk, by=ANN)))
        wait_until_someone_waits()

    assert states(run) == dict.fromkeys(("x", "a", "b"), "CANCELLED")
    assert sound(run)


def test_a_retry_that_is_due_goes_on_by_the_new_version() -> None:
    retry = {"max_attempts": 3, "initial_delay": "1m"}
    run = a_run(task("a", retry=retry), task("b"))
    fail(claimed(run, "a"), "transient")
    next_version(run, task("x", needs=[]), task("a", needs=[], retry=retry), task("b"))

    go_over(run)
    set_due(run, "a")
    timers.tick(now=in_future(0))

    assert (step(run, "a").state, step(run, "a").attempt) == ("QUEUED", 2)
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_lost_worker_is_found_after_its_run_went_over() -> None:
    run = a_run(task("a"), task("b"))
    claimed(run, "a")
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"))

    go_over(run)
    recovery.release_all(now=in_future(0))

    assert (step(run, "a").state, step(run, "a").attempt) == ("QUEUED", 2)
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_callback_comes_to_the_url_that_was_handed_out_before() -> None:
    wait = {"id": "vendor", "callback": {"timeout": "7d"}}
    run = a_run(wait, task("b"))
    next_version(run, task("x", needs=[]), {**wait, "needs": []}, task("b"))

    go_over(run)
    callbacks.receive_callback(
        run_id=run.pk, path="vendor", attempt=1, body={"yes": 1}, now=in_future(0)
    )

    assert (step(run, "vendor").state, step(run, "vendor").output) == ("COMPLETED", {"yes": 1})
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


# What the run does without, and what has another name.


def test_a_step_that_has_another_name_takes_all_along_that_bears_it() -> None:
    inside = [task("one"), {"id": "ok", "approval": {"group": "finance"}}]
    run = a_run({"id": "old", "steps": inside}, task("b"))
    finish(claimed(run, "old.one"))
    next_version(run, {"id": "new", "steps": inside}, task("b"))

    go_over(run, mapping={"old": "new"})

    assert states(run) == {
        "new": "WAITING",
        "new.one": "COMPLETED",
        "new.ok": "WAITING",
        "b": "PENDING",
    }
    assert step(run, "new.one").scope == "new"
    assert list(run.waits.values_list("path", flat=True)) == ["new.ok"]
    assert invariants.broken(runs=[run.pk]) == []


def test_a_task_that_was_tried_keeps_its_name_and_one_that_was_only_queued_need_not() -> None:
    run = a_run(task("charge", retry={"max_attempts": 3, "initial_delay": "0s"}), task("b"))
    next_version(run, task("pay", retry={"max_attempts": 3, "initial_delay": "0s"}), task("b"))

    assert verdict(run, mapping={"charge": "pay"}) is Verdict.SAFE
    fail(claimed(run, "charge"), "transient")
    timers.tick(now=in_future(1))

    assert (step(run, "charge").state, step(run, "charge").attempt) == ("QUEUED", 2)
    with pytest.raises(MigrationRefusedError, match="idempotency key"):
        go_over(run, mapping={"charge": "pay"})


def test_the_rounds_of_a_loop_take_its_new_name() -> None:
    loop = {"foreach": [1, 2, 3], "max_parallel": 1, "steps": [task("scan"), task("pack")]}
    run = a_run({"id": "each", **loop}, task("b"))
    finish(claimed(run, "each[0].scan"))
    finish(claimed(run, "each[0].pack"))
    next_version(run, {"id": "all", **loop}, task("b"))

    go_over(run, mapping={"each": "all"})
    work_off(run)

    assert {path for path in states(run) if path.endswith("pack")} == {
        "all[0].pack",
        "all[1].pack",
        "all[2].pack",
    }
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_what_is_given_up_is_kept_aside_with_all_that_was_done() -> None:
    run = a_run(task("a"), task("b"), task("c"))
    finish(claimed(run, "a"), {"n": 1})
    next_version(run, task("c"))

    go_over(run, mapping={"a": None, "b": None})

    assert states(run) == {"a~1": "COMPLETED", "b~1": "CANCELLED", "c": "QUEUED"}
    aside = step(run, "a~1")
    assert (aside.node, aside.scope, aside.output) == (NO_LONGER, "~", {"n": 1})
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_wait_that_is_given_up_is_closed() -> None:
    run = a_run({"id": "ok", "approval": {"group": "finance"}}, task("b"))
    next_version(run, task("b"))

    go_over(run, mapping={"ok": None})

    assert run.waits.get().closed_at is not None
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_the_incident_of_a_step_that_is_given_up_is_closed_and_its_run_may_complete() -> None:
    run = a_run(task("a"), on_failure="park")
    fail(claimed(run, "a"))
    next_version(run, task("b", needs=[]), on_failure="park")

    go_over(run, mapping={"a": None})

    assert open_incidents(run) == []
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_fix_migrate_replay() -> None:
    run = a_run(task("a"), task("b", "fail"), task("c"))
    finish(claimed(run, "a"), {"n": 1})
    fail(claimed(run, "b"))
    assert state(run) == "FAILED"
    next_version(run, task("a"), task("b"), task("more", needs=["a"]), task("c", needs=["b"]))

    go_over(run)
    assert state(run) == "FAILED"
    [incident] = open_incidents(run)
    incidents.replay_incident(incident_id=incident.pk, by=ANN)

    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)
    assert states(run) == dict.fromkeys(("a", "b", "more", "c"), "COMPLETED")
    assert step(run, "a").attempt == 1


def test_what_can_be_undone_is_what_the_new_version_says_in_the_order_of_its_ends() -> None:
    undo = {"compensate": {"uses": "log", "with": {"message": "undo"}}}
    run = a_run(task("a"), task("b", **undo), task("c"))
    finish(claimed(run, "a"))
    finish(claimed(run, "b"))
    next_version(run, task("a", **undo), task("b", **undo), task("c"))

    go_over(run)
    runs.cancel_run(run_id=run.pk, compensate=True, by=ANN)

    assert "b.compensate" in states(run)
    assert "a.compensate" not in states(run)
    work_off(run)
    assert (state(run), sound(run)) == ("COMPENSATED", True)
    assert states(run)["a"] == "COMPENSATED"


def test_a_paused_run_goes_over_and_goes_on_when_it_is_resumed() -> None:
    run = a_run(task("a"), task("b"))
    runs.pause_run(run_id=run.pk, by=ANN)
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"))

    go_over(run)
    assert claim(run, "x") is None
    runs.resume_run(run_id=run.pk, by=ANN)

    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)


def test_a_run_that_waits_for_its_place_begins_in_the_new_version() -> None:
    place = {"concurrency": {"key": "one", "limit": 1}}
    first = a_run(task("a"), **place)
    second = runs.start_run(workflow=first.workflow.name, by=ANN).run
    next_version(first, task("z"), **place)

    go_over(second)
    work_off(first)
    concurrency.fill_after(run_id=first.pk)

    assert states(second) == {"z": "QUEUED"}


def test_the_time_of_a_run_is_that_of_its_new_version() -> None:
    run = a_run(task("a"), timeout="1h", sla="30m")
    next_version(run, task("a"), timeout="2h")

    go_over(run)

    moved = Run.objects.get(pk=run.pk)
    assert moved.started_at is not None
    assert moved.deadline_at is not None
    assert (moved.deadline_at - moved.started_at).total_seconds() == 7200
    assert moved.sla_at is None


def test_a_migrated_run_is_forked_and_goes_over_once_more() -> None:
    run = a_run(task("a"), task("b"))
    finish(claimed(run, "a"))
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"))
    go_over(run)
    work_off(run)

    new = fork_run(run_id=run.pk, from_path="b", by=ANN).run
    next_version(run, task("x", needs=[]), task("a", needs=[]), task("b"), task("c"))
    go_over(new)

    work_off(new)
    assert states(new) == dict.fromkeys(("x", "a", "b", "c"), "COMPLETED")
    assert sound(new)


def test_work_that_moves_to_another_queue_is_sent_there() -> None:
    run = a_run(task("a"), task("b"))
    sql('UPDATE environments_environment SET classes = \'["default", "heavy"]\'')
    next_version(run, task("a", **{"class": "heavy"}), task("b"))

    go_over(run)

    assert step(run, "a").queue == "env.default.heavy"


def test_items_that_are_carried_out_abreast_meanwhile_are_recorded_together() -> None:
    loop = {"id": "each", "foreach": [1, 2, 3], "steps": [task("scan")]}
    run = a_run(loop, task("b"))
    works = [claimed(run, f"each[{number}].scan") for number in range(3)]
    next_version(run, task("x", needs=[]), {**loop, "needs": []}, task("b"), task("c"))
    go_over(run)

    done = [(work, Succeeded(work.path, 1, work.path)) for work in works]
    record_outcomes(done=done, taker=TAKER, run_on=False, now=in_future(0))

    assert (step(run, "each").state, states(run)["b"]) == ("COMPLETED", "QUEUED")
    work_off(run)
    assert (state(run), sound(run)) == ("COMPLETED", True)
