"""Loops: a body done for each item, or again and again, within a window."""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from random import Random
from typing import Any

import pytest

from tests.engine.builders import Play, broken, done, error_of, plan_from, play, task
from workflows.engine.advance import advance
from workflows.engine.events import Event, Replayed, SkipDecided, Started, TimedOut
from workflows.engine.looping import MOST_BORN
from workflows.engine.plan import Plan
from workflows.engine.simulate import EPOCH, simulate
from workflows.engine.simulation import Simulation
from workflows.engine.slice import RunView, Slice
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Call, Result


def each(*body: dict[str, Any], over: Any = (1, 2, 3), **keys: Any) -> dict[str, Any]:
    """Return a loop over items, called `each`."""
    given = over if isinstance(over, str) else list(over)
    return {"id": "each", "foreach": given, "steps": list(body or (task("one"),)), **keys}


def again(*body: dict[str, Any], **repeat: Any) -> dict[str, Any]:
    """Return a loop that is done again and again, called `again`."""
    return {"id": "again", "repeat": repeat, "steps": list(body or (task("one"),))}


def echo(call: Call) -> Result:
    """Return what the step is given."""
    return Result(output=dict(call.arguments))


def ended(run: Simulation) -> tuple[RunState, Any]:
    """Return how the run ended, and with what."""
    return run.state, run.output


def test_a_body_is_done_once_for_each_item_and_hands_on_a_list_in_their_order() -> None:
    body = task("one", **{"with": {"says": "${{ item }} at ${{ index }}"}})
    plan = plan_from(each(body, over="${{ input.words }}"), output="${{ steps.each.output }}")

    run = simulate(plan, stub=echo, input={"words": ["a", "b"]})

    assert ended(run) == (RunState.COMPLETED, [{"says": "a at 0"}, {"says": "b at 1"}])
    assert run.states().keys() == {"each", "each[0].one", "each[1].one"}


def test_a_body_of_several_steps_is_a_step_of_its_own_for_each_item() -> None:
    body = [
        task("fetch", **{"with": {"name": "${{ line }}"}}),
        task("store", **{"with": {"all": "${{ steps.fetch.output.name }}!"}}),
    ]
    plan = plan_from(each(*body, **{"as": "line"}), output="${{ steps.each.output }}")

    run = simulate(plan, stub=echo)

    assert run.output == [{"all": "1!"}, {"all": "2!"}, {"all": "3!"}]
    assert run.states()["each[1]"] is StepState.COMPLETED
    assert run.states()["each[2].store"] is StepState.COMPLETED


def test_a_loop_inside_a_loop_knows_both_items() -> None:
    inner = {
        "id": "inner",
        "foreach": "${{ row }}",
        "as": "cell",
        "steps": [task("one", **{"with": {"v": "${{ row[0] }}${{ cell }}${{ index }}"}})],
    }
    plan = plan_from(
        each(inner, over=[["a", "b"], ["c"]], **{"as": "row"}), output="${{ steps.each.output }}"
    )

    run = simulate(plan, stub=echo)

    assert run.output == [[{"v": "aa0"}, {"v": "ab1"}], [{"v": "cc0"}]]
    assert "each[1].inner[0].one" in run.states()


def test_a_number_of_items_counts_from_nought() -> None:
    plan = plan_from(each(task("one", **{"with": {"n": "${{ item }}"}}), over="${{ 3 }}"))

    run = simulate(plan, stub=echo)

    assert [run.rows[f"each[{n}].one"].output["n"] for n in range(3)] == [0, 1, 2]


def test_no_items_are_a_loop_that_is_done() -> None:
    run = simulate(plan_from(each(over=[]), output="${{ steps.each.output }}"))

    assert ended(run) == (RunState.COMPLETED, [])


