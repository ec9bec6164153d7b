"""Forks: another run from a step of a run, which does nothing again that comes before that step."""

import json
from typing import Any

import pytest

from tests.support import invariants
from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    at_once,
    claimed,
    everything,
    fail,
    finish,
    journal,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows.models import Run, Step
from workflows.models.ids import APART, moment_of
from workflows.services.definitions import apply_definition
from workflows.services.errors import (
    IdempotencyMismatchError,
    InputRefusedError,
    NotFoundError,
    StateRefusedError,
)
from workflows.services.forking import fork_run
from workflows.services.runs import start_run

pytestmark = pytest.mark.usefixtures("committed")


def fork(run: Run, path: str, **wish: Any) -> Run:
    return fork_run(run_id=run.pk, from_path=path, by=ANN, **wish).run


def a_finished_run() -> Run:
    run = a_run(task("fetch"), {"id": "mark", "set": {"seen": True}}, task("load"), task("report"))
    finish(claimed(run, "fetch"), {"rows": 7})
    work_off(run)
    return run


def test_a_fork_takes_over_what_comes_before_and_does_the_rest_anew() -> None:
    run = a_finished_run()
    before = everything(run)

    new = fork(run, "load")

    assert states(new) == {
        "fetch": "COMPLETED",
        "mark": "COMPLETED",
        "load": "QUEUED",
        "report": "PENDING",
    }
    assert (step(new, "fetch").output, step(new, "fetch").attempts.count()) == ({"rows": 7}, 0)
    assert (new.forked_from_id, new.forked_path, new.vars) == (run.pk, "load", {"seen": True})
    work_off(new)
    assert state(new) == "COMPLETED"
    assert everything(run) == before
    assert invariants.left_over(runs=[new.pk]) == []


def test_the_journal_says_what_was_taken_over_and_by_whom() -> None:
    run = a_finished_run()

    new = fork(run, "load")

    lines = new.journal.filter(path="fetch").values_list("before", "after", "reason", "actor")
    assert list(lines) == [("PENDING", "COMPLETED", "forked", ANN)]
    assert journal(new, "") == [("", "PENDING", "RUNNING")]


def test_variables_that_later_steps_have_set_are_not_taken_over() -> None:
    run = a_finished_run()

    new = fork(run, "mark")

    work_off(new)
    assert states(new)["load"] == "COMPLETED"
    assert Run.objects.get(pk=fork(run, "fetch").pk).vars == {}


def test_a_failed_run_is_forked_at_the_step_that_failed_with_another_input() -> None:
    asked = {"type": "object", "properties": {"rows": {"type": "integer", "default": 1}}}
    run = a_run(task("fetch"), task("load"), input=asked)
    finish(claimed(run, "fetch"))
    fail(claimed(run, "load"))

    new = fork(run, "load", input={"rows": 5})

    assert new.input == {"rows": 5}
    assert states(new) == {"fetch": "COMPLETED", "load": "QUEUED"}
    with pytest.raises(InputRefusedError):
        fork(run, "load", input={"rows": "many"})


def test_a_branch_beside_the_step_is_taken_over_if_it_was_completed_and_done_if_not() -> None:
    run = a_run(
        task("left", needs=[]),
        task("right", needs=[]),
        task("other", needs=[]),
        task("join", needs=["left", "right", "other"]),
    )
    finish(claimed(run, "left"))
    finish(claimed(run, "right"))

    new = fork(run, "left")

    assert states(new) == {
        "left": "QUEUED",
        "right": "COMPLETED",
        "other": "QUEUED",
        "join": "PENDING",
    }
    work_off(new)
    assert state(new) == "COMPLETED"


