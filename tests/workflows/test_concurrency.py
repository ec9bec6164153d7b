"""Few runs at a time: never more with one key than there are places, and nobody is forgotten."""

from typing import Any

import pytest
from django.db import connection

from tests.support import invariants
from tests.support.publisher import Recorder
from tests.support.seam import Crash, seam
from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    at_once,
    claimed,
    fail,
    finish,
    in_future,
    journal,
    open_incidents,
    sql,
    state,
    task,
)
from workflows.dispatch import Segment, Vacated
from workflows.models import Run
from workflows.selectors.runs import get_run, run_facts
from workflows.services.children import attend
from workflows.services.concurrency import fill_after
from workflows.services.errors import InputRefusedError, StateRefusedError
from workflows.services.incidents import discard_incident, replay_incident
from workflows.services.orders import Order
from workflows.services.recovery import recover
from workflows.services.runs import (
    StartedRun,
    cancel_run,
    compensate_run,
    pause_run,
    resume_run,
    start_run,
    start_runs,
)
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

KEY = "${{ input.order }}"


def limited(limit: int = 1, policy: str = "queue", **document: Any) -> str:
    """Return the name of a workflow that has few runs of an order at a time."""
    few = {"key": KEY, "limit": limit, "policy": policy}
    return a_version(task("only"), concurrency=few, **document).workflow.name


def start(workflow: str, order: str = "a", **keys: Any) -> Run:
    return start_run(workflow=workflow, input={"order": order}, by=ANN, **keys).run


def start_many(workflow: str, number: int, order: str = "a") -> list[Run]:
    orders = [Order(workflow, {"order": order})] * number
    started = start_runs(orders=orders, by=ANN)
    return [one.run for one in started if isinstance(one, StartedRun)]


def end(run: Run) -> None:
    """Have the run complete, and the engine hear that its place is free."""
    finish(claimed(run, "only"))
    fill_after(run_id=run.pk)


def states(*runs: Run) -> list[str]:
    return [state(run) for run in runs]


def test_a_run_that_finds_no_place_waits_and_nothing_of_it_is_sent(sent: Recorder) -> None:
    workflow = limited()
    first = start(workflow)
    sent.forget()

    second = start(workflow)

    assert states(first, second) == ["RUNNING", "PENDING"]
    assert (second.state, second.reason) == ("PENDING", "queued")
    assert second.steps.count() == 0
    assert sent.sent == []


def test_a_run_that_waits_says_for_whom_and_behind_how_many() -> None:
    workflow = limited(limit=2)
    first, second, _, last = start_many(workflow, 4)

    found = run_facts(get_run(last.pk))["waits_for"]

    assert found == {"key": "a", "limit": 2, "number": 2, "runs": [str(first.pk), str(second.pk)]}
    assert run_facts(get_run(first.pk))["waits_for"] is None


def test_runs_with_another_key_or_of_another_workflow_do_not_wait() -> None:
    workflow = limited()

    runs = [start(workflow), start(workflow, "b"), start(limited())]

    assert states(*runs) == ["RUNNING"] * 3


def test_who_waits_begins_in_the_order_of_creation_when_a_place_is_left(sent: Recorder) -> None:
    workflow = limited(limit=2)
    one, two, three, four, five = start_many(workflow, 5)
    assert states(one, two, three, four, five) == ["RUNNING"] * 2 + ["PENDING"] * 3
    sent.forget()

    finish(claimed(two, "only"))
    assert sent.sent == [Vacated(two.pk)]
    fill_after(run_id=two.pk)

    assert states(one, two, three, four, five) == [
        "RUNNING",
        "COMPLETED",
        "RUNNING",
        "PENDING",
        "PENDING",
    ]
    assert [one.run for one in sent.sent if isinstance(one, Segment)] == [three.pk]


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    workflow = limited()
    first, second = start(workflow), start(workflow)
    finish(claimed(first, "only"))

    third = start(workflow)

    assert states(second, third) == ["PENDING", "PENDING"]
    recover(now=in_future(11))
    assert states(second, third) == ["RUNNING", "PENDING"]


def test_time_is_counted_from_the_begin_and_lateness_from_the_creation() -> None:
    workflow = limited(timeout="10m", sla="20m")
    first, second = start(workflow), start(workflow)
    waiting = Run.objects.get(pk=second.pk)
    assert (waiting.started_at, waiting.deadline_at) == (None, None)
    assert (waiting.sla_at - waiting.created_at).total_seconds() == 1200
    sql(
        "UPDATE workflows_run SET created_at = created_at - interval '5 min' WHERE id = %s",
        second.pk,
    )

    end(first)

    begun = Run.objects.get(pk=second.pk)
    assert (begun.deadline_at - begun.started_at).total_seconds() == 600
    assert (begun.sla_at - begun.created_at).total_seconds() == 1200


def test_a_run_that_waits_for_a_place_can_be_late() -> None:
    workflow = limited(sla="20m")
    start(workflow)
    second = start(workflow)

    tick(now=in_future(1201))

    assert Run.objects.get(pk=second.pk).sla_breached_at is not None


