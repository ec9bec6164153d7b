"""What a failed run has done is undone, the last step first, one after the other."""

from typing import Any

import pytest

from tests.engine.builders import (
    Play,
    broken,
    done,
    error_of,
    interrupted,
    lost,
    plan_from,
    play,
    saga,
    task,
    undoable,
)
from workflows.engine.advance import requirement
from workflows.engine.compensating import INCOMPLETE
from workflows.engine.events import (
    CancelRequested,
    CompensationDue,
    CompensationRequested,
    Discarded,
    Drained,
    PauseRequested,
    Repeat,
    Replayed,
    ResumeRequested,
    RetryDue,
    SkipDecided,
    TimedOut,
)
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Call, Result

ORDER = saga(undoable("reserve"), undoable("charge"), task("ship"))
ONCE = {"uses": "log", "retry": {"max_attempts": 1}}


def a_failed_order() -> Play:
    """Return a run of two steps that can be undone, at whose third step it has failed."""
    return play(ORDER, done("reserve"), done("charge"), broken("ship"))


def test_the_last_completed_step_is_undone_first_and_alone() -> None:
    run = a_failed_order()

    assert run.state is RunState.COMPENSATING
    assert run.queued == {"charge.compensate"}
    assert run.states()["charge"] is StepState.COMPENSATING
    assert run.states()["reserve"] is StepState.COMPLETED


def test_a_run_whose_steps_are_all_undone_is_compensated_and_says_what_failed() -> None:
    run = a_failed_order()

    run.hear(done("charge.compensate"), done("reserve.compensate"))

    assert run.state is RunState.COMPENSATED
    assert run.undone == ["charge", "reserve"]
    assert run.error is not None
    assert run.error.code == "test.broken"


def test_a_run_without_anything_to_undo_is_compensated_at_once() -> None:
    run = play(saga(task("look"), task("ship")), done("look"), broken("ship"))

    assert run.state is RunState.COMPENSATED


def test_a_run_that_comes_to_a_good_end_undoes_nothing() -> None:
    run = play(ORDER, done("reserve"), done("charge"), done("ship"))

    assert run.state is RunState.COMPLETED
    assert run.states()["charge"] is StepState.COMPLETED


def test_a_failure_that_was_caught_or_is_optional_undoes_nothing() -> None:
    caught = task("ship", catch=[{"steps": [task("mail")]}])
    plan = saga(undoable("reserve"), caught, task("tell", optional=True))

    run = play(plan, done("reserve"), broken("ship"), done("ship.catch[0].mail"), broken("tell"))

    assert run.state is RunState.COMPLETED


def test_nothing_is_undone_while_another_branch_still_works() -> None:
    plan = saga({"id": "both", "parallel": [undoable("left"), undoable("right")]})
    run = play(plan, broken("both.left")).claim("both.right")

    assert run.state is RunState.RUNNING

    run.hear(done("both.right"))
    assert run.queued == {"both.right.compensate"}


@pytest.mark.parametrize("first", ["both.left", "both.right"])
def test_the_order_is_that_of_completion_and_not_of_the_document(first: str) -> None:
    plan = saga({"id": "both", "parallel": [undoable("left"), undoable("right")]}, task("ship"))
    last = ({"both.left", "both.right"} - {first}).pop()

    run = play(plan, done(first), done(last), broken("ship"), done(f"{last}.compensate"))

    assert run.queued == {f"{first}.compensate"}


def test_a_block_is_undone_before_the_steps_inside_it() -> None:
    block = {"id": "block", "steps": [undoable("inner")], "compensate": {"uses": "log"}}
    run = play(saga(block, task("ship")), done("block.inner"), broken("ship"))

    run.hear(done("block.compensate"), done("block.inner.compensate"))

    assert run.undone == ["block", "block.inner"]


def test_what_a_fallback_path_has_done_is_undone_too() -> None:
    caught = task("pay", catch=[{"steps": [undoable("invoice")]}])
    run = play(saga(caught, task("ship")), broken("pay"), done("pay.catch[0].invoice"))

    run.hear(broken("ship"), done("pay.catch[0].invoice.compensate"))

    assert run.undone == ["pay.catch[0].invoice"]
    assert run.state is RunState.COMPENSATED


def test_a_step_of_a_block_that_failed_is_undone_for_it_was_completed() -> None:
    block = {"id": "block", "steps": [undoable("inner"), task("broken")]}
    run = play(saga(block), done("block.inner"), broken("block.broken"))

    assert run.queued == {"block.inner.compensate"}


