"""Switch: the first true case, and what is recorded of the others."""

from typing import Any

from tests.engine.builders import Play, broken, done, plan_from, play, task
from workflows.engine.events import Replayed
from workflows.engine.states import Reason, RunState, StepState


def route(*, country: str, otherwise: bool = True) -> Play:
    cases: list[dict[str, Any]] = [
        {"when": "${{ input.country == 'DE' }}", "steps": [task("home"), task("stamp")]},
        {"when": "${{ input.country != 'US' }}", "steps": [task("abroad")]},
    ]
    if otherwise:
        cases.append({"else": True, "steps": [task("overseas")]})
    plan = plan_from({"id": "route", "switch": cases}, task("after"))
    return play(plan, input={"country": country})


def test_the_first_true_case_is_taken() -> None:
    run = route(country="DE")

    assert run.queued == {"route.home"}


def test_a_later_case_is_taken_when_those_before_are_false() -> None:
    assert route(country="FR").queued == {"route.abroad"}


def test_else_is_taken_when_no_case_is_true() -> None:
    assert route(country="US").queued == {"route.overseas"}


def test_without_a_true_case_the_switch_is_skipped_and_what_follows_goes_on() -> None:
    run = route(country="US", otherwise=False)

    assert run.step("route").state is StepState.SKIPPED
    assert run.reason("route") is Reason.NO_CASE
    assert run.queued == {"after"}


def test_the_steps_of_cases_not_taken_are_on_record() -> None:
    run = route(country="FR")

    untaken = {"route.home", "route.stamp", "route.overseas"}
    assert run.are(StepState.SKIPPED) == untaken
    assert {run.reason(path) for path in untaken} == {Reason.NOT_TAKEN}


def test_a_switch_hands_on_the_output_of_the_case_taken() -> None:
    run = route(country="DE").hear(done("route.home"), done("route.stamp", output="ok"))

    assert run.rows["route"].output == "ok"
    assert run.queued == {"after"}


def test_a_failing_case_fails_the_switch_and_a_replay_resumes_it() -> None:
    run = route(country="FR").hear(broken("route.abroad"))

    assert run.state is RunState.FAILED
    again = run.hear(Replayed("route.abroad"), done("route.abroad", attempt=2), done("after"))
    assert again.state is RunState.COMPLETED


def test_a_case_that_cannot_be_decided_fails_the_switch_itself() -> None:
    plan = plan_from({"id": "route", "switch": [{"when": "${{ input.x }}", "steps": [task("a")]}]})

    run = play(plan)

    assert run.accused == ["route"]
    assert set(run.rows) == {"route"}