def test_a_place_is_kept_while_a_run_is_paused_parked_or_being_cancelled() -> None:
    workflow = limited(on_failure="park")
    first, second = start(workflow), start(workflow)

    pause_run(run_id=first.pk, by=ANN)
    fill_after(run_id=first.pk)
    assert state(second) == "PENDING"

    resume_run(run_id=first.pk, by=ANN)
    fail(claimed(first, "only"))
    fill_after(run_id=first.pk)
    assert state(second) == "PENDING"

    discard_incident(incident_id=open_incidents(first)[0].pk, note="no", by=ANN)
    fill_after(run_id=first.pk)
    assert states(first, second) == ["FAILED", "RUNNING"]


def test_a_run_that_waits_for_a_place_is_cancelled_without_ever_beginning() -> None:
    workflow = limited()
    first, second, third = (start(workflow) for _ in range(3))

    cancel_run(run_id=second.pk, by=ANN)
    end(first)

    assert states(second, third) == ["CANCELLED", "RUNNING"]
    assert Run.objects.get(pk=second.pk).started_at is None


def test_a_run_that_waits_for_a_place_cannot_be_paused() -> None:
    workflow = limited()
    start(workflow)
    second = start(workflow)

    with pytest.raises(StateRefusedError, match="is PENDING and cannot be paused"):
        pause_run(run_id=second.pk, by=ANN)


def test_a_run_that_is_skipped_is_there_ended_at_once_and_says_why() -> None:
    workflow = limited(policy="skip")
    start(workflow)

    skipped = start(workflow)

    assert (skipped.state, skipped.reason) == ("CANCELLED", "skipped")
    stored = Run.objects.get(pk=skipped.pk)
    assert (stored.state, stored.reason, stored.started_at) == ("CANCELLED", "skipped", None)
    assert stored.error["code"] == "concurrency.skipped"
    assert "concurrency key 'a', 1 of 1 are under way" in stored.error["message"]
    assert journal(skipped) == [("", "PENDING", "CANCELLING"), ("", "CANCELLING", "CANCELLED")]


def test_a_run_that_replaces_begins_when_what_it_replaces_has_ended() -> None:
    workflow = limited(policy="replace")
    first = start(workflow)
    work = claimed(first, "only")

    second = start(workflow)
    assert states(first, second) == ["CANCELLING", "PENDING"]
    assert (second.state, second.reason) == ("PENDING", "replacing")
    fail(work, "cancelled")
    fill_after(run_id=first.pk)

    assert states(first, second) == ["CANCELLED", "RUNNING"]
    told = Run.objects.get(pk=first.pk)
    assert (told.reason, told.error["code"]) == ("replaced", "concurrency.replaced")
    assert str(second.pk) in told.error["message"]


def test_a_run_that_replaces_what_no_worker_holds_begins_at_once() -> None:
    workflow = limited(policy="replace")
    first = start(workflow)

    second = start(workflow)

    assert (state(first), second.state) == ("CANCELLED", "RUNNING")


def test_of_many_that_replace_each_other_the_newest_remains() -> None:
    workflow = limited(policy="replace", limit=2)

    runs = start_many(workflow, 5)

    assert states(*runs) == ["CANCELLED"] * 3 + ["RUNNING"] * 2


def test_the_same_idempotency_key_is_one_run_and_takes_one_place() -> None:
    workflow = limited()
    first = start(workflow, idempotency_key="k")

    again = start_run(workflow=workflow, input={"order": "a"}, idempotency_key="k", by=ANN)

    assert (again.created, again.run.pk) == (False, first.pk)
    assert Run.objects.filter(workflow=first.workflow).count() == 1


def test_a_place_kept_for_a_run_that_there_was_already_is_given_to_the_next() -> None:
    workflow = limited()
    end(start(workflow, idempotency_key="k"))

    orders = [Order(workflow, {"order": "a"}, idempotency_key=key) for key in ("k", None)]
    known, new = start_runs(orders=orders, by=ANN)

    assert isinstance(known, StartedRun)
    assert not known.created
    assert isinstance(new, StartedRun)
    assert state(new.run) == "RUNNING"


def test_an_input_that_gives_no_key_is_refused() -> None:
    workflow = limited()

    with pytest.raises(InputRefusedError, match="gives no concurrency key"):
        start_run(workflow=workflow, input={}, by=ANN)
    with pytest.raises(InputRefusedError, match="has 201 characters"):
        start(workflow, "x" * 201)


def test_a_failed_run_is_replayed_only_into_a_free_place() -> None:
    workflow = limited()
    first, second = start(workflow), start(workflow)
    fail(claimed(first, "only"))
    fill_after(run_id=first.pk)
    [incident] = open_incidents(first)

    with pytest.raises(StateRefusedError, match=str(second.pk)):
        replay_incident(incident_id=incident.pk, by=ANN)
    assert states(first, second) == ["FAILED", "RUNNING"]
    end(second)

    replay_incident(incident_id=incident.pk, by=ANN)
    assert state(first) == "RUNNING"