def test_an_attempt_at_an_undo_is_retried_like_any_other() -> None:
    run = a_failed_order()

    run.hear(broken("charge.compensate", error_class="transient"))

    assert run.step("charge.compensate").state is StepState.RETRYING
    assert run.states()["charge"] is StepState.COMPENSATING
    run.hear(RetryDue("charge.compensate", 1), done("charge.compensate", attempt=2))
    assert run.states()["charge"] is StepState.COMPENSATED


def test_an_undo_that_was_lost_is_done_again_unless_it_must_not_be() -> None:
    again, never = a_failed_order(), a_failed_order()

    again.hear(lost("charge.compensate"))
    never.hear(lost("charge.compensate", repeat=Repeat.NEVER))

    assert again.step("charge.compensate").attempt == 2
    assert never.states()["charge"] is StepState.COMPENSATION_FAILED
    assert [one.error.error_class for one in never.incidents][1] == "uncertain"


def test_an_undo_in_doubt_is_asked_for_by_its_probe() -> None:
    run = a_failed_order()

    run.hear(interrupted("charge.compensate", repeat=Repeat.AFTER_PROBE))

    assert run.step("charge.compensate").reason is Reason.PROBE


def test_a_late_result_of_an_undo_changes_nothing() -> None:
    run = a_failed_order().hear(lost("charge.compensate"))
    before = run.states()

    run.decide(done("charge.compensate"))

    assert run.states() == before
    assert [one.path for one in run.late] == ["charge.compensate"]


def test_the_others_are_undone_although_one_undo_fails() -> None:
    run = a_failed_order().hear(broken("charge.compensate"))

    assert run.states()["charge"] is StepState.COMPENSATION_FAILED
    assert run.queued == {"reserve.compensate"}
    assert run.accused == ["ship", "charge.compensate"]


def an_incomplete_undo() -> Play:
    """Return a run of which one step could not be undone."""
    return a_failed_order().hear(broken("charge.compensate"), done("reserve.compensate"))


def test_a_run_of_which_not_all_could_be_undone_ends_failed_and_says_so() -> None:
    run = an_incomplete_undo()

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == INCOMPLETE
    assert "ship: test.broken happened; the undo is incomplete" in run.error.message
    assert run.error.message.endswith("not undone is charge")


def test_replaying_the_undo_completes_it() -> None:
    run = an_incomplete_undo().hear(Replayed("charge.compensate", {"message": "corrected"}))

    assert run.state is RunState.COMPENSATING
    assert run.rows["charge.compensate"].arguments == {"message": "corrected"}

    run.hear(done("charge.compensate", attempt=2))
    assert run.state is RunState.COMPENSATED
    assert run.error is not None
    assert run.error.code == "test.broken"


def test_a_replayed_undo_waits_for_the_one_that_is_under_way() -> None:
    run = a_failed_order().hear(broken("charge.compensate")).claim("reserve.compensate")

    run.hear(Replayed("charge.compensate"))
    assert run.queued == set()
    assert run.step("charge.compensate").state is StepState.PENDING

    run.hear(done("reserve.compensate"))
    assert run.queued == {"charge.compensate"}
    run.hear(done("charge.compensate", attempt=2))
    assert run.state is RunState.COMPENSATED


def test_skipping_the_undo_counts_it_as_done() -> None:
    run = an_incomplete_undo().hear(SkipDecided("charge.compensate"))

    assert run.state is RunState.COMPENSATED
    assert run.states()["charge"] is StepState.COMPENSATED
    assert run.reason("charge") is Reason.SKIPPED_BY_OPERATOR


def test_discarding_the_undo_ends_the_run_and_leaves_the_step_as_it_is() -> None:
    run = an_incomplete_undo().hear(Discarded("charge.compensate"))

    assert run.state is RunState.COMPENSATED
    assert run.states()["charge"] is StepState.COMPENSATION_FAILED
    assert run.reason("charge") is Reason.DISCARDED


def test_what_failed_before_the_undo_cannot_be_replayed_any_more() -> None:
    under_way, incomplete = a_failed_order(), an_incomplete_undo()

    for run in (under_way, incomplete):
        before = run.states()
        run.hear(Replayed("ship"), SkipDecided("ship"), Replayed(""))
        assert run.states() == before


def test_a_failed_run_is_undone_when_a_person_says_so() -> None:
    plan = plan_from(undoable("reserve"), task("ship"))
    run = play(plan, done("reserve"), broken("ship"))
    assert run.state is RunState.FAILED

    run.hear(CompensationRequested(error_of()), done("reserve.compensate"))

    assert run.state is RunState.COMPENSATED