@pytest.mark.parametrize("given", ["${{ 'abc' }}", "${{ -1 }}", "${{ 1000001 }}", "${{ {} }}"])
def test_what_is_no_list_of_items_fails_the_loop_and_says_so(given: str) -> None:
    run = simulate(plan_from(each(over=given)))

    assert run.error is not None
    assert run.error.code == "foreach.items"


def test_no_more_items_are_under_way_than_the_window_lets_and_rows_are_made_as_it_moves() -> None:
    run = play(plan_from(each(over=range(10), max_parallel=2)))

    assert alive(run) == ["each[0].one", "each[1].one"]
    run.hear(done("each[1].one"))
    assert alive(run) == ["each[0].one", "each[2].one"]
    run.hear(done("each[0].one"), done("each[2].one"))
    assert alive(run) == ["each[3].one", "each[4].one"]


def alive(run: Play) -> list[str]:
    """Return the items that have begun and not ended."""
    return [path for path, row in run.rows.items() if row.view.alive and path != "each"]


def test_a_wide_window_is_filled_up_a_quarter_at_a_time() -> None:
    run = play(plan_from(each(over=range(100), max_parallel=8)))

    run.hear(done("each[0].one"))
    assert len(alive(run)) == 7
    run.hear(done("each[1].one"))
    assert len(alive(run)) == 8


def test_a_loop_goes_through_the_outputs_of_another_row_by_row() -> None:
    first = {"id": "first", "foreach": "${{ 5 }}", "steps": [task("make")]}
    body = task("one", **{"with": {"v": "${{ item.n }}"}})
    plan = plan_from(first, each(body, over="${{ steps.first.output }}", max_parallel=2))

    run = simulate(
        plan, stub=lambda call: echo(call) if call.arguments else Result(output={"n": call.path})
    )

    assert run.rows["each"].items == {"of": "first"}
    assert run.rows["each[4].one"].output == {"v": "first[4].make"}


def test_no_further_items_once_the_condition_is_true() -> None:
    loop = each(over=range(9), max_parallel=1, until="${{ steps.one.output.stop }}")

    run = simulate(
        plan_from(loop), stub=lambda call: Result(output={"stop": call.path == "each[2].one"})
    )

    assert run.state is RunState.COMPLETED
    assert len(run.rows) == 4


def test_a_failed_item_stops_those_to_come_and_fails_the_loop_when_the_rest_has_ended() -> None:
    run = play(plan_from(each(over=range(9), max_parallel=2)))

    run.hear(broken("each[0].one"))
    assert run.states()["each"] is StepState.WAITING
    run.hear(done("each[1].one"))

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.message.startswith("each: each[0].one: ")
    assert [incident.path for incident in run.incidents] == ["each[0].one"]
    assert len(run.rows) == 3


def test_a_replayed_item_has_a_stopped_loop_go_on_with_the_rest() -> None:
    run = play(plan_from(each(over=range(4), max_parallel=1)))
    run.hear(done("each[0].one"), broken("each[1].one"))

    run.hear(Replayed("each[1].one"), done("each[1].one", attempt=2))
    run.hear(done("each[2].one"), done("each[3].one"))

    assert run.state is RunState.COMPLETED
    assert run.rows["each"].output == [None] * 4


@pytest.mark.parametrize("body", [["one"], ["one", "two"]])
@pytest.mark.parametrize("decided", [SkipDecided("each[0].one"), Replayed("each[0].one")])
def test_a_loop_goes_on_when_its_item_is_dealt_with_while_others_are_under_way(
    body: list[str], decided: Event
) -> None:
    run = play(plan_from(each(*map(task, body), over=range(4), max_parallel=2)))

    run.hear(broken("each[0].one"), decided)
    while run.queued:
        run.hear(*(done(path, attempt=run.step(path).attempt) for path in sorted(run.queued)))

    assert run.state is RunState.COMPLETED
    assert run.step("each").born == 4


