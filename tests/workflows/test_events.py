"""Events on PostgreSQL: received once, handed out to who waits, and starting runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from unittest import mock
from uuid import UUID

import psycopg
import pytest

from environments.services import move_environment
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    at_once,
    ends,
    in_future,
    journal,
    open_incidents,
    set_due,
    sql,
    states,
    step,
    task,
)
from workflows import store
from workflows.dispatch import Look
from workflows.models import EventEffect, ReceivedEvent, Run, Step, Wait
from workflows.services import events, recovery
from workflows.services.definitions import apply_definition
from workflows.services.errors import InputRefusedError, StateRefusedError
from workflows.services.events import hand_out, publish_event, publish_events, start_again
from workflows.services.incidents import replay_incident
from workflows.services.runs import cancel_run, start_run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _kept(request: pytest.FixtureRequest) -> None:
    """Have each test be one transaction, but for those that ask for real ones."""
    if "committed" not in request.fixturenames:
        request.getfixturevalue("kept")


def an_event(data: Any = None, *, type: str = "order.paid", id: str = "1", **more: Any) -> Any:  # noqa: A002
    return {"specversion": "1.0", "id": id, "source": "/shop", "type": type, "data": data, **more}


def publish(data: Any = None, **facts: Any) -> UUID:
    return publish_event(event=an_event(data, **facts), by=ANN).id


def handed_out() -> int:
    return hand_out(now=store.now())


def waiting(name: str = "paid", **keys: Any) -> dict[str, Any]:
    return {"id": name, "event": {"type": "order.paid", **keys}}


def for_order(**keys: Any) -> dict[str, Any]:
    return waiting(match="${{ event.data.order == input.order }}", **keys)


def a_run_for(order: Any, *steps: Any) -> Run:
    version = a_version(*(steps or (for_order(),)))
    return start_run(workflow=version.workflow.name, input={"order": order}, by=ANN).run


@contextmanager
def dying_when(name: str, number: int = 1) -> Iterator[None]:
    """Have whoever hands out die when it asks the store for something, at the call of a number."""
    calls = count(1)
    ask = getattr(store, name)

    def dies(*facts: Any, **named: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return ask(*facts, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, name, dies)
        yield


def dies_at_statement(number: int, work: Callable[[], Any]) -> bool:
    """Do the work and die before the statement of that number; False if there are not so many."""
    calls = count(1)
    execute = psycopg.Cursor.execute

    def dies(*facts: Any, **named: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return execute(*facts, **named)

    with pytest.MonkeyPatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(psycopg.Cursor, "execute", dies)
        work()
        return False
    return True


def stored(event: UUID) -> Any:
    return store.stored_event(event)


def did(event: UUID) -> list[tuple[str, str]]:
    found = EventEffect.objects.filter(event=event).order_by("id")
    return [(one.kind, one.path) for one in found]


def test_an_event_wakes_the_step_that_waits_for_it_and_its_data_is_the_output() -> None:
    run = a_run_for("A-1")

    event = publish({"order": "A-1", "sum": 12})
    handed_out()

    assert states(run) == {"paid": "COMPLETED"}
    assert step(run, "paid").output == {"order": "A-1", "sum": 12}
    assert did(event) == [("woke", "paid")]


def test_an_event_of_another_order_or_type_wakes_nobody() -> None:
    run = a_run_for("A-1")

    others = [publish({"order": "A-2"}), publish({"order": "A-1"}, type="order.sent", id="2")]
    handed_out()

    assert states(run) == {"paid": "WAITING"}
    assert [did(one) for one in others] == [[], []]


def test_the_same_event_twice_is_one_and_says_so() -> None:
    run = a_run_for("A-1")

    first = publish_event(event=an_event({"order": "A-1"}), by=ANN)
    handed_out()
    again = publish_event(event=an_event({"order": "A-1"}), by=ANN)
    handed_out()

    assert (first.created, again.created) == (True, False)
    assert first.id == again.id
    assert ReceivedEvent.objects.count() == 1
    assert [after for _, _, after in journal(run, "paid")].count("COMPLETED") == 1


def test_a_batch_is_refused_whole_for_what_is_wrong_with_one() -> None:
    wrong = {"specversion": "0.3", "source": "/shop", "type": "order.paid"}

    with pytest.raises(InputRefusedError) as refused:
        publish_events(events=[an_event(), wrong], by=ANN)

    assert [one["path"] for one in refused.value.findings] == ["[1].specversion", "[1].id"]
    assert not ReceivedEvent.objects.exists()


@pytest.mark.usefixtures("committed")
def test_who_waits_and_who_publishes_have_the_engine_look(sent: Recorder) -> None:
    a_run_for("A-1")
    assert sent.sent == [Look()]
    sent.forget()

    publish_events(events=[an_event(), an_event(id="2")], by=ANN)

    assert sent.sent == [Look()]


def test_one_event_wakes_every_run_that_it_is_for() -> None:
    runs = [a_run_for("A-1") for _ in range(5)]
    other = a_run_for("A-2")

    event = publish({"order": "A-1"})
    handed_out()

    assert [states(run)["paid"] for run in runs] == ["COMPLETED"] * 5
    assert states(other)["paid"] == "WAITING"
    assert len(did(event)) == 5


def test_steps_of_one_run_that_wait_at_the_same_time_are_all_woken() -> None:
    run = a_run(dict(waiting("left"), needs=[]), dict(waiting("right"), needs=[]))

    publish()
    handed_out()

    assert states(run) == {"left": "COMPLETED", "right": "COMPLETED"}


def test_an_event_that_came_before_the_step_began_to_wait_is_delivered() -> None:
    publish({"order": "A-1"})
    handed_out()

    run = a_run_for("A-1")
    handed_out()

    assert states(run) == {"paid": "COMPLETED"}


def test_an_event_that_came_too_early_is_not_delivered() -> None:
    publish({"order": "A-1"})
    sql("UPDATE workflows_receivedevent SET received_at = now() - interval '10 minutes'")

    late = a_run_for("A-1", for_order(since="5m"))
    early = a_run_for("A-1", for_order(since="15m"))
    handed_out()

    assert states(late) == {"paid": "WAITING"}
    assert states(early) == {"paid": "COMPLETED"}


def test_the_settings_say_how_early_an_event_may_be(settings: Any) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"EARLY_EVENT_SECONDS": 60}
    publish({"order": "A-1"})
    sql("UPDATE workflows_receivedevent SET received_at = now() - interval '2 minutes'")

    run = a_run_for("A-1")
    handed_out()

    assert states(run) == {"paid": "WAITING"}


def test_steps_that_wait_one_after_the_other_take_events_in_their_order_each_once() -> None:
    publish({"n": 1}, id="1")
    publish({"n": 2}, id="2")
    run = a_run(waiting("first"), waiting("second"), waiting("third"))

    for _ in range(3):
        handed_out()

    assert step(run, "first").output == {"n": 1}
    assert step(run, "second").output == {"n": 2}
    assert states(run)["third"] == "WAITING"


def test_an_event_that_came_before_is_taken_before_one_that_comes_now() -> None:
    publish({"n": 1}, id="1")
    handed_out()
    run = a_run(waiting("first"), waiting("second"))

    publish({"n": 2}, id="2")
    handed_out()
    handed_out()

    assert step(run, "first").output == {"n": 1}
    assert step(run, "second").output == {"n": 2}


def test_an_event_that_wakes_a_step_is_not_taken_again_by_the_step_that_follows() -> None:
    run = a_run(waiting("first"), waiting("second"))

    event = publish()
    handed_out()
    handed_out()

    assert states(run) == {"first": "COMPLETED", "second": "WAITING"}
    assert did(event) == [("woke", "first")]


def test_a_match_that_has_no_value_for_an_event_is_not_met() -> None:
    run = a_run(waiting(match="${{ event.data.sum > 10 }}"))

    publish({"other": 1}, id="1")
    publish({"sum": "much"}, id="2")
    publish({"sum": 11}, id="3")
    handed_out()

    assert step(run, "paid").output == {"sum": 11}


def test_a_match_reads_what_the_run_knew_when_the_step_began_to_wait() -> None:
    match = "${{ event.subject == vars.name && event.data.state == steps.ask.output.state }}"
    run = a_run(
        {"id": "call", "set": {"name": "Ann"}},
        {"id": "ask", "set": {"state": "paid"}},
        waiting(match=match),
    )

    publish({"state": "open"}, id="1", subject="Ann")
    publish({"state": "paid"}, id="2", subject="Ann")
    handed_out()

    assert step(run, "paid").output == {"state": "paid"}


def test_a_match_that_can_never_be_met_fails_the_step_at_once() -> None:
    run = a_run(for_order())

    assert states(run) == {"paid": "FAILED"}
    assert "input has no order" in step(run, "paid").error["message"]


def test_an_event_looks_up_those_that_wait_for_its_key() -> None:
    for number in range(30):
        a_run_for(number)
    event = publish({"order": 7})

    [key] = store.fields_waited_for("order.paid")
    found = events._keys(stored(event), [key])
    page = store.page_of_waiting("order.paid", keys=found, after=store.events.NOBODY, limit=50)

    assert key.startswith('["data","order"]')
    assert [one.request["known"] for one in page] == [{"input": {"order": 7}}]
    handed_out()
    assert len(did(event)) == 1


def test_the_fields_that_steps_wait_by_are_found_each_once() -> None:
    for number in range(3):
        a_run_for(number)
        a_run_for(number, waiting(match="${{ input.order == event.data.other.id }}"))
        a_run_for(number, waiting(match="${{ event.subject == 'x' }}"))
        a_run_for(number, waiting())

    fields = [key.partition("\x1f")[0] for key in store.fields_waited_for("order.paid")]

    assert fields == ['["data","order"]', '["data","other","id"]', '["subject"]']


def test_thousands_are_handed_out_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 3)
    runs = [a_run(waiting(match="${{ event.data.n > 0 }}")) for _ in range(10)]

    publish({"n": 1})
    handed_out()

    assert [states(run)["paid"] for run in runs] == ["COMPLETED"] * 10


def test_a_crash_between_two_pages_is_continued_behind_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = [a_run(waiting()) for _ in range(7)]
    sql("UPDATE workflows_wait SET sought_at = now()")
    event = publish()
    monkeypatch.setattr(events, "PAGE", 3)

    with dying_when("note_woken", 5), pytest.raises(KeyboardInterrupt):
        handed_out()
    after_the_first_page = ReceivedEvent.objects.get().handed_to
    recovery.recover(now=in_future(60))

    assert after_the_first_page == Wait.objects.order_by("id")[2].pk
    assert [states(run)["paid"] for run in runs] == ["COMPLETED"] * 7
    assert len(did(event)) == 7


def test_a_step_whose_time_is_up_fails_and_an_event_that_comes_then_changes_nothing() -> None:
    run = a_run(waiting(timeout="1m"))
    set_due(run, "paid")

    recovery.recover(now=store.now())
    event = publish()
    handed_out()

    assert step(run, "paid").error["code"] == "event.timeout"
    assert did(event) == []


def test_a_cancelled_run_waits_for_no_event_any_more() -> None:
    run = a_run(waiting())
    cancel_run(run_id=run.pk, by=ANN)

    event = publish()
    handed_out()

    assert states(run) == {"paid": "CANCELLED"}
    assert did(event) == []
    assert not Wait.objects.filter(closed_at=None).exists()


def test_the_journal_and_the_wait_say_which_event_it_was() -> None:
    run = a_run(waiting())

    event = publish()
    handed_out()

    assert run.journal.get(path="paid", after="COMPLETED").actor == f"event:{event}"
    assert Wait.objects.get(run=run).answer == {"event": str(event), "id": "1", "source": "/shop"}


ORDERS = {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}}


def a_started_workflow(*triggers: Any, **document: Any) -> str:
    found = [{"event": {"type": "order.paid", **one}} for one in triggers or ({},)]
    version = a_version(task("ship"), triggers=found, input=ORDERS, **document)
    return version.workflow.name


def runs_of(workflow: str) -> list[Run]:
    return list(Run.objects.filter(workflow__name=workflow).order_by("id"))


def test_an_event_starts_a_run_with_its_data_as_the_input() -> None:
    workflow = a_started_workflow()

    event = publish({"order": "A-1"})
    handed_out()

    [run] = runs_of(workflow)
    assert (run.input, run.started_by) == ({"order": "A-1"}, f"event:{event}")
    assert did(event) == [("started", "")]


def test_a_trigger_makes_the_input_of_the_event_and_takes_those_that_match() -> None:
    match = "${{ event.data.country == 'DE' }}"
    workflow = a_started_workflow({"match": match, "input": {"order": "${{ event.subject }}"}})

    publish({"country": "FR"}, id="1", subject="A-1")
    publish({"country": "DE"}, id="2", subject="A-2")
    handed_out()
    handed_out()

    assert [run.input for run in runs_of(workflow)] == [{"order": "A-2"}]


def test_one_event_starts_runs_of_many_workflows_one_of_each() -> None:
    workflows = [a_started_workflow({}, {}) for _ in range(3)]

    event = publish({"order": "A-1"})
    handed_out()

    assert [len(runs_of(workflow)) for workflow in workflows] == [1, 1, 1]
    assert did(event) == [("started", "")] * 3


def test_a_run_that_was_started_before_the_crash_is_not_started_again() -> None:
    workflow = a_started_workflow()
    event = publish({"order": "A-1"})

    with dying_when("note_start"), pytest.raises(KeyboardInterrupt):
        handed_out()
    recovery.recover(now=in_future(60))

    assert len(runs_of(workflow)) == 1
    assert did(event) == [("started", "")]


def test_an_event_that_is_forgotten_and_sent_again_starts_no_second_run() -> None:
    workflow = a_started_workflow()
    publish({"order": "A-1"})
    handed_out()
    sql("DELETE FROM workflows_eventeffect")
    sql("DELETE FROM workflows_receivedevent")

    again = publish({"order": "A-1"})
    handed_out()

    assert len(runs_of(workflow)) == 1
    assert did(again) == [("started", "")]


def test_the_newest_version_says_what_starts_a_run() -> None:
    version = a_version(task("ship"), triggers=[{"event": {"type": "order.paid"}}])
    text = {"workflow": version.workflow.name, "steps": [task("ship")]}
    apply_definition(text=json.dumps(text), source="test.yaml", by=ANN)

    publish({"order": "A-1"})
    handed_out()

    assert runs_of(version.workflow.name) == []


def test_a_run_does_not_take_the_event_that_started_it() -> None:
    triggers = [{"event": {"type": "order.paid"}}]
    name = a_version(waiting(), triggers=triggers).workflow.name

    publish({"n": 1}, id="1")
    handed_out()
    handed_out()

    [run] = runs_of(name)
    assert states(run) == {"paid": "WAITING"}


def test_an_input_that_does_not_fit_is_a_refused_start_with_the_reason() -> None:
    workflow = a_started_workflow()

    event = publish({"order": 7})
    handed_out()

    [effect] = EventEffect.objects.filter(event=event)
    assert (effect.kind, effect.run_id) == ("refused", None)
    assert "order" in effect.reason
    assert runs_of(workflow) == []


def test_an_event_without_an_object_is_a_refused_start() -> None:
    a_started_workflow()

    event = publish("A-1")
    handed_out()

    assert "Give the trigger an input" in EventEffect.objects.get(event=event).reason


def test_what_a_closed_environment_refused_is_started_again_when_it_is_open() -> None:
    workflow = a_started_workflow()
    move_environment(name="default", state="DRAINING", by=ANN)
    event = publish({"order": "A-1"})
    handed_out()
    [refused] = EventEffect.objects.filter(event=event)

    move_environment(name="default", state="ACTIVE", by=ANN)
    report = start_again(event_id=event, by=ANN)

    [run] = runs_of(workflow)
    assert "DRAINING" in refused.reason
    assert report.sentence() == "Start: 1 done."
    assert EventEffect.objects.get(event=event).run_id == run.pk
    assert run.started_by == ANN


def test_starting_again_says_why_it_is_still_refused() -> None:
    a_started_workflow()
    event = publish({"order": 7})
    handed_out()

    report = start_again(event_id=event, by=ANN)

    assert report.done == ()
    assert "order" in report.refused[0].why


def test_an_event_of_which_nothing_was_refused_cannot_be_started_again() -> None:
    event = publish()
    handed_out()

    with pytest.raises(StateRefusedError, match="No start by the event"):
        start_again(event_id=event, by=ANN)


@pytest.mark.usefixtures("committed")
def test_two_who_hand_out_at_once_wake_and_start_once() -> None:
    workflow = a_started_workflow()
    runs = [a_run_for("A-1") for _ in range(4)]
    event = publish({"order": "A-1"})

    at_once(handed_out, handed_out, handed_out)

    assert [states(run)["paid"] for run in runs] == ["COMPLETED"] * 4
    assert len(runs_of(workflow)) == 1
    assert sorted(did(event)) == [("started", ""), *[("woke", "paid")] * 4]


@pytest.mark.usefixtures("committed")
def test_an_event_and_a_step_that_come_at_the_same_time_find_each_other() -> None:
    name = a_version(for_order()).workflow.name

    for number in range(5):
        order = {"order": number}
        at_once(
            lambda order=order: start_run(workflow=name, input=order, by=ANN),
            lambda order=order, n=number: publish(order, id=str(n)),
            handed_out,
        )
    handed_out()

    assert set(Step.objects.values_list("state", flat=True)) == {"COMPLETED"}
    assert EventEffect.objects.count() == 5


@pytest.mark.usefixtures("committed")
def test_an_event_that_the_broker_hears_nothing_of_is_handed_out_by_the_sweep(
    sent: Recorder,
) -> None:
    run = a_run_for("A-1")
    sent.down = True

    published = publish({"order": "A-1"})
    is_due = store.any_due(now=store.now())
    is_late = store.is_overdue(in_future(6))
    recovery.recover(now=store.now())

    assert is_due
    assert is_late
    assert states(run) == {"paid": "COMPLETED"}
    assert did(published) == [("woke", "paid")]
    assert not store.any_due(now=store.now())


@pytest.mark.usefixtures("committed")
def test_whoever_hands_out_may_die_at_any_statement_and_all_is_done_once() -> None:
    workflow = a_started_workflow()
    died = True

    for number in count(1):
        if not died:
            break
        run = a_run_for(f"A-{number}")
        event = publish({"order": f"A-{number}"}, id=str(number))
        died = dies_at_statement(number, handed_out)
        recovery.recover(now=in_future(60))
        recovery.recover(now=in_future(120))

        assert states(run) == {"paid": "COMPLETED"}, number
        assert sorted(did(event)) == [("started", ""), ("woke", "paid")], number
        assert len(runs_of(workflow)) == number
    assert number > 10


def test_early_events_are_looked_for_after_a_crash_of_who_opened_the_wait() -> None:
    publish({"order": "A-1"})
    handed_out()
    run = a_run_for("A-1")

    is_due = store.any_due(now=store.now())
    with dying_when("note_woken"), pytest.raises(KeyboardInterrupt):
        handed_out()
    recovery.recover(now=store.now())

    assert is_due
    assert states(run) == {"paid": "COMPLETED"}


def test_items_of_a_loop_each_wait_for_their_own_event() -> None:
    match = "${{ event.data.sku == item }}"
    loop = {"id": "each", "foreach": ["a", "b"], "steps": [waiting("packed", match=match)]}
    run = a_run(loop)

    publish({"sku": "b"}, id="1")
    handed_out()

    found = states(run)
    assert (found["each[0].packed"], found["each[1].packed"]) == ("WAITING", "COMPLETED")


def test_rounds_of_a_loop_take_events_one_after_the_other() -> None:
    loop = {
        "id": "again",
        "repeat": {"until": "${{ steps.paid.output.last }}", "max_times": 9},
        "steps": [waiting()],
    }
    run = a_run(loop)

    for number in range(3):
        publish({"n": number, "last": number == 2}, id=str(number))
    for _ in range(3):
        handed_out()

    outputs = [step(run, f"again[{n}].paid").output["n"] for n in range(3)]
    assert outputs == [0, 1, 2]
    assert Run.objects.get(pk=run.pk).state == "COMPLETED"


def test_an_event_that_cannot_be_told_to_one_run_is_told_to_the_others_and_to_it_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = [a_run(waiting()) for _ in range(3)]
    sql("UPDATE workflows_wait SET sought_at = now()")
    advance = events.advance_run

    def breaks(pin: Any, *facts: Any, **named: Any) -> Any:
        if pin.run == runs[1].pk:
            raise RuntimeError
        return advance(pin, *facts, **named)

    monkeypatch.setattr(events, "advance_run", breaks)
    publish()
    handed_out()

    broken = [states(run)["paid"] for run in runs]
    monkeypatch.undo()
    handed_out()

    assert broken == ["COMPLETED", "WAITING", "COMPLETED"]
    assert [states(run)["paid"] for run in runs] == ["COMPLETED"] * 3


def test_a_start_that_breaks_is_refused_and_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workflow = a_started_workflow()
    event = publish({"order": "A-1"})

    monkeypatch.setattr(events, "start_run", lambda **_: 1 / 0)
    handed_out()
    [refused] = EventEffect.objects.filter(event=event)
    monkeypatch.undo()
    start_again(event_id=event, by=ANN)

    assert "ZeroDivisionError" in refused.reason
    assert len(runs_of(workflow)) == 1


def test_a_start_that_fails_because_the_disk_is_full_is_made_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workflow = a_started_workflow()
    event = publish({"order": "A-1"})

    monkeypatch.setattr(events, "start_run", mock.Mock(side_effect=psycopg.errors.DiskFull))
    with pytest.raises(psycopg.errors.DiskFull):
        handed_out()
    monkeypatch.undo()
    hand_out(now=in_future(31))

    assert did(event) == [("started", "")]
    assert len(runs_of(workflow)) == 1


def test_a_replayed_step_waits_anew_and_takes_the_next_event() -> None:
    run = a_run({**waiting(), "output": "${{ steps.paid.output.sum }}"})
    publish({}, id="1")
    handed_out()
    [incident] = open_incidents(run)

    replay_incident(incident_id=incident.pk, by=ANN)
    publish({"sum": 12}, id="2")
    handed_out()

    assert step(run, "paid").output == 12
    assert [number for number, _ in ends(run, "paid")] == [1, 2]


@pytest.mark.usefixtures("committed")
def test_an_event_that_is_published_by_many_at_once_is_one() -> None:
    def publishes() -> bool:
        return publish_event(event=an_event(), by=ANN).created

    created = at_once(publishes, publishes, publishes)

    assert sorted(created) == [False, False, True]
    assert ReceivedEvent.objects.count() == 1
