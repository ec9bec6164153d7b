"""What people do to a run, at any moment: pause, resume, cancel, replay, skip, discard."""

from typing import Any

import pytest

from tests.engine.builders import Play, broken, done, lost, plan_from, plan_of, play, task
from workflows.engine.events import (
    CancelRequested,
    Discarded,
    Event,
    PauseRequested,
    Repeat,
    Replayed,
    ResumeRequested,
    RetryDue,
    SkipDecided,
    Started,
)
from workflows.engine.states import Reason, RunState, StepState

PAUSE, RESUME, CANCEL = PauseRequested(), ResumeRequested(), CancelRequested()


def test_a_paused_run_starts_nothing_and_lets_finish_what_runs() -> None:
    run = play(plan_of("a > b")).claim("a").hear(PAUSE, done("a"))

    assert run.state is RunState.PAUSED
    assert run.claim("b").queued == {"b"}


def test_a_resumed_run_goes_on_where_it_stood() -> None:
    run = play(plan_of("a > b")).claim("a").hear(PAUSE, done("a"), RESUME, done("b"))

    assert run.state is RunState.COMPLETED


def test_a_run_whose_last_step_ended_while_paused_ends_when_resumed() -> None:
    run = play(plan_of("a")).claim("a").hear(PAUSE, done("a"))

    assert run.state is RunState.PAUSED
    assert run.hear(RESUME).state is RunState.COMPLETED


def test_a_run_cancelled_before_it_began_never_begins() -> None:
    run = Play(plan_of("a"), {}, play(plan_of("a")).started_at).hear(CANCEL, Started())

    assert run.state is RunState.CANCELLED
    assert run.rows == {}


def test_cancel_ends_at_once_what_no_worker_holds() -> None:
    run = play(plan_of("a > b")).hear(CANCEL)

    assert run.state is RunState.CANCELLED
    assert run.are(StepState.CANCELLED) == {"a", "b"}
    assert run.reason("a") is Reason.RUN_CANCELLED


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (done("a"), StepState.COMPLETED),
        (broken("a", "x", "transient"), StepState.CANCELLED),
        (lost("a"), StepState.CANCELLED),
        (lost("a", repeat=Repeat.NEVER), StepState.FAILED),
    ],
)
def test_cancel_waits_for_the_worker_whatever_it_says(last: Event, state: StepState) -> None:
    run = play(plan_of("a > b")).claim("a").hear(CANCEL)

    assert run.state is RunState.CANCELLING
    assert run.hear(last).state is RunState.CANCELLED
    assert run.step("a").state is state


def test_a_cancelled_step_does_not_take_its_fallback_path() -> None:
    step = task("a", output="${{ steps.a.output.x }}", catch=[{"steps": [task("rescue")]}])

    run = play(plan_from(step)).claim("a").hear(CANCEL, done("a", output={}))

    assert run.state is RunState.CANCELLED
    assert set(run.rows) == {"a"}


def test_cancel_reaches_into_blocks_and_ends_them_after_what_runs_inside() -> None:
    inner = {"id": "in", "steps": [task("a"), task("b")]}
    plan = plan_from({"id": "out", "parallel": [inner, task("c")]})

    run = play(plan).claim("out.in.a").hear(CANCEL)

    assert run.step("out.in").state is StepState.WAITING
    assert run.step("out.c").state is StepState.CANCELLED
    run.hear(done("out.in.a"))
    assert run.state is RunState.CANCELLED
    assert not run.alive


def test_a_paused_run_can_be_cancelled() -> None:
    assert play(plan_of("a"), PAUSE, CANCEL).state is RunState.CANCELLED


@pytest.mark.parametrize("event", [PAUSE, RESUME, CANCEL, Replayed("a"), Replayed(""), Started()])
def test_a_completed_run_hears_nothing(event: Event) -> None:
    plan = plan_of("a")

    assert play(plan, done("a"), event) == play(plan, done("a"))


