"""A step that asks people: what they are asked, what a decision yields, what no decision does."""

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.builders import Play, plan_from, play, task
from workflows.engine import approving
from workflows.engine.decision import AttemptEnd
from workflows.engine.events import Answered, CancelRequested, Replayed, TimedOut
from workflows.engine.simulate import EPOCH, simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Result

DAY = 86400
ESCALATES = {"timeout": "1d", "on_timeout": "escalate", "escalate_to": "directors"}


def approval(group: str = "finance", more: dict[str, Any] | None = None, **keys: Any) -> Any:
    """Return a step that asks a group; `keys` are those of the approval."""
    return {"id": "sign", "approval": {"group": group, **keys}, **(more or {})}


def yes(**keys: Any) -> Answered:
    """Say that the group has approved."""
    output = approving.approved(by=["ann"], form=None, at=EPOCH, votes=[])
    return Answered("sign", Reason.APPROVAL, output, **keys)


def no() -> Answered:
    """Say that somebody has rejected."""
    error = approving.rejection("sign", by="ann", note="too much")
    return Answered("sign", Reason.APPROVAL, error=error)


def requests(run: Play) -> list[tuple[int, str]]:
    """Return the open requests by number, and whom they ask."""
    return [(awaited.attempt, awaited.name) for awaited in run.waits.values()]


def out_of_time(**keys: Any) -> Play:
    """Play an approval that nobody decides in its day."""
    plan = plan_from(approval(**{"timeout": "1d", **keys}), task("after"))
    return play(plan).after(DAY).hear(TimedOut("sign"))


def test_a_group_is_asked_what_the_definition_says() -> None:
    asked = approval("${{ vars.who }}", message="Pay ${{ vars.sum }}?", approvals=2)
    plan = plan_from({"id": "know", "set": {"who": "board", "sum": 7}}, asked)

    run = play(plan)

    [awaited] = run.waits.values()
    assert (awaited.kind, awaited.name) == (Reason.APPROVAL, "board")
    assert awaited.request["message"] == "Pay 7?"
    assert awaited.request["approvals"] == 2
    assert run.step("sign").wake_at is None


def test_an_approved_step_yields_who_approved_and_the_run_goes_on() -> None:
    run = play(plan_from(approval(), task("after")), yes())

    assert run.rows["sign"].output["approved"] is True
    assert run.rows["sign"].output["by"] == ["ann"]
    assert run.queued == {"after"}


def test_a_rejected_step_fails_as_business_and_says_who_and_why() -> None:
    run = play(plan_from(approval(), task("after")), no())

    error = run.step("sign").error
    assert error is not None
    assert (error.error_class, error.code) == ("business", "approval.rejected")
    assert error.details == {"by": "ann", "note": "too much"}
    assert run.accused == ["sign"]
    assert run.queued == set()


def test_a_rejection_can_be_caught() -> None:
    caught = {"catch": [{"on": ["approval.rejected"], "steps": [task("tell")]}]}

    run = play(plan_from(approval(more=caught)), no())

    assert run.queued == {"sign.catch[0].tell"}
    assert run.accused == []


@pytest.mark.parametrize("group", ["", "   ", "g" * 151, 7])
def test_what_is_no_name_of_a_group_fails_the_step(group: Any) -> None:
    plan = plan_from({"id": "know", "set": {"who": group}}, approval("${{ vars.who }}"))

    run = play(plan)

    error = run.step("sign").error
    assert error is not None
    assert error.code == "expression.error"
    assert "must name a group" in error.message


def test_nobody_in_time_fails_the_step() -> None:
    run = out_of_time()

    error = run.step("sign").error
    assert error is not None
    assert (error.error_class, error.code) == ("timeout", "approval.timeout")


def test_nobody_in_time_may_count_as_approved() -> None:
    run = out_of_time(on_timeout="approve")

    assert run.rows["sign"].output["approved"] is True
    assert run.rows["sign"].output["by"] == []
    assert run.queued == {"after"}


def test_nobody_in_time_may_count_as_rejected() -> None:
    run = out_of_time(on_timeout="reject")

    error = run.step("sign").error
    assert error is not None
    assert (error.error_class, error.code) == ("business", "approval.rejected")