def test_a_loop_begins_nothing_more_while_another_item_of_it_has_failed() -> None:
    run = play(plan_from(each(over=range(4), max_parallel=2)))
    run.hear(broken("each[0].one"))

    run.hear(Replayed("each[0].one"), broken("each[1].one"), done("each[0].one", attempt=2))

    assert (run.state, run.step("each").born) == (RunState.FAILED, 2)
    run.hear(Replayed("each[1].one"), done("each[1].one", attempt=2))
    assert run.queued == {"each[2].one", "each[3].one"}


def test_an_item_that_a_person_skipped_counts_as_done() -> None:
    run = play(plan_from(each(over=range(2), max_parallel=1)))
    run.hear(broken("each[0].one"))

    run.hear(SkipDecided("each[0].one"), done("each[1].one"))

    assert run.state is RunState.COMPLETED


def test_where_items_may_fail_the_loop_ends_in_part_and_the_run_as_failed() -> None:
    loop = each(over=range(3), on_item_failure="continue")
    run = play(plan_from(loop, task("after")))

    run.hear(done("each[0].one", "a"), broken("each[1].one"), done("each[2].one", "c"))
    assert (run.step("each").state, run.step("each").reason) == ("FAILED", Reason.PARTIAL)
    assert run.rows["each"].output == ["a", None, "c"]
    run.hear(done("after"))

    assert run.state is RunState.FAILED
    assert [incident.path for incident in run.incidents] == ["each[1].one"]


def test_a_loop_that_ended_in_part_is_whole_once_its_items_are_replayed() -> None:
    loop = each(over=range(2), on_item_failure="continue")
    run = play(plan_from(loop, task("after"), output="${{ steps.each.output }}"))
    run.hear(done("each[0].one", "a"), broken("each[1].one"), done("after"))

    run.hear(Replayed("each[1].one"), done("each[1].one", "b", attempt=2))

    assert ended(run) == (RunState.COMPLETED, ["a", "b"])
    assert run.step("each").reason is None
    assert run.step("after").attempt == 1


def test_a_fallback_makes_good_for_one_item_alone() -> None:
    body = task("one", catch=[{"steps": [task("instead", **{"with": {"v": "${{ item }}"}})]}])

    run = simulate(
        plan_from(each(body), output="${{ steps.each.output }}"),
        stub=lambda call: Result(error=error_of()) if call.path == "each[1].one" else echo(call),
    )

    assert ended(run) == (RunState.COMPLETED, [{}, {"v": 2}, {}])
    assert run.states()["each[1].one.catch[0].instead"] is StepState.COMPLETED


def test_a_condition_skips_single_items() -> None:
    body = task("one", when="${{ item != 2 }}")

    run = simulate(plan_from(each(body)))

    assert run.state is RunState.COMPLETED
    assert run.states()["each[1].one"] is StepState.SKIPPED


def test_a_loop_whose_time_is_up_ends_with_what_is_under_way_and_begins_no_more() -> None:
    run = play(plan_from(each(over=range(9), max_parallel=2, timeout="1m")))
    run.claim("each[0].one")
    run.now = run.now.replace(minute=5)

    run.hear(TimedOut("each"))
    assert run.states()["each"] is StepState.WAITING
    run.hear(broken("each[0].one", "step.cancelled", "cancelled"))

    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.code == "scope.timeout"


def test_a_body_is_repeated_until_its_condition_is_true_and_hands_on_the_last_output() -> None:
    loop = again(task("look"), until="${{ steps.look.output.n == 3 }}", every="10m")
    plan = plan_from(loop, output="${{ steps.again.output }}")

    run = simulate(
        plan, stub=lambda call: Result(output={"n": int(call.path[6:].partition("]")[0])})
    )

    assert ended(run) == (RunState.COMPLETED, {"n": 3})
    assert run.finished_at is not None
    assert (run.finished_at - run.started_at).total_seconds() == 3 * 600