def test_a_failed_run_with_nothing_to_undo_stays_as_it_is() -> None:
    run = play(plan_from(task("ship")), broken("ship"))

    run.hear(CompensationRequested(error_of()))

    assert run.state is RunState.FAILED


def test_an_incomplete_undo_is_not_begun_anew_by_asking_for_it() -> None:
    run = an_incomplete_undo().hear(CompensationRequested(error_of()))

    assert run.state is RunState.FAILED


def test_a_run_can_be_cancelled_and_undone() -> None:
    plan = plan_from(undoable("reserve"), undoable("charge"), task("ship"))
    run = play(plan, done("reserve")).claim("charge")

    run.hear(CancelRequested(undo=True))
    assert run.state is RunState.RUNNING
    assert run.step("charge").cancel_requested

    run.hear(done("charge"), done("charge.compensate"), done("reserve.compensate"))
    assert run.state is RunState.COMPENSATED
    assert run.error is not None
    assert run.error.code == "run.cancelled"


def test_the_time_of_a_run_is_no_matter_once_it_is_to_be_undone() -> None:
    plan = plan_from(undoable("reserve"), undoable("charge"), timeout=60)
    run = play(plan, done("reserve")).claim("charge").hear(CancelRequested(undo=True))

    run.after(61).hear(TimedOut(""), broken("charge", "step.cancelled", "cancelled"))

    assert run.queued == {"reserve.compensate"}


def test_a_run_whose_time_is_up_is_undone() -> None:
    plan = saga(undoable("reserve"), task("ship"), timeout=60)
    run = play(plan, done("reserve")).after(61)

    run.hear(TimedOut(""))

    assert run.queued == {"reserve.compensate"}


def test_a_run_that_leaves_as_failed_is_undone_and_one_that_leaves_as_cancelled_is_not() -> None:
    def leaving(status: str) -> Play:
        plan = saga(undoable("reserve"), {"id": "out", "exit": {"status": status}})
        return play(plan, done("reserve"))

    assert leaving("failed").queued == {"reserve.compensate"}
    assert leaving("cancelled").state is RunState.CANCELLED


def test_a_paused_run_is_undone_when_it_goes_on() -> None:
    run = play(ORDER, done("reserve"), done("charge")).claim("ship")

    run.hear(PauseRequested(), broken("ship"))
    assert run.state is RunState.PAUSED

    run.hear(ResumeRequested())
    assert run.queued == {"charge.compensate"}


def test_cancelling_ends_an_undo_that_waits_for_its_worker_and_says_what_is_not_undone() -> None:
    run = a_failed_order().hear(CancelRequested())

    assert run.state is RunState.CANCELLED
    assert run.states()["charge"] is StepState.COMPENSATION_FAILED
    assert run.reason("charge") is Reason.RUN_CANCELLED
    assert run.states()["reserve"] is StepState.COMPLETED
    assert not run.alive


def test_cancelling_waits_for_an_undo_under_way_and_takes_its_word() -> None:
    run = a_failed_order().claim("charge.compensate").hear(CancelRequested())
    assert run.state is RunState.CANCELLING

    run.hear(done("charge.compensate"))

    assert run.state is RunState.CANCELLED
    assert run.states()["charge"] is StepState.COMPENSATED
    assert run.states()["reserve"] is StepState.COMPLETED


def test_an_undo_cannot_be_paused() -> None:
    run = a_failed_order().hear(PauseRequested())

    assert run.state is RunState.COMPENSATING


def test_a_block_that_fails_fast_is_not_ended_by_a_failed_undo() -> None:
    block = {
        "id": "block",
        "fail_fast": True,
        "compensate": ONCE,
        "steps": [undoable("inner")],
    }
    run = play(saga(block, task("ship")), done("block.inner"), broken("ship"))

    run.hear(broken("block.compensate"))

    assert run.queued == {"block.inner.compensate"}


def test_the_undo_of_an_optional_step_is_not_optional() -> None:
    run = play(saga(undoable("tell", optional=True), task("ship")), done("tell"), broken("ship"))

    run.hear(broken("tell.compensate"))

    assert run.accused == ["ship", "tell.compensate"]


def test_settling_once_more_does_not_begin_a_second_undo() -> None:
    run = a_failed_order().hear(Drained(""), CompensationDue(), Drained(""))

    assert run.queued == {"charge.compensate"}


def test_an_undo_is_carried_out_where_its_step_was_unless_it_says_otherwise() -> None:
    there = undoable("one", **{"class": "browser"})
    elsewhere = undoable("two", **{"class": "browser"}) | {
        "compensate": {"uses": "log", "class": "heavy", "timeout": "5s"}
    }
    plan = saga(there, elsewhere)

    assert plan.by_id["one.compensate"].queue_class == "browser"
    assert plan.by_id["two.compensate"].queue_class == "heavy"
    assert plan.by_id["two.compensate"].timeout == 5


