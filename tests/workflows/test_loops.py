"""Loops in the database: windows, values, ends; whoever dies."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from tests.support import invariants
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    a_run,
    at_once,
    claimed,
    fail,
    finish,
    open_incidents,
    set_due,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows.dispatch import Refill
from workflows.engine import looping
from workflows.language import expressions
from workflows.models import Run, Step
from workflows.services.incidents import replay_incident, skip_incident
from workflows.services.plans import pinned
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run
from workflows.services.scopes import settle_scope
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")


def each(*body: dict[str, Any], over: Any, **keys: Any) -> dict[str, Any]:
    """Return a loop over items, called `each`."""
    return {"id": "each", "foreach": over, "steps": list(body or (task("one"),)), **keys}


def alive(run: Run) -> list[str]:
    rows = Step.objects.filter(run=run, state="QUEUED").order_by("id")
    return list(rows.values_list("path", flat=True))


def test_items_begin_as_the_window_moves_and_the_list_of_outputs_is_in_their_order() -> None:
    run = a_run(each(over=["a", "b", "c"], max_parallel=2))

    assert alive(run) == ["each[0].one", "each[1].one"]
    finish(claimed(run, "each[1].one"), "B")
    assert alive(run) == ["each[0].one", "each[2].one"]
    finish(claimed(run, "each[2].one"), "C")
    finish(claimed(run, "each[0].one"), "A")

    assert state(run) == "COMPLETED"
    assert step(run, "each").output == ["A", "B", "C"]
    assert invariants.left_over(runs=[run.pk]) == []


def test_each_item_has_its_value_and_the_results_of_its_own_steps() -> None:
    body = [
        task("fetch", **{"with": {"message": "${{ line.id }}"}}),
        task("store", **{"with": {"message": "${{ steps.fetch.output + index }}"}}),
    ]
    run = a_run(each(*body, over="${{ [{'id': 7}, {'id': 8}] }}", **{"as": "line"}))

    second = claimed(run, "each[1].fetch")
    assert second.names == {"line": {"id": 8}}
    finish(second, 40)

    assert claimed(run, "each[1].store").names == {"steps": {"fetch": as_done(40)}, "index": 1}


def as_done(output: Any) -> dict[str, Any]:
    return {"state": "COMPLETED", "output": output, "error": None, "attempt": 1}


def test_a_long_list_is_read_a_batch_at_a_time_and_a_number_is_no_list_at_all() -> None:
    letters = [f"letter {n}" for n in range(20)]
    other = each(task("two"), over="${{ 6 }}") | {"id": "other"}
    run = a_run(each(over=letters, max_parallel=4), other)

    work_off(run)

    last = Step.objects.filter(run=run, scope="each").values_list("item", flat=True)
    assert list(last.order_by("id")) == letters
    assert step(run, "other[5].two").item == 5
    assert state(run) == "COMPLETED"


def test_a_loop_goes_through_the_outputs_of_another_though_they_are_no_value() -> None:
    first = each(over="${{ 5 }}") | {"id": "first"}
    second = each(task("two"), over="${{ steps.first.output }}", max_parallel=2)
    run = a_run(first, second)
    for number in range(5):
        finish(claimed(run, f"first[{number}].one"), "x" * 60_000 + str(number))

    work_off(run)

    assert step(run, "first").output is None
    assert step(run, "each[4].two").item.endswith("x4")
    assert state(run) == "COMPLETED"


def test_a_failed_item_can_be_replayed_and_the_stopped_loop_goes_on() -> None:
    run = a_run(each(over=[1, 2, 3], max_parallel=1), task("after"))
    fail(claimed(run, "each[0].one"))
    assert state(run) == "FAILED"

    [incident] = open_incidents(run)
    replay_incident(incident_id=incident.pk, by=ANN)
    work_off(run)

    assert state(run) == "COMPLETED"
    assert step(run, "each").ok == 3
    assert invariants.left_over(runs=[run.pk]) == []


def test_a_loop_that_ends_in_part_is_mended_by_a_replay() -> None:
    run = a_run(each(over=[1, 2], on_item_failure="continue"), task("after"))
    finish(claimed(run, "each[0].one"), "a")
    fail(claimed(run, "each[1].one"))
    work_off(run)
    assert (step(run, "each").reason, state(run)) == ("partial", "FAILED")

    [incident] = open_incidents(run)
    replay_incident(incident_id=incident.pk, by=ANN)
    finish(claimed(run, "each[1].one", 2), "b")

    assert (step(run, "each").reason, step(run, "each").output) == ("", ["a", "b"])
    assert state(run) == "COMPLETED"
    assert invariants.left_over(runs=[run.pk]) == []


def test_a_cancelled_run_ends_its_loops_with_what_is_under_way() -> None:
    run = a_run(each(over="${{ 100 }}", max_parallel=3))
    work = claimed(run, "each[0].one")

    cancel_run(run_id=run.pk, by=ANN)
    assert state(run) == "CANCELLING"
    finish(work)

    assert state(run) == "CANCELLED"
    assert Step.objects.filter(run=run).count() == 4
    assert invariants.left_over(runs=[run.pk]) == []


def test_a_pause_between_two_rounds_holds_nothing_and_is_over_by_the_clock() -> None:
    loop = {"id": "again", "repeat": {"max_times": 2, "every": "10m"}, "steps": [task("look")]}
    run = a_run(loop)
    finish(claimed(run, "again[0].look"))
    assert states(run) == {"again": "WAITING", "again[0].look": "COMPLETED"}

    tick(now=timezone.now())
    assert "again[1].look" not in states(run)
    set_due(run, "again")
    tick(now=timezone.now())
    finish(claimed(run, "again[1].look"))

    assert state(run) == "COMPLETED"


def test_two_items_that_end_at_once_are_both_counted() -> None:
    run = a_run(each(over="${{ 40 }}", max_parallel=20))
    works = [claimed(run, f"each[{n}].one") for n in range(8)]

    at_once(*(partial(finish, work) for work in works))
    work_off(run)

    assert (step(run, "each").ok, step(run, "each").born) == (40, 40)
    assert state(run) == "COMPLETED"


def test_whoever_ends_an_item_goes_on_with_the_next() -> None:
    run = a_run(each(over="${{ 3 }}", max_parallel=1))

    work = finish(claimed(run, "each[0].one"), run_on=True)

    assert work is not None
    assert work.path == "each[1].one"


def loops_in_loops() -> Run:
    """Start a run of nine rounds, three in each of three."""
    inner = {"id": "inner", "foreach": 3, "steps": [{"id": "leaf", "set": {"x": "${{ index }}"}}]}
    return a_run({"id": "outer", "foreach": 3, "steps": [inner]})


@pytest.mark.parametrize(
    ("loop", "output"), [({"foreach": [0, 1]}, [4, None]), ({"repeat": {"max_times": 1}}, 4)]
)
def test_a_loop_hands_on_what_a_person_gave_in_the_place_of_an_item(
    loop: dict[str, Any], output: object
) -> None:
    run = a_run({"id": "each", **loop, "steps": [task("one")]})
    fail(claimed(run, "each[0].one"))

    skip_incident(incident_id=open_incidents(run)[0].pk, output=4, by=ANN)
    work_off(run)

    assert (state(run), step(run, "each").output) == ("COMPLETED", output)


@pytest.mark.parametrize("body", [["one"], ["one", "two"]])
def test_a_loop_goes_on_when_its_item_is_replayed_while_others_are_under_way(
    body: list[str],
) -> None:
    run = a_run(each(*map(task, body), over=[1, 2, 3, 4], max_parallel=2))
    under_way = claimed(run, "each[1].one")
    fail(claimed(run, "each[0].one"))

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    finish(under_way)
    work_off(run)

    assert (state(run), step(run, "each").born) == ("COMPLETED", 4)
    assert invariants.left_over(runs=[run.pk]) == []


@pytest.mark.parametrize("lines", [["x", "y"], "${{ order.lines }}", 2])
def test_the_items_of_the_loops_around_a_step_are_those_of_each(lines: Any) -> None:
    leaf = task("leaf", **{"with": {"message": "${{ order.name + ' ' + string(line) }}"}})
    inner = {"id": "inner", "foreach": lines, "as": "line", "steps": [leaf]}
    orders = [{"name": name, "lines": ["x", "y"]} for name in "ab"]

    run = a_run({"id": "outer", "foreach": orders, "as": "order", "steps": [inner]})

    works = [claimed(run, f"outer[{n}].inner[{m}].leaf") for n in (0, 1) for m in (0, 1)]
    found = [expressions.render(work.arguments, work.names)["message"] for work in works]
    assert found == [f"{name} {line}" for name in "ab" for line in ("01" if lines == 2 else "xy")]


def test_windows_left_to_later_transactions_are_filled_up_by_the_engine(
    monkeypatch: pytest.MonkeyPatch, sent: Recorder
) -> None:
    monkeypatch.setattr(looping, "MOST_BORN", 2)
    run = loops_in_loops()

    left = [hint for hint in sent.sent if isinstance(hint, Refill)]
    assert states(run) == {"outer": "WAITING"} | {
        f"outer[{number}]{loop}": "WAITING" for number in range(3) for loop in ("", ".inner")
    }
    for hint in left:
        for loop in hint.loops:
            settle_scope(pin=pinned(hint.run), scope=loop, now=timezone.now())

    assert state(run) == "COMPLETED"
    assert invariants.left_over(runs=[run.pk]) == []


def test_windows_whose_message_was_lost_are_filled_up_by_a_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looping, "MOST_BORN", 2)
    run = loops_in_loops()

    for seconds in (11, 22):
        recover(now=timezone.now() + timedelta(seconds=seconds))

    assert state(run) == "COMPLETED"