def test_a_replay_runs_the_step_and_those_that_were_skipped_for_it() -> None:
    run = play(plan_of("a > b > c"), broken("a"))

    run.hear(Replayed("a"), done("a", attempt=2), done("b"), done("c"))

    assert run.state is RunState.COMPLETED


def test_a_replay_does_not_do_completed_steps_again() -> None:
    plan = plan_of("a > tidy", "x > a", tidy={"join": "all_done"})
    run = play(plan, done("x"), broken("a"), done("tidy"))

    run.hear(Replayed("a"), done("a", attempt=2))

    assert run.state is RunState.COMPLETED
    assert (run.step("x").attempt, run.step("tidy").attempt) == (1, 1)


def test_a_replay_has_a_budget_of_attempts_of_its_own() -> None:
    plan = plan_from(task("a", retry={"max_attempts": 2, "initial_delay": 0}))
    transient = ("a", "x", "transient")
    run = play(plan, broken(*transient), broken(*transient, attempt=2), Replayed("a"))

    run.hear(broken(*transient, attempt=3))

    assert run.queued == {"a"}
    assert run.step("a").attempt == 4


def test_a_replay_takes_corrected_arguments() -> None:
    run = play(plan_of("a"), broken("a"), Replayed("a", arguments={"message": "better"}))

    assert run.rows["a"].arguments == {"message": "better"}


@pytest.mark.parametrize("go", [True, False, None])
def test_arguments_corrected_behind_a_failed_condition_are_kept_whatever_it_says_now(
    go: bool | None,
) -> None:
    run = play(plan_from(task("a", when="${{ vars.go }}")))
    run.variables = {} if go is None else {"go": go}

    run.hear(Replayed("a", arguments={"message": "better"}))

    ends = {True: StepState.QUEUED, False: StepState.SKIPPED, None: StepState.FAILED}
    assert run.step("a").state is ends[go]
    assert run.rows["a"].arguments == {"message": "better"}


def test_a_replay_that_fails_calls_a_person_again() -> None:
    run = play(plan_of("a"), broken("a"), Replayed("a"), broken("a", attempt=2))

    assert run.accused == ["a", "a"]
    assert run.state is RunState.FAILED


def test_a_replay_of_a_step_whose_condition_failed_asks_the_condition_again() -> None:
    plan = plan_from({"id": "n", "set": {"n": 1}}, task("a", when="${{ vars.go }}"), task("b"))
    run = play(plan)
    run.variables["go"] = False

    run.hear(Replayed("a"))

    assert run.reason("a") is Reason.WHEN
    assert run.queued == {"b"}


def test_a_replay_inside_blocks_reopens_every_block_around_it() -> None:
    inner = {"id": "in", "steps": [task("x"), task("y")]}
    plan = plan_from({"id": "out", "steps": [inner, task("z")]}, task("after"))
    run = play(plan, done("out.in.x"), broken("out.in.y"))

    run.hear(Replayed("out.in.y"))

    assert run.state is RunState.RUNNING
    assert run.are(StepState.WAITING) == {"out", "out.in"}
    run.hear(done("out.in.y", attempt=2), done("out.z"), done("after"))
    assert not run.alive


def test_a_replay_of_a_block_resumes_what_failed_in_it() -> None:
    plan = plan_from({"id": "s", "parallel": [task("x"), task("y"), task("z")]})
    run = play(plan, done("s.x"), broken("s.y"), broken("s.z"))

    run.hear(Replayed("s"))

    assert run.queued == {"s.y", "s.z"}


def test_a_replay_of_the_run_resumes_what_failed_in_it() -> None:
    plan = plan_from({"id": "s", "needs": [], "steps": [task("x")]}, task("y", needs=[]))
    run = play(plan, broken("s.x"), broken("y"))

    run.hear(Replayed(""))

    assert run.queued == {"s.x", "y"}


def test_a_replay_reopens_what_fail_fast_had_cancelled() -> None:
    run = play(plan_of("a", "b > c", document={"fail_fast": True}), broken("a"))

    run.hear(Replayed("a"))

    assert run.queued == {"a", "b"}
    run.hear(done("a", attempt=2), done("b"), done("c"))
    assert run.state is RunState.COMPLETED


