"""States, a graph of transitions in which a run may go round; and races that one branch wins."""

from typing import Any

import pytest

from tests.engine.builders import broken, done, plan_from, play, task
from workflows.engine.events import Answered, Replayed, SkipDecided
from workflows.engine.plan import Plan
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Call, Result

REVIEWED = [
    {"when": "${{ steps.review.output == 'good' }}", "to": "publish"},
    {"when": "${{ steps.review.output == 'bad' }}", "to": "draft"},
]


def a_paper(**keys: Any) -> Plan:
    """Return a block of states: draft, review, and round again until it is good."""
    states = [
        task("draft", next="review"),
        task("review", next=REVIEWED),
        task("publish", **{"with": {"what": "${{ steps.draft.output }}"}}),
    ]
    return plan_from({"id": "paper", "states": states, **keys}, output="${{ steps.paper.output }}")


def test_a_state_leads_to_the_next_and_may_be_visited_again() -> None:
    run = play(a_paper())

    run.hear(done("paper[0].draft", "v1"), done("paper[1].review", "bad"))
    run.hear(done("paper[2].draft", "v2"), done("paper[3].review", "good"))
    run.hear(done("paper[4].publish", "out"))

    assert (run.state, run.output) == (RunState.COMPLETED, "out")
    assert [path for path in run.rows if path != "paper"] == [
        "paper[0].draft",
        "paper[1].review",
        "paper[2].draft",
        "paper[3].review",
        "paper[4].publish",
    ]


def test_a_state_reads_the_latest_visit_of_another() -> None:
    calls: list[Call] = []
    drafts = iter(["v1", "v2"])
    verdicts = iter(["bad", "good"])

    def stub(call: Call) -> Result:
        calls.append(call)
        name = call.path.rpartition(".")[2]
        return Result(
            {"draft": lambda: next(drafts), "review": lambda: next(verdicts)}.get(
                name, lambda: None
            )()
        )

    simulate(a_paper(), stub=stub)

    assert calls[-1].arguments == {"what": "v2"}


def test_a_block_may_begin_with_another_state_than_the_first() -> None:
    run = play(a_paper(start="review"))

    assert run.queued == {"paper[0].review"}


def test_a_state_whose_transitions_all_fail_to_hold_is_a_failure_that_says_so() -> None:
    run = play(a_paper())

    run.hear(done("paper[0].draft"), done("paper[1].review", "unclear"))

    assert run.error is not None
    assert run.error.code == "states.stuck"


def test_going_round_for_ever_is_bounded_and_a_replay_goes_round_as_often_again() -> None:
    plan = plan_from({"id": "s", "states": [task("a", next="a")], "max_visits": 2})
    run = play(plan)
    run.hear(done("s[0].a"), done("s[1].a"))
    assert run.error is not None
    assert run.error.code == "states.exhausted"

    run.hear(Replayed("s"), done("s[2].a"))

    assert run.queued == {"s[3].a"}


def test_a_failed_visit_is_replayed_where_it_is_and_goes_on() -> None:
    run = play(a_paper())
    run.hear(done("paper[0].draft"), broken("paper[1].review"))
    assert run.state is RunState.FAILED

    run.hear(Replayed("paper[1].review"), done("paper[1].review", "good", attempt=2))

    assert run.queued == {"paper[2].publish"}


def test_a_visit_that_a_person_skipped_leads_on() -> None:
    run = play(plan_from({"id": "s", "states": [task("a", next="b"), task("b")]}))
    run.hear(broken("s[0].a"))

    run.hear(SkipDecided("s[0].a"))

    assert run.queued == {"s[1].b"}


def a_race(*more: dict[str, Any]) -> Plan:
    branches = [{"id": "reply", "callback": {}}, task("poll"), *more]
    return plan_from({"id": "race", "first": branches}, output="${{ steps.race.output }}")


def test_the_first_branch_that_ends_well_wins_and_the_others_are_withdrawn() -> None:
    run = play(a_race({"id": "late", "wait": {"for": "7d"}}))

    run.hear(done("race.poll", "seen"))

    assert (run.state, run.output) == (
        RunState.COMPLETED,
        {"winner": "poll", "output": "seen"},
    )
    assert run.step("race.reply").state is StepState.CANCELLED
    assert run.reason("race.late") is Reason.LOST_RACE


def test_a_branch_that_fails_is_out_of_the_race_and_needs_nobody() -> None:
    run = play(a_race())

    run.hear(broken("race.poll"))
    assert run.state is RunState.RUNNING
    run.hear(Answered("race.reply", Reason.CALLBACK, "yes"))

    assert (run.state, run.output) == (RunState.COMPLETED, {"winner": "reply", "output": "yes"})
    assert run.incidents == []


@pytest.mark.parametrize("keys", [{"when": False}, {"optional": True}])
def test_a_race_that_nobody_runs_or_has_to_win_fails_itself(keys: dict[str, Any]) -> None:
    run = play(plan_from({"id": "race", "first": [task("a", **keys), task("b", **keys)]}))

    run.hear(broken("race.a"), broken("race.b"))

    assert run.state is RunState.FAILED
    assert [(one.path, one.error.code) for one in run.incidents] == [("race", "first.none")]


def test_a_race_that_nobody_wins_fails_itself_and_can_be_run_again() -> None:
    run = play(plan_from({"id": "race", "first": [task("a"), task("b")]}))
    run.hear(broken("race.a"), broken("race.b"))
    assert run.error is not None
    assert [(one.path, one.error.code) for one in run.incidents] == [("race", "first.none")]

    run.hear(Replayed("race"), done("race.b", "now", attempt=2))

    assert run.step("race.a").state in {StepState.CANCELLED, StepState.RUNNING}
    run.hear(broken("race.a", "step.cancelled", "cancelled", attempt=2))
    assert run.state is RunState.COMPLETED