def test_a_fork_inside_a_block_begins_there() -> None:
    case = {"when": True, "steps": [task("a"), task("b")]}
    run = a_run(
        task("first"),
        {"id": "route", "switch": [case, {"else": True, "steps": [task("c")]}]},
        {"id": "wide", "parallel": [task("x"), {"id": "y", "steps": [task("y1"), task("y2")]}]},
        task("last"),
    )
    work_off(run)

    inside = fork(run, "route.b")
    deep = fork(run, "wide.y.y2")

    assert states(inside) == {
        "first": "COMPLETED",
        "route": "WAITING",
        "route.a": "COMPLETED",
        "route.b": "QUEUED",
        "route.c": "SKIPPED",
        "wide": "PENDING",
        "last": "PENDING",
    }
    assert states(deep)["wide.x"] == states(deep)["wide.y.y1"] == "COMPLETED"
    for new in (inside, deep):
        work_off(new)
        assert state(new) == "COMPLETED"


def test_rows_that_are_taken_over_have_ids_of_their_time_in_the_order_of_the_others() -> None:
    each = {"id": "each", "foreach": list(range(20)), "steps": [task("one")]}
    run = a_run(each, task("report"))
    work_off(run)

    new = fork(run, "report")

    taken, known = (
        list(Step.objects.filter(run=one, path__startswith="each").order_by("id"))
        for one in (new, run)
    )
    assert [one.path for one in taken] == [one.path for one in known]
    assert {one.pk.version for one in taken} == {7}
    assert all(abs(moment_of(one.pk) - new.created_at) < APART for one in taken)


def test_a_loop_is_taken_over_with_all_its_rounds_and_forked_only_as_a_whole() -> None:
    loop = {"id": "each", "foreach": [1, 2, 3], "steps": [task("scan")]}
    run = a_run(loop, task("sum", **{"with": {"message": "${{ string(steps.each.output) }}"}}))
    work_off(run)

    new = fork(run, "sum")

    assert list(states(new).values()).count("COMPLETED") == len(states(run)) - 1
    with pytest.raises(StateRefusedError, match="Fork the run at each"):
        fork(run, "each[1].scan")
    work_off(new)
    assert step(new, "each").output == step(run, "each").output
    assert state(new) == "COMPLETED"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere", "has no step nowhere"),
        ("never", "never came to never"),
        ("after", "follows broken, which is FAILED"),
        ("broken.catch[0].mend", "is done as a whole"),
    ],
)
def test_a_fork_that_makes_no_sense_is_refused_with_what_to_do(path: str, why: str) -> None:
    mend = {"on": ["http.1"], "steps": [task("mend")]}
    run = a_run(
        {"id": "way", "switch": [{"when": False, "steps": [task("inner")]}]},
        task("broken", catch=[mend]),
        task("after", join="all_done"),
        {"id": "block", "steps": [task("never")]},
    )
    fail(claimed(run, "broken"))
    wanted = "block.never" if path == "never" else path

    with pytest.raises(StateRefusedError, match=why.replace("to never", "to block.never")):
        fork(run, wanted)


def test_a_fork_may_go_on_in_another_version() -> None:
    version = a_version(task("fetch"), task("load"))
    name = version.workflow.name
    run = start_run(workflow=name, by=ANN).run
    work_off(run)
    text = (
        f"workflow: {name}\nsteps:\n"
        "  - {id: fetch, uses: log, with: {message: fetch}}\n"
        "  - {id: check, uses: log, with: {message: check}}\n"
        "  - {id: load, uses: log, with: {message: load}}\n"
    )
    apply_definition(text=text, source="x.yaml", by=ANN)

    new = fork(run, "load", version=2)

    assert states(new) == {"fetch": "COMPLETED", "check": "QUEUED", "load": "PENDING"}
    work_off(new)
    assert state(new) == "COMPLETED"


