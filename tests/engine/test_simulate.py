"""The simulation: a run in memory on a virtual clock, for authors and for these tests."""

from datetime import timedelta

import pytest

from tests.engine.builders import error_of, plan_from, task
from workflows.engine.simulate import EPOCH, simulate
from workflows.engine.states import RunState, StepState
from workflows.engine.stubs import Call, Result


def test_a_week_of_waiting_takes_no_time() -> None:
    plan = plan_from({"id": "a", "uses": "sleep", "with": {"duration": "7d"}})

    run = simulate(plan)

    assert run.state is RunState.COMPLETED
    assert run.finished_at == EPOCH + timedelta(days=7)


def test_a_simulation_can_be_stopped_half_way() -> None:
    plan = plan_from({"id": "a", "uses": "sleep", "with": {"seconds": 60}}, task("b"))

    run = simulate(plan, until=timedelta(seconds=59))

    assert run.states() == {"a": StepState.RUNNING, "b": StepState.PENDING}
    assert run.finished_at is None


def test_a_duration_that_is_none_is_no_time() -> None:
    run = simulate(plan_from({"id": "a", "uses": "sleep", "with": {"seconds": "soon"}}))

    assert run.finished_at == EPOCH


def test_a_stub_is_handed_the_resolved_arguments() -> None:
    calls: list[Call] = []
    plan = plan_from(
        {"id": "a", "uses": "log", "with": {"message": "got ${{ input.n }} in ${{ env.place }}"}}
    )

    def stub(call: Call) -> Result:
        calls.append(call)
        return Result(output="done")

    run = simulate(plan, stub=stub, input={"n": 3}, environment={"place": "Bern"})

    assert calls == [Call("a", 1, "log", {"message": "got 3 in Bern"})]
    assert run.rows["a"].output == "done"


def test_arguments_that_cannot_be_resolved_fail_the_step() -> None:
    run = simulate(plan_from({"id": "a", "uses": "log", "with": {"m": "${{ input.nope }}"}}))

    error = run.rows["a"].view.error
    assert error is not None
    assert error.code == "expression.error"


def test_a_task_that_is_not_built_in_yields_nothing() -> None:
    run = simulate(plan_from({"id": "a", "uses": "shell.run"}))

    assert run.state is RunState.COMPLETED
    assert run.rows["a"].output is None


@pytest.mark.parametrize(("stuck", "state"), [(False, "COMPLETED"), (True, "FAILED")])
def test_what_runs_when_time_is_up_is_cancelled(stuck: bool, state: str) -> None:
    slow = {"id": "slow", "uses": "sleep", "with": {"for": "1h" if stuck else "1s"}}

    run = simulate(plan_from(slow, timeout="1m"))

    assert run.state == state
    assert (run.rows["slow"].view.state is StepState.CANCELLED) is stuck


def test_a_block_whose_time_is_up_fails_in_the_simulation() -> None:
    slow = {"id": "slow", "uses": "sleep", "with": {"for": "1h"}}

    run = simulate(plan_from({"id": "s", "timeout": 5, "steps": [slow]}))

    assert run.finished_at == EPOCH + timedelta(seconds=5)
    assert run.rows["s"].view.state is StepState.FAILED


def test_a_run_is_shown_with_the_keys_of_the_api() -> None:
    plan = plan_from(task("a"), {"id": "b", "uses": "fail", "with": {"code": "x.y"}})

    shown = simulate(plan, input={"n": 1}).as_dict()

    assert shown["state"] == "FAILED"
    assert shown["error"]["code"] == "x.y"
    assert shown["finished_at"] is not None
    assert [step["path"] for step in shown["steps"]] == ["a", "b"]
    assert shown["steps"][1]["error"]["class"] == "permanent"
    assert shown["steps"][0]["finished_at"] is not None


def test_the_journal_holds_every_transition_in_order() -> None:
    run = simulate(plan_from(task("a")))

    assert [(line.path, line.before, line.after) for line in run.journal] == [
        ("a", "PENDING", "QUEUED"),
        ("", "PENDING", "RUNNING"),
        ("a", "QUEUED", "RUNNING"),
        ("a", "RUNNING", "COMPLETED"),
        ("", "RUNNING", "COMPLETED"),
    ]


def test_the_same_seed_gives_the_same_run() -> None:
    plan = plan_from(task("a", retry={"jitter": "full"}))

    def stub(call: Call) -> Result:
        return Result(error=error_of("x", "transient") if call.attempt < 3 else None)

    assert simulate(plan, stub=stub, seed=7) == simulate(plan, stub=stub, seed=7)
    assert simulate(plan, stub=stub, seed=7) != simulate(plan, stub=stub, seed=8)
