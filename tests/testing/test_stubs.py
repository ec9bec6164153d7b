"""What tasks come to in a test is said by values, functions and scripts."""

from datetime import timedelta

import pytest

from tests.testing.builders import shop
from workers.context import LeasedProfile, TaskContext
from workers.errors import BusinessError
from workers.registry import catalog
from workflows.engine.states import StepState
from workflows.testing import (
    Call,
    StubError,
    UnknownNameError,
    Workflow,
    attempts,
    calls,
    fails,
    lost_worker,
    returns,
    runs,
    takes,
)

TWICE = """\
workflow: twice
steps:
  - {id: one, uses: shop.ask, with: {n: 1}}
  - {id: two, uses: shop.ask, with: {n: 2}}
output: ["${{ steps.one.output }}", "${{ steps.two.output }}"]
"""


def test_a_value_is_what_the_task_returns() -> None:
    run = shop().run(stubs={"shop.ship": "P-1"})

    run.assert_completed({"parcel": "P-1"})


def test_a_function_is_handed_the_call_with_its_arguments_resolved() -> None:
    seen: list[Call] = []

    shop().run(stubs={"charge": seen.append})

    assert [call.arguments for call in seen] == [{"cents": 900, "stock": 3}]


def test_a_step_comes_before_its_task_type_and_that_before_a_pattern() -> None:
    twice = Workflow.parse(TWICE)

    run = twice.run(stubs={"shop.*": 0, "shop.ask": 1, "two": 2})

    assert run.output == [1, 2]


def test_a_failure_is_retried_as_the_definition_says() -> None:
    run = shop().run(stubs={"charge": fails("transient", code="http.503", times=2).then(5)})

    run.assert_completed()
    run.assert_attempts("charge", 3)
    assert [one.end for one in run.step("charge").tries] == ["failed", "failed", "completed"]
    assert run.step("charge").output == 5


def test_a_failure_without_times_is_for_all_attempts() -> None:
    run = shop().run(stubs={"charge": fails("timeout")})

    run.assert_failed(step="charge", code="stub.failed")
    run.assert_attempts("charge", 3)


def test_each_attempt_may_have_a_result_of_its_own() -> None:
    script = attempts(fails("timeout"), lost_worker(), {"ok": True})

    run = shop().run(stubs={"charge": script})

    assert run.step("charge").attempts == 3
    assert run.step("charge").output == {"ok": True}


def test_each_call_may_have_a_result_of_its_own() -> None:
    run = Workflow.parse(TWICE).run(stubs={"shop.ask": calls("first", "second")})

    assert run.output == ["first", "second"]


def test_a_lost_worker_costs_no_attempt_of_the_retries() -> None:
    run = shop().run(stubs={"charge": lost_worker()})

    run.assert_completed()
    assert [one.end for one in run.step("charge").tries] == ["lost", "completed"]


def test_a_lost_worker_leaves_a_task_in_doubt_that_may_not_be_repeated() -> None:
    run = shop().run(stubs={"charge": lost_worker()}, repeat={"shop.charge": "never"})

    run.assert_failed(step="charge")
    run.assert_incident("charge")


def test_tasks_take_the_time_that_they_are_given() -> None:
    stubs = {"charge": takes("3s", {"ok": 1}), "ship": returns("P", takes="7d")}

    run = shop().run(stubs=stubs)

    run.assert_took("7d 3s".replace(" ", ""))
    assert run.step("ship").started_at == run.at("3s")


def test_durations_are_for_stubs_that_say_none_themselves() -> None:
    durations = {"charge": "1m", "shop.ship": timedelta(hours=1)}

    run = shop().run(durations=durations, stubs={"ship": takes("1s")})

    run.assert_took("61s")


def test_a_task_that_takes_longer_than_its_timeout_is_interrupted() -> None:
    slow = Workflow.parse(
        "workflow: w\nsteps: [{id: a, uses: x.y, timeout: 5s, retry: {max_attempts: 1}}]"
    )

    run = slow.run(stubs={"a": takes("6s")})

    run.assert_failed(code="task.timeout")
    run.assert_took("5s")


def test_the_function_of_a_task_may_be_called_itself() -> None:
    def charge(cents: int, stock: int, rate: int) -> int:
        return cents * stock * rate

    run = shop().run(stubs={"charge": runs(charge, rate=2)})

    assert run.step("charge").output == 5400


def test_a_function_is_given_a_profile_with_a_temporary_folder() -> None:
    def charge(cents: int, stock: int, context: TaskContext) -> int:
        assert context.profile is not None
        (context.profile.folder / "receipt").write_text(f"{cents * stock}")
        return len(list(context.profile.folder.iterdir()))

    profile = LeasedProfile("ann", "bots")
    given = TaskContext.of("charge", profile=profile)
    run = shop().run(stubs={"charge": runs(charge, context=given)})

    assert run.step("charge").output == 1
    assert (profile.folder / "receipt").read_text() == "2700"


def test_what_a_function_raises_as_a_task_does_is_the_failure_of_the_step() -> None:
    def charge(call: Call) -> None:
        raise BusinessError("The card is refused.", code="card.refused")

    run = shop().run(stubs={"charge": charge})

    run.assert_failed(step="charge", code="card.refused")


def test_what_else_a_function_raises_is_the_failure_of_the_test() -> None:
    def charge(call: Call) -> None:
        assert call.attempt == 2

    with pytest.raises(AssertionError):
        shop().run(stubs={"charge": charge})


def test_a_code_alone_has_the_class_that_the_catalog_knows() -> None:
    text = "workflow: w\nsteps: [{id: a, uses: http.request, with: {url: 'http://x'}}]"
    code, error_class = next(iter(catalog.codes("http.request").items()))

    run = Workflow.parse(text, catalog=catalog).run(stubs={"a": fails(code=code)})

    error = run.step("a").tries[0].error
    assert error is not None
    assert error.error_class is error_class


def test_a_stub_for_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="'chrage'; did you mean charge"):
        shop().run(stubs={"chrage": 1})


def test_an_unknown_error_class_is_refused_with_the_nearest() -> None:
    with pytest.raises(StubError, match="'permanant' is no error class; did you mean permanent"):
        fails("permanant")


def test_a_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(StubError, match="The stub of charge returned what is not JSON"):
        shop().run(stubs={"charge": {1, 2}})


def test_a_task_without_a_stub_yields_nothing() -> None:
    run = shop().run()

    assert run.step("ship").state is StepState.COMPLETED
    assert run.step("ship").output is None