def nested_fail_fast() -> Play:
    block = {"id": "s", "steps": [task("x"), task("y")]}
    return play(plan_from({"id": "p", "fail_fast": True, "parallel": [task("z"), block]}))


def test_a_block_cancelled_by_fail_fast_goes_on_from_where_it_was() -> None:
    run = nested_fail_fast().hear(done("p.s.x"), broken("p.z"))
    assert run.step("p.s").state is StepState.CANCELLED

    run.hear(Replayed("p.z"))

    assert run.queued == {"p.z", "p.s.y"}
    assert run.step("p.s.x").state is StepState.COMPLETED


def test_a_replay_takes_back_the_request_to_end_of_what_still_runs() -> None:
    run = nested_fail_fast().claim("p.s.x").hear(broken("p.z"))
    assert run.step("p.s.x").cancel_requested

    run.hear(Replayed("p.z"), done("p.s.x"))

    assert not run.step("p.s").cancel_requested
    assert run.queued == {"p.z", "p.s.y"}


def test_a_replay_beside_a_fallback_path_under_way_lets_it_go_on() -> None:
    step = task("a", catch=[{"steps": [task("rescue")]}])
    plan = plan_from({"id": "p", "fail_fast": True, "parallel": [task("z"), step]})
    run = play(plan, broken("p.a")).claim("p.a.catch[0].rescue").hear(broken("p.z"))

    run.hear(Replayed("p.z"), done("p.a.catch[0].rescue", output="saved"))

    assert run.rows["p.a"].output == "saved"
    assert run.hear(done("p.z", attempt=2)).state is RunState.COMPLETED


def test_a_skip_hands_on_what_the_person_gives() -> None:
    plan = plan_from(task("a"), {"id": "b", "set": {"got": "${{ steps.a.output.n }}"}})

    run = play(plan, broken("a"), SkipDecided("a", output={"n": 4}))

    assert run.state is RunState.COMPLETED
    assert run.variables == {"got": 4}
    assert run.reason("a") is Reason.SKIPPED_BY_OPERATOR


@pytest.mark.parametrize(
    ("block", "path", "output"),
    [
        ({"steps": [task("x")]}, "s.x", 4),
        ({"parallel": [task("x")]}, "s.x", {"x": 4}),
        ({"switch": [{"when": True, "steps": [task("x")]}]}, "s.x", 4),
        ({"foreach": [0], "steps": [task("x")]}, "s[0].x", [4]),
        ({"foreach": [0], "on_item_failure": "continue", "steps": [task("x")]}, "s[0].x", [4]),
        ({"repeat": {"max_times": 1}, "steps": [task("x")]}, "s[0].x", 4),
        ({"states": [task("x")]}, "s[0].x", 4),
    ],
    ids=["steps", "parallel", "switch", "foreach", "partial", "repeat", "states"],
)
def test_a_block_hands_on_what_a_person_gave_in_the_place_of_its_step(
    block: dict[str, Any], path: str, output: object
) -> None:
    run = play(plan_from({"id": "s", **block}), broken(path))

    run.hear(SkipDecided(path, output=4))

    assert (run.state, run.rows["s"].output) == (RunState.COMPLETED, output)


def test_a_skip_inside_a_block_completes_the_block() -> None:
    plan = plan_from({"id": "s", "parallel": [task("x"), task("y")]}, task("after"))
    run = play(plan, broken("s.x"), done("s.y"))

    run.hear(SkipDecided("s.x"), done("after"))

    assert run.state is RunState.COMPLETED


def test_a_skip_of_a_block_counts_whatever_failed_in_it_as_done() -> None:
    plan = plan_from({"id": "s", "parallel": [task("x"), task("y")]}, task("after"))
    run = play(plan, broken("s.x"), broken("s.y"))

    run.hear(SkipDecided("s", output=1), done("after"))

    assert run.state is RunState.COMPLETED
    assert run.rows["s"].output == 1


