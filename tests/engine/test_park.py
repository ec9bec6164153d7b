"""A run that parks: with nothing left to do but an open incident, it waits for a person."""

from tests.engine.builders import Play, broken, done, plan_from, play, task
from workflows.engine.events import (
    CancelRequested,
    Discarded,
    Event,
    PauseRequested,
    Replayed,
    ResumeRequested,
    SkipDecided,
    TimedOut,
)
from workflows.engine.plan import ROOT
from workflows.engine.simulate import simulate
from workflows.engine.states import RunReason, RunState


def parked(*events: Event, **document: object) -> Play:
    plan = plan_from(task("a"), task("b", needs=[]), task("c"), on_failure="park", **document)
    return play(plan, broken("a"), done("b"), done("c"), *events)


def test_a_run_with_nothing_left_but_an_incident_goes_on_running_and_says_that_it_is_parked() -> (
    None
):
    run = parked()

    assert run.state is RunState.RUNNING
    assert run.run.reason is RunReason.PARKED
    assert not run.alive


def test_a_parked_run_is_not_parked_while_something_else_goes_on() -> None:
    run = play(plan_from(task("a"), task("b", needs=[]), on_failure="park"), broken("a"))

    assert run.run.reason is None
    assert run.hear(done("b")).run.reason is RunReason.PARKED


def test_a_replay_takes_a_parked_run_to_its_end() -> None:
    run = parked(Replayed("a"))

    assert (run.state, run.run.reason) == (RunState.RUNNING, None)
    assert run.hear(done("a", attempt=2)).state is RunState.COMPLETED


def test_a_skip_takes_a_parked_run_to_its_end() -> None:
    assert parked(SkipDecided("a")).state is RunState.COMPLETED


def test_the_last_discard_ends_a_parked_run_as_failed() -> None:
    plan = plan_from(task("a"), task("b", needs=[]), on_failure="park")
    run = play(plan, broken("a"), broken("b"))

    assert run.hear(Discarded("a")).state is RunState.RUNNING
    assert run.hear(Discarded("b")).state is RunState.FAILED


def test_a_failure_inside_a_block_is_given_up_by_giving_up_the_step_that_failed() -> None:
    run = play(plan_from({"id": "all", "steps": [task("x")]}, on_failure="park"))

    run.hear(broken("all.x"))
    assert run.run.reason is RunReason.PARKED

    assert run.hear(Discarded("all.x")).state is RunState.FAILED


def test_a_parked_run_can_be_paused_and_is_parked_again_when_resumed() -> None:
    run = parked(PauseRequested())

    assert (run.state, run.run.reason) == (RunState.PAUSED, None)
    assert run.hear(ResumeRequested()).run.reason is RunReason.PARKED


def test_a_parked_run_can_be_cancelled() -> None:
    assert parked(CancelRequested()).state is RunState.CANCELLED


def test_a_parked_run_has_no_more_time_than_its_workflow_gives_it() -> None:
    run = parked(TimedOut(ROOT), timeout="10m")

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == "run.timeout"


def test_a_simulated_run_stops_where_a_person_would_be_asked() -> None:
    plan = plan_from({"id": "a", "uses": "fail"}, on_failure="park")

    run = simulate(plan)

    assert (run.state, run.run.reason) == (RunState.RUNNING, RunReason.PARKED)