def test_an_undo_has_the_retries_of_the_workflow_under_its_own() -> None:
    own = {"uses": "log", "retry": {"max_attempts": 7}}
    plan = saga(undoable("one", compensate=own), retry={"initial_delay": "9s"})

    policy = plan.by_id["one.compensate"].retry

    assert (policy.max_attempts, policy.initial_delay) == (7, 9.0)


def test_what_an_undo_is_decided_upon_does_not_grow_with_the_plan() -> None:
    large = saga(*(undoable(f"s{number}") for number in range(1000)))

    for event in (done("s1.compensate"), broken("s1.compensate"), Replayed("s1.compensate")):
        wanted = requirement(large, event)

        assert wanted.paths == {"s1", "s1.compensate"}
        assert not wanted.subtrees | wanted.scopes
        assert not wanted.everything


def test_a_simulated_saga_is_undone_with_what_its_steps_gave_and_why_it_failed() -> None:
    given: dict[str, Any] = {}

    def stub(call: Call) -> Result:
        given[call.path] = dict(call.arguments)
        if call.path == "ship":
            return Result(error=error_of("ship.lost"))
        return Result(output={"id": 7})

    undo = {
        "uses": "log",
        "with": {"undo": "${{ steps.reserve.output.id }}", "why": "${{ error.code }}"},
    }
    run = simulate(saga(undoable("reserve", compensate=undo), task("ship")), stub=stub)

    assert run.state is RunState.COMPENSATED
    assert run.undone == ["reserve"]
    assert given["reserve.compensate"] == {"undo": 7, "why": "ship.lost"}


def test_a_simulation_ends_when_it_is_undone() -> None:
    run = simulate(saga(undoable("reserve"), {"id": "ship", "uses": "fail"}))

    assert run.finished_at is not None
    assert run.as_dict()["state"] == "COMPENSATED"


def test_every_item_of_a_loop_is_undone_with_what_it_is_for() -> None:
    given: list[Any] = []

    def stub(call: Call) -> Result:
        if call.path.endswith(".compensate"):
            given.append((call.path, dict(call.arguments)))
        return Result(error=error_of()) if call.path == "ship" else Result()

    undo = {"uses": "log", "with": {"sku": "${{ item }}", "number": "${{ index }}"}}
    loop = {
        "id": "pack",
        "foreach": "${{ ['a', 'b'] }}",
        "steps": [undoable("scan", compensate=undo)],
    }
    run = simulate(saga(loop, task("ship")), stub=stub)

    assert run.state is RunState.COMPENSATED
    assert given == [
        ("pack[1].scan.compensate", {"sku": "b", "number": 1}),
        ("pack[0].scan.compensate", {"sku": "a", "number": 0}),
    ]


@pytest.mark.parametrize("doubtful", [{"compensate": {"uses": "log"}}, {"irreversible": True}])
def test_what_a_saga_would_have_undone_and_that_never_answered_is_left_to_a_person(
    doubtful: dict[str, Any],
) -> None:
    run = play(
        saga(undoable("reserve"), task("pay", retry={"max_attempts": 1}, **doubtful)),
        done("reserve"),
        broken("pay", "http.timeout", "timeout"),
    )

    [incident] = run.incidents

    assert (incident.error.error_class, incident.error.code) == ("uncertain", "http.timeout")
    assert "it never answered, so nobody knows whether it took effect" in incident.error.message
    assert run.queued == {"reserve.compensate"}
    assert run.step("pay").error is not None
    assert run.step("pay").error.error_class == "timeout"


def test_a_step_whose_worker_was_lost_too_often_has_never_answered() -> None:
    once = {"max_attempts": 1, "worker_lost_attempts": 1}
    run = play(saga(undoable("pay", retry=once)), lost("pay"))

    assert [one.error.error_class for one in run.incidents] == ["uncertain"]


@pytest.mark.parametrize("how", ["refused", "harmless", "no saga"])
def test_nobody_is_asked_about_what_answered_or_matters_to_no_undo(how: str) -> None:
    once = {"max_attempts": 1}
    step = task("pay", retry=once) if how == "harmless" else undoable("pay", retry=once)
    plan = plan_from(step) if how == "no saga" else saga(undoable("reserve", needs=[]), step)
    end = broken("pay") if how == "refused" else broken("pay", error_class="timeout")

    run = play(plan, *([] if how == "no saga" else [done("reserve")]), end)

    assert [one.error.error_class for one in run.incidents] == [end.error.error_class]
