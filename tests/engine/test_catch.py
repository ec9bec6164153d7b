"""Catch: fallback paths, whom they are for, and what becomes of the step that failed."""

from typing import Any

import pytest

from tests.engine.builders import broken, done, plan_from, play, task
from workflows.engine.events import Replayed, SkipDecided
from workflows.engine.plan import Plan
from workflows.engine.states import Reason, RunState, StepState

RESCUE = "a.catch[0].rescue"


def caught(*on: str, rescue: dict[str, Any] | None = None) -> Plan:
    clause = {"on": list(on), "steps": [rescue or task("rescue")]}
    return plan_from(task("a", catch=[clause]), task("b"))


def test_the_fallback_path_makes_the_failure_good() -> None:
    run = play(caught(), broken("a"))

    assert run.step("a").state is StepState.WAITING
    assert run.reason("a") is Reason.CATCH
    run.hear(done(RESCUE, output="saved"))
    assert run.rows["a"].output == "saved"
    assert run.step("a").error is None
    assert run.queued == {"b"}
    assert run.incidents == []


def test_retries_come_before_the_fallback_path() -> None:
    run = play(caught(), broken("a", "http.503", "transient"))

    assert run.step("a").state is StepState.RETRYING
    assert set(run.rows) == {"a", "b"}


@pytest.mark.parametrize(
    ("on", "taken"),
    [
        ("permanent", True),
        ("http.413", True),
        ("http", True),
        ("business", False),
        ("http.4", False),
        ("sql", False),
    ],
)
def test_a_fallback_path_is_for_a_class_a_code_or_the_beginning_of_one(
    on: str, taken: bool
) -> None:
    run = play(caught(on), broken("a", "http.413", "permanent"))

    assert (RESCUE in run.rows) is taken
    assert (run.accused == []) is taken


def test_the_first_fallback_path_that_is_for_the_error_is_taken() -> None:
    clauses = [
        {"on": ["sql"], "steps": [task("one")]},
        {"on": ["http"], "steps": [task("two")]},
        {"steps": [task("three")]},
    ]

    run = play(plan_from(task("a", catch=clauses)), broken("a", "http.500"))

    assert run.queued == {"a.catch[1].two"}


def test_the_fallback_path_can_name_the_error() -> None:
    rescue = {"id": "rescue", "set": {"why": "${{ error.code }}"}}

    run = play(caught(rescue=rescue), broken("a", "http.413"))

    assert run.variables == {"why": "http.413"}
    assert run.rows["a"].output == {"why": "http.413"}


def test_a_block_in_a_fallback_path_can_name_the_error_too() -> None:
    rescue = {"id": "block", "steps": [{"id": "deep", "set": {"why": "${{ error.message }}"}}]}

    run = play(caught(rescue=rescue), broken("a"))

    assert run.variables == {"why": "test.broken happened"}


def test_a_lost_worker_and_a_broken_expression_can_be_caught() -> None:
    plan = plan_from(task("a", when="${{ input.x }}", catch=[{"steps": [task("rescue")]}]))

    run = play(plan)

    assert run.queued == {RESCUE}


def test_a_failing_fallback_path_fails_the_step() -> None:
    run = play(caught(), broken("a", "http.1"), broken(RESCUE, "sql.2"))

    assert run.step("a").state is StepState.FAILED
    error = run.step("a").error
    assert error is not None
    assert error.code == "sql.2"
    assert run.accused == [RESCUE]
    assert run.reason("b") is Reason.UPSTREAM_FAILED
    assert run.state is RunState.FAILED


def test_a_fallback_path_does_not_catch_itself() -> None:
    run = play(caught(), broken("a"), broken(RESCUE))

    assert run.queued == set()
    assert run.state is RunState.FAILED


def block(kind: str, *on: str) -> Plan:
    clause = {"on": list(on), "steps": [task("rescue")]}
    inner = {"id": "s", kind: [task("x"), task("y", needs=[])], "catch": [clause]}
    return plan_from(inner, task("after"))


@pytest.mark.parametrize("kind", ["steps", "parallel"])
def test_a_block_catches_what_fails_in_it_when_the_rest_is_done(kind: str) -> None:
    run = play(block(kind), broken("s.x"))

    assert run.queued == {"s.y"}
    assert run.incidents == []
    run.hear(done("s.y"))
    assert run.queued == {"s.catch[0].rescue"}
    run.hear(done("s.catch[0].rescue", output="saved"))
    assert run.rows["s"].output == "saved"
    assert run.queued == {"after"}