def test_another_group_is_asked_for_as_long_again() -> None:
    run = out_of_time(**ESCALATES)

    step = run.step("sign")
    assert (step.state, step.reason, step.attempt) == (StepState.WAITING, Reason.APPROVAL, 2)
    assert step.wake_at == EPOCH + timedelta(days=2)
    assert step.error is None
    assert requests(run) == [(2, "directors")]
    assert [(one.step.attempt, one.end) for one in run.attempts] == [(1, AttemptEnd.FAILED)]


def test_the_other_group_decides() -> None:
    run = out_of_time(**ESCALATES).hear(yes(attempt=2))

    assert run.step("sign").state is StepState.COMPLETED
    assert not run.waits


def test_a_decision_of_the_first_group_comes_too_late_once_another_is_asked() -> None:
    run = out_of_time(**ESCALATES).hear(yes(attempt=1))

    assert run.step("sign").state is StepState.WAITING


def test_another_group_is_asked_only_once() -> None:
    run = out_of_time(**ESCALATES).after(DAY).hear(TimedOut("sign"))

    error = run.step("sign").error
    assert error is not None
    assert error.code == "approval.timeout"
    assert [one.step.attempt for one in run.attempts] == [1, 2]


def test_a_timer_that_comes_twice_asks_the_other_group_once() -> None:
    run = out_of_time(**ESCALATES).hear(TimedOut("sign"))

    assert requests(run) == [(2, "directors")]


def test_a_replayed_request_goes_to_the_first_group_and_may_escalate_again() -> None:
    run = out_of_time(**ESCALATES).after(DAY).hear(TimedOut("sign"))

    run.hear(Replayed("sign"))
    anew = requests(run)
    run.after(DAY).hear(TimedOut("sign"))

    assert anew == [(3, "finance")]
    assert requests(run) == [(4, "directors")]


def test_the_time_of_the_step_is_above_the_time_of_the_groups() -> None:
    plan = plan_from(approval(more={"timeout": "36h"}, **ESCALATES))
    run = play(plan).after(DAY).hear(TimedOut("sign"))
    until = run.step("sign").wake_at

    run.after(DAY / 2).hear(TimedOut("sign"))

    assert until == EPOCH + timedelta(hours=36)
    assert run.state is RunState.FAILED


def test_the_time_of_the_step_fails_even_what_would_be_approved() -> None:
    asked = {"timeout": "1d", "on_timeout": "approve"}
    plan = plan_from(approval(more={"timeout": "1h"}, **asked))

    run = play(plan).after(3600).hear(TimedOut("sign"))

    assert run.step("sign").state is StepState.FAILED


def test_a_cancelled_run_asks_nobody() -> None:
    run = play(plan_from(approval()), CancelRequested(), yes())

    assert run.step("sign").state is StepState.CANCELLED
    assert not run.waits


def test_a_simulated_approval_is_given_with_the_defaults_of_its_form() -> None:
    form = {"type": "object", "properties": {"limit": {"type": "integer", "default": 5}}}
    plan = plan_from(
        approval(form=form), {"id": "use", "set": {"n": "${{ steps.sign.output.form.limit }}"}}
    )

    run = simulate(plan)

    assert run.state is RunState.COMPLETED
    assert run.variables == {"n": 5}


def test_a_simulation_waits_until_the_groups_are_out_of_time() -> None:
    run = simulate(plan_from(approval(**ESCALATES)), outside=lambda _: None)

    assert run.state is RunState.FAILED
    assert run.finished_at == EPOCH + timedelta(days=2)


def test_a_simulation_may_reject() -> None:
    error = approving.rejection("sign", by="ben", note="no")

    run = simulate(plan_from(approval()), outside=lambda _: Result(error=error, seconds=60))

    assert run.error is not None
    assert run.error.code == "approval.rejected"


def test_each_item_of_a_loop_asks_its_own_group() -> None:
    ask = {"id": "sign", "approval": {"group": "${{ item }}", "message": "${{ index }}?"}}
    plan = plan_from({"id": "all", "foreach": ["finance", "board"], "steps": [ask]})

    run = play(plan)
    run.hear(Answered("all[1].sign", Reason.APPROVAL, {"approved": True}))

    asked = {one.path: (one.name, one.request["message"]) for one in run.waits.values()}
    assert asked == {"all[0].sign": ("finance", "0?")}
    assert run.step("all[1].sign").state is StepState.COMPLETED