def test_a_body_is_repeated_a_number_of_times() -> None:
    run = simulate(plan_from(again(max_times=4)))

    assert run.state is RunState.COMPLETED
    assert len(run.rows) == 5


def test_a_condition_that_is_never_true_fails_the_step() -> None:
    run = simulate(plan_from(again(until="${{ false }}", max_times=3)))

    assert run.error is not None
    assert run.error.code == "repeat.exhausted"


def test_a_round_that_fails_at_once_says_why_of_the_loop() -> None:
    begin = {"id": "begin", "set": {"n": 2}}
    count = {"id": "count", "set": {"n": "${{ vars.n - 1 + 0 / vars.n }}"}}

    run = simulate(plan_from(begin, again(count, max_times=9)))

    assert run.states()["again[1].count"] is StepState.COMPLETED
    assert run.error is not None
    assert run.error.code == "expression.error"


def test_a_loop_between_two_rounds_can_be_out_of_time() -> None:
    loop = again(until="${{ false }}", every="10m") | {"timeout": "25m"}

    run = simulate(plan_from(loop))

    assert run.error is not None
    assert run.error.code == "scope.timeout"
    assert len(run.rows) == 4


def test_rounds_speak_to_each_other_through_variables() -> None:
    body = {"id": "count", "set": {"n": "${{ vars.n + 1 }}"}}
    first = {"id": "begin", "set": {"n": 0}}
    plan = plan_from(first, again(body, until="${{ vars.n == 5 }}"), output="${{ vars.n }}")

    run = simulate(plan)

    assert ended(run) == (RunState.COMPLETED, 5)


def test_failures_come_through_nested_loops_to_the_run() -> None:
    inner = {"id": "inner", "foreach": [1, 2], "steps": [task("one")]}
    run = play(plan_from(each(inner, over=[1])))

    run.hear(done("each[0].inner[0].one"), broken("each[0].inner[1].one"))

    assert run.error is not None
    assert run.error.message.startswith("each: each[0]: each[0].inner: each[0].inner[1].one: ")
    assert [incident.path for incident in run.incidents] == ["each[0].inner[1].one"]


def test_a_body_may_be_a_wait_which_takes_no_time_here() -> None:
    pause = {"id": "pause", "wait": {"for": "7d"}}

    run = simulate(plan_from(each(pause, over="${{ 3 }}", max_parallel=1)))

    assert run.state is RunState.COMPLETED
    assert run.finished_at is not None
    assert (run.finished_at - run.started_at).days == 21


def test_a_replay_gives_a_loop_that_was_done_in_vain_as_many_rounds_again() -> None:
    run = play(plan_from(again(until="${{ steps.one.output == 'yes' }}", max_times=2)))
    run.hear(done("again[0].one"), done("again[1].one"))
    assert run.state is RunState.FAILED

    run.hear(Replayed("again"), done("again[2].one"))
    assert run.state is RunState.RUNNING
    run.hear(done("again[3].one", "yes"))

    assert run.state is RunState.COMPLETED


@pytest.mark.parametrize(("stragglers", "last"), [("finish", "QUEUED"), ("cancel", "CANCELLED")])
def test_enough_items_are_enough_and_those_under_way_are_let_finish_or_withdrawn(
    stragglers: str, last: str
) -> None:
    loop = each(over=range(9), max_parallel=3, until="${{ done == 2 }}", stragglers=stragglers)
    run = play(plan_from(loop))

    run.hear(done("each[0].one"), done("each[1].one"))

    assert run.states()["each[2].one"] == last
    assert run.state is (RunState.RUNNING if last == "QUEUED" else RunState.COMPLETED)


def test_what_a_loop_hands_on_may_be_made_of_what_it_would_hand_on() -> None:
    loop = each(output={"first": "${{ steps.each.output[0] }}"})
    run = play(plan_from(loop, output="${{ steps.each.output }}"))

    run.hear(*(done(f"each[{n}].one", f"v{n}") for n in range(3)))

    assert ended(run) == (RunState.COMPLETED, {"first": "v0"})