def test_a_discarded_step_is_given_up_and_the_run_stays_failed() -> None:
    run = play(plan_of("a > b"), broken("a"), Discarded("a"))

    assert run.reason("a") is Reason.DISCARDED
    assert run.state is RunState.FAILED


def test_a_run_with_a_discarded_step_does_not_end_as_completed() -> None:
    run = play(plan_of("a", "b"), broken("a"), Discarded("a"), done("b"))

    assert run.state is RunState.FAILED


def test_a_block_whose_failed_step_was_discarded_says_so() -> None:
    plan = plan_from({"id": "s", "parallel": [task("x"), task("y")]})

    run = play(plan, broken("s.x"), Discarded("s.x"), done("s.y"))

    assert run.step("s").state is StepState.FAILED
    assert run.incidents[0].path == "s.x"


def test_there_is_nothing_to_discard_about_an_optional_failure() -> None:
    plan = plan_of("a > c", "b > c", a={"optional": True})

    assert play(plan, broken("a"), Discarded("a")) == play(plan, broken("a"))


@pytest.mark.parametrize("make", [Replayed, SkipDecided, Discarded])
@pytest.mark.parametrize("events", [[], [done("a")], [broken("a", "x", "transient")]])
def test_only_a_failed_step_is_replayed_skipped_or_discarded(
    make: Any, events: list[Event]
) -> None:
    plan = plan_of("a > b")

    assert play(plan, *events, make("a")) == play(plan, *events)


def test_a_replay_in_a_paused_run_waits_for_it_to_be_resumed() -> None:
    run = play(plan_of("a", "b"), broken("a"), PAUSE, Replayed("a"))

    assert run.state is RunState.PAUSED
    assert run.claim("a", 2).queued == {"a", "b"}
    assert run.hear(RESUME).claim("a", 2).queued == {"b"}


def test_nothing_is_replayed_in_a_cancelled_run() -> None:
    run = play(plan_of("a", "b"), broken("a"), CANCEL, Replayed("a"), SkipDecided("a"))

    assert run.state is RunState.CANCELLED
    assert run.step("a").state is StepState.FAILED


def test_a_retry_that_falls_due_in_a_paused_run_is_queued_for_later() -> None:
    run = play(plan_of("a"), broken("a", "x", "transient"), PAUSE, RetryDue("a", 1))

    assert run.claim("a", 2).queued == {"a"}


def test_a_replay_that_ends_at_once_is_counted_once() -> None:
    plan = plan_from(
        task("a", needs=[], when="${{ env.go }}"),
        task("b", needs=[]),
        task("c", needs=["a", "b"]),
    )
    run = play(plan)
    run.environment = {"go": False}

    run.hear(Replayed("a"))

    assert run.reason("a") is Reason.WHEN
    assert run.step("c").tally.done == 1


def test_a_variable_set_by_a_replay_joins_those_set_before() -> None:
    plan = plan_from(
        {"id": "early", "set": {"a": 1}},
        {"id": "late", "set": {"b": "${{ env.two }}"}},
        {"id": "sum", "set": {"c": "${{ vars.a + vars.b }}"}},
    )
    run = play(plan)
    run.environment = {"two": 2}

    run.hear(Replayed("late"))

    assert run.variables == {"a": 1, "b": 2, "c": 3}
    assert run.state is RunState.COMPLETED


def test_a_skip_on_a_fallback_path_does_not_reopen_the_block_it_is_for() -> None:
    block = {
        "id": "s",
        "fail_fast": True,
        "parallel": [task("x"), task("y")],
        "catch": [{"steps": [task("r1"), task("r2")]}],
    }
    run = play(plan_from(block), broken("s.x"), broken("s.catch[0].r1"))

    run.hear(SkipDecided("s.catch[0].r1"))

    assert run.queued == {"s.catch[0].r2"}
    assert run.step("s.y").state is StepState.CANCELLED