def test_a_block_that_is_not_for_the_error_does_not_keep_it_from_people() -> None:
    run = play(block("parallel", "sql"), broken("s.x", "http.500"), done("s.y"))

    assert run.accused == ["s.x"]
    assert run.state is RunState.FAILED


def test_the_outer_block_catches_what_the_inner_one_does_not() -> None:
    inner = {"id": "in", "steps": [task("x")], "catch": [{"on": ["sql"], "steps": [task("r1")]}]}
    outer = {"id": "out", "steps": [inner], "catch": [{"on": ["http"], "steps": [task("r2")]}]}

    run = play(plan_from(outer), broken("out.in.x", "http.500"))

    assert run.incidents == []
    assert run.queued == {"out.catch[0].r2"}


def test_a_failure_inside_a_fallback_path_can_be_caught_by_the_block_around() -> None:
    step = task("x", catch=[{"steps": [task("r1")]}])
    plan = plan_from({"id": "s", "steps": [step], "catch": [{"steps": [task("r2")]}]})

    run = play(plan, broken("s.x"), broken("s.x.catch[0].r1"))

    assert run.incidents == []
    assert run.queued == {"s.catch[0].r2"}


def test_a_step_of_a_block_on_its_fallback_path_is_not_begun_again() -> None:
    run = play(block("parallel"), broken("s.x"), done("s.y"))

    run.hear(Replayed("s.x"), SkipDecided("s.x"))

    assert run.queued == {"s.catch[0].rescue"}
    assert run.step("s.x").state is StepState.FAILED


def test_a_failed_step_of_a_fallback_path_can_be_replayed() -> None:
    run = play(caught(), broken("a"), broken(RESCUE))

    run.hear(Replayed(RESCUE), done(RESCUE, output="at last", attempt=2), done("b"))

    assert run.rows["a"].output == "at last"
    assert run.state is RunState.COMPLETED


def test_a_replayed_step_that_fails_again_takes_its_fallback_path_again() -> None:
    run = play(caught(), broken("a"), broken(RESCUE))

    run.hear(Replayed("a"), broken("a", attempt=2))

    assert run.queued == {RESCUE}
    run.hear(done(RESCUE, output="at last", attempt=2))
    assert run.rows["a"].output == "at last"


def test_a_replayed_step_that_succeeds_leaves_its_fallback_path_behind() -> None:
    run = play(caught(), broken("a"), broken(RESCUE))

    run.hear(Replayed("a"), done("a", attempt=2), done("b"))

    assert run.state is RunState.COMPLETED
    assert run.reason(RESCUE) is Reason.REPLAYED


def test_replaying_the_body_of_a_block_leaves_its_failed_fallback_path_behind() -> None:
    run = play(block("parallel"), broken("s.x"), done("s.y"), broken("s.catch[0].rescue"))

    run.hear(Replayed("s.x"), done("s.x", attempt=2), done("after"))

    assert run.state is RunState.COMPLETED


def test_a_fallback_path_that_a_person_skips_ends_the_step_with_what_they_give() -> None:
    run = play(caught(), broken("a"), broken(RESCUE), SkipDecided("a.catch[0]", output="given"))

    assert run.rows["a"].output == "given"
    assert run.queued == {"b"}


def test_a_fallback_path_may_end_the_run_as_completed() -> None:
    leave = {"id": "leave", "exit": {"output": {"why": "${{ error.code }}"}}}
    run = play(plan_from(task("a", catch=[{"steps": [leave]}]), task("b")))

    run.hear(broken("a"))

    assert (run.state, run.output) == (RunState.COMPLETED, {"why": "test.broken"})
    assert run.incidents == []


def test_a_failure_that_another_fallback_path_runs_away_from_is_not_forgotten() -> None:
    leave = {"id": "leave", "exit": {}}
    branches = [
        task("a", catch=[{"steps": [task("mend")]}]),
        task("b", catch=[{"steps": [leave]}]),
    ]
    run = play(plan_from({"id": "both", "parallel": branches}))

    run.hear(broken("both.a"), broken("both.b"))

    assert run.state is RunState.FAILED


def test_a_failure_inside_the_fallback_path_that_ends_the_run_is_not_forgotten() -> None:
    leave = {"id": "leave", "needs": ["bad"], "join": "all_done", "exit": {}}
    run = play(plan_from(task("a", catch=[{"steps": [task("bad"), leave]}])))

    run.hear(broken("a"), broken("a.catch[0].bad"))

    assert run.state is RunState.FAILED