def test_a_failed_run_is_undone_only_in_a_free_place() -> None:
    few = {"key": KEY, "limit": 1}
    undo = task("pay", compensate={"uses": "log", "with": {"message": "pay back"}})
    workflow = a_version(undo, task("only"), concurrency=few).workflow.name
    first, second = start(workflow), start(workflow)
    finish(claimed(first, "pay"))
    fail(claimed(first, "only"))
    fill_after(run_id=first.pk)

    with pytest.raises(StateRefusedError, match=str(second.pk)):
        compensate_run(run_id=first.pk, by=ANN)
    cancel_run(run_id=second.pk, by=ANN)

    assert compensate_run(run_id=first.pk, by=ANN).state == "COMPENSATING"


def test_a_child_run_waits_for_a_place_and_one_that_is_skipped_fails_its_step() -> None:
    few = {name: limited(policy=name) for name in ("queue", "skip")}
    held = {name: start(workflow) for name, workflow in few.items()}
    parents = {
        name: a_run({"id": "child", "workflow": workflow, "with": {"order": "a"}})
        for name, workflow in few.items()
    }

    for parent in parents.values():
        attend(run_id=parent.pk)

    children = {name: Run.objects.get(parent=parent) for name, parent in parents.items()}
    assert {name: child.state for name, child in children.items()} == {
        "queue": "PENDING",
        "skip": "CANCELLED",
    }
    assert {name: state(parent) for name, parent in parents.items()} == {
        "queue": "RUNNING",
        "skip": "FAILED",
    }
    end(held["queue"])
    assert state(children["queue"]) == "RUNNING"


def test_many_who_start_at_once_never_hold_more_places_than_there_are() -> None:
    workflow = limited(limit=3)

    at_once(*(lambda: start(workflow) for _ in range(10)))

    counts = Run.objects.filter(workflow__name=workflow).values_list("state", flat=True)
    assert sorted(counts) == ["PENDING"] * 7 + ["RUNNING"] * 3


def test_many_who_end_and_start_at_once_leave_no_place_free_and_take_none_twice() -> None:
    workflow = limited(limit=2)
    runs = start_many(workflow, 6)

    at_once(
        lambda: end(runs[0]),
        lambda: end(runs[1]),
        lambda: start(workflow),
        lambda: start(workflow),
        lambda: cancel_run(run_id=runs[5].pk, by=ANN),
    )

    assert states(*runs) == ["COMPLETED"] * 2 + ["RUNNING"] * 2 + ["PENDING", "CANCELLED"]


def test_many_who_replay_at_once_never_hold_more_places_than_there_are() -> None:
    workflow = limited()
    runs = []
    for _ in range(4):
        runs.append(run := start(workflow))
        fail(claimed(run, "only"))
    incidents = [open_incidents(run)[0].pk for run in runs]

    def replay(incident: Any) -> bool:
        try:
            replay_incident(incident_id=incident, by=ANN)
        except StateRefusedError:
            return False
        return True

    replayed = at_once(*(lambda one=one: replay(one) for one in incidents))

    assert sorted(replayed) == [False, False, False, True]
    assert sorted(states(*runs)) == ["FAILED"] * 3 + ["RUNNING"]


def test_a_place_whose_news_was_lost_is_given_away_by_the_sweep() -> None:
    workflow = limited()
    first, second = start(workflow), start(workflow)
    finish(claimed(first, "only"))

    report = recover(now=in_future(11))

    assert state(second) == "RUNNING"
    assert [line for line in report.lines if "waited for a place" in line]


def test_a_starter_that_dies_before_it_has_made_way_leaves_that_to_the_sweep() -> None:
    workflow = limited(policy="replace")
    first = start(workflow)
    with seam() as cut:
        start(limited(policy="replace"))
        cut.cut(_call_of(cut.log, "COMMIT"), after=True)
        with pytest.raises(Crash):
            start(workflow)
    connection.close()
    second = Run.objects.exclude(pk=first.pk).get(workflow=first.workflow)
    assert states(first, second) == ["RUNNING", "PENDING"]

    recover(now=in_future(11))

    assert states(first, second) == ["CANCELLED", "RUNNING"]


def _call_of(log: list[str], said: str) -> int:
    return next(place for place, line in enumerate(log, 1) if line.startswith(said))


def test_the_sweep_leaves_those_alone_who_wait_for_places_that_are_taken() -> None:
    workflow = limited()
    runs = start_many(workflow, 3)

    assert recover(now=in_future(11)).lines == []
    assert states(*runs) == ["RUNNING", "PENDING", "PENDING"]


def test_nothing_is_left_over_when_all_have_had_their_turn() -> None:
    workflow = limited(limit=2)
    runs = start_many(workflow, 7)

    for run in runs:
        end(run)

    assert states(*runs) == ["COMPLETED"] * 7
    assert invariants.left_over(runs=[run.pk for run in runs]) == []