def failing(**keys: Any) -> dict[str, Any]:
    """Return a step whose parameters cannot be had."""
    return {"id": "one", "set": {"x": "${{ input.nothing }}"}, **keys}


ENDLESS = {"id": "again", "repeat": {"until": False, "max_times": 2}, "steps": [task("look")]}
ROUND = {"id": "paper", "max_visits": 2, "states": [task("draft", next="draft")]}
STUCK = {"id": "paper", "states": [task("draft", next=[{"when": False, "to": "draft"}])]}


@pytest.mark.parametrize(
    ("step", "accused"),
    [
        (each(failing(), over="${{ 2 }}"), {"block.each[0].one", "block.each[1].one"}),
        (each(failing(), task("two"), over=[1]), {"block.each[0].one"}),
        (each(failing(), over=[1], on_item_failure="continue"), {"block.each[0].one"}),
        (each(over=[1], until="${{ input.nothing }}"), {"block.each"}),
        (each(over="${{ 'none' }}"), {"block.each"}),
        (each(ENDLESS, over=[1]), {"block.each[0].again"}),
        (ENDLESS, {"block.again"}),
        (ROUND, {"block.paper"}),
        (STUCK, {"block.paper"}),
    ],
)
def test_an_incident_is_about_what_failed_and_not_about_what_is_around_it(
    step: dict[str, Any], accused: set[str]
) -> None:
    run = simulate(plan_from({"id": "block", "steps": [step]}))

    assert run.state is RunState.FAILED
    assert run.charged == accused


def test_a_block_that_was_too_slow_is_not_charged_to_the_block_around_it() -> None:
    inner = {"id": "inner", "timeout": "1s", "steps": [{"id": "rest", "wait": {"for": "1h"}}]}

    run = simulate(plan_from({"id": "outer", "steps": [inner]}))

    assert run.charged == {"outer.inner"}


CAUGHT = {"catch": [{"on": ["foreach.partial"], "steps": [task("tell")]}]}


@pytest.mark.parametrize(
    ("around", "accused"),
    [
        ({}, {"block.each[0].one"}),
        ({"optional": True}, set()),
        (CAUGHT, set()),
        ({"catch": [{"on": ["expression.error"], "steps": [task("tell")]}]}, {"block.each[0].one"}),
    ],
)
def test_the_failure_of_an_item_is_nobodys_where_the_loop_that_ended_in_part_is_answered(
    around: dict[str, Any], accused: set[str]
) -> None:
    loop = each(failing(), over=[1], on_item_failure="continue")

    run = simulate(plan_from({"id": "block", "steps": [loop], **around}))

    assert run.charged == accused
    assert run.state is (RunState.FAILED if accused else RunState.COMPLETED)


def nested(over: Any) -> Plan:
    """Compile a loop in a loop in a loop."""
    inner = {"id": "inner", "foreach": over, "steps": [task("leaf")]}
    middle = {"id": "middle", "foreach": over, "steps": [inner]}
    return plan_from({"id": "outer", "foreach": over, "steps": [middle]})


def test_a_decision_leaves_the_windows_of_loops_in_loops_to_later_ones() -> None:
    new = Slice(RunView("run"))

    decision = advance(nested([0] * 50), new, Started(), now=EPOCH, chance=Random(0))

    loops = [view.path for view in decision.born if view.path.endswith(".inner")]
    assert MOST_BORN <= len(decision.born) < MOST_BORN + 50 + len(loops)
    assert "outer[0].middle[0].inner" in decision.left


def test_loops_in_loops_are_done_to_the_end_whatever_was_left_to_later_decisions() -> None:
    run = simulate(nested(14))

    leaves = [path for path in run.rows if path.endswith(".leaf")]
    assert len(leaves) == 14**3 > MOST_BORN
    assert run.state is RunState.COMPLETED