def test_a_fork_does_not_undo_what_another_run_has_done() -> None:
    undo = {"uses": "log", "with": {"message": "back"}}
    run = a_run(
        task("pay", compensate=undo),
        task("ship", compensate=undo),
        task("tell"),
        on_failure="compensate",
    )
    work_off(run)

    new = fork(run, "ship")
    finish(claimed(new, "ship"))
    fail(claimed(new, "tell"))
    work_off(new)

    assert (state(new), states(new)["pay"], states(new)["ship"]) == (
        "COMPENSATED",
        "COMPLETED",
        "COMPENSATED",
    )
    with pytest.raises(StateRefusedError):
        fork(new, "ship.compensate")


def test_a_fork_of_a_live_run_leaves_that_as_it_is() -> None:
    run = a_run(task("a"), task("b"), task("c"))
    finish(claimed(run, "a"))
    claimed(run, "b")

    new = fork(run, "b")

    assert states(run) == {"a": "COMPLETED", "b": "RUNNING", "c": "PENDING"}
    assert states(new) == {"a": "COMPLETED", "b": "QUEUED", "c": "PENDING"}


def test_a_fork_sent_twice_with_one_key_is_one_run() -> None:
    run = a_finished_run()
    one = fork_run(run_id=run.pk, from_path="load", idempotency_key="k", by=ANN)

    again = fork_run(run_id=run.pk, from_path="load", idempotency_key="k", by=ANN)

    assert (again.created, again.run.pk) == (False, one.run.pk)
    with pytest.raises(IdempotencyMismatchError):
        fork(run, "report", idempotency_key="k")


def test_a_fork_needs_a_free_place_and_two_at_once_get_one() -> None:
    name = a_version(task("a"), task("b"), concurrency={"key": "all"}).workflow.name
    run = start_run(workflow=name, by=ANN).run
    finish(claimed(run, "a"))
    with pytest.raises(StateRefusedError, match="No place is free"):
        fork(run, "b")
    work_off(run)

    def forked() -> bool:
        try:
            fork(run, "b")
        except StateRefusedError:
            return False
        return True

    assert sorted(at_once(forked, forked)) == [False, True]


def test_a_fork_sent_twice_with_one_key_is_one_run_although_it_has_taken_the_last_place() -> None:
    name = a_version(task("a"), task("b"), concurrency={"key": "all"}).workflow.name
    run = start_run(workflow=name, by=ANN).run
    work_off(run)
    one = fork(run, "b", idempotency_key="k")

    again = fork(run, "b", idempotency_key="k")

    assert (again.pk, again.state) == (one.pk, "RUNNING")


@pytest.mark.parametrize("other", [{"input": {"n": 2}}, {"version": 2}])
def test_a_key_that_was_used_for_another_fork_is_refused(other: dict[str, Any]) -> None:
    version = a_version(task("fetch"), task("load"))
    text = json.dumps({"workflow": version.workflow.name, "steps": [task("fetch"), task("load")]})
    run = start_run(workflow=version.workflow.name, by=ANN).run
    apply_definition(text=text.replace('fetch"}', 'other"}'), source="x.yaml", by=ANN)
    work_off(run)
    fork(run, "load", idempotency_key="k")

    with pytest.raises(IdempotencyMismatchError):
        fork(run, "load", idempotency_key="k", **other)


def test_a_run_that_is_not_there_cannot_be_forked() -> None:
    run = a_finished_run()
    missing = run.pk.__class__(int=0)

    with pytest.raises(NotFoundError):
        fork_run(run_id=missing, from_path="load", by=ANN)


def test_nobody_makes_a_finished_step_by_hand_but_by_a_fork() -> None:
    run = a_finished_run()

    with pytest.raises(Exception, match="it is born PENDING"):
        sql(
            "INSERT INTO workflows_step (id, run_id, path, node, scope, queue, state, reason,"
            " attempt, failures, losses, ok, failed, skipped, upstream_failed, cancel_requested,"
            " worker, finished_at) SELECT gen_random_uuid(), run_id, 'x', node, scope, queue,"
            " state, reason, 1, 0, 0, 0, 0, 0, 0, false, '', now()"
            " FROM workflows_step WHERE run_id = %s AND path = 'fetch'",
            run.pk,
        )
