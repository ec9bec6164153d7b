"""Listening for events: what a waiting step asks, and which event is it."""

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.builders import Play, plan_from, task
from workflows.engine.events import Answered, Started
from workflows.engine.listening import content, is_it, named
from workflows.engine.simulate import EPOCH, simulate
from workflows.engine.states import Reason, StepState
from workflows.engine.stubs import Result

EVENT = {"id": "1", "source": "/shop", "type": "order.paid", "data": {"order": "A-1", "sum": 12}}
OF_ORDER = "${{ event.data.order == input.order }}"


def paid(match: Any = None, **keys: Any) -> dict[str, Any]:
    """Return a step that waits for the payment of an order."""
    return {"id": "paid", "event": {"type": "order.paid", "match": match, **keys}}


def asked(run: Play, path: str = "paid") -> Any:
    """Return what a step asks of events."""
    return run.waits[path, 1].request


def begun(*steps: Any, **given: Any) -> Play:
    """Begin a run with an input."""
    plan = plan_from(*steps)
    return Play(plan, given, EPOCH).hear(Started())


def test_a_step_waits_for_events_of_its_type_and_asks_what_its_match_needs_to_know() -> None:
    run = begun(paid(OF_ORDER), order="A-1", other="not asked for")

    awaited = run.waits["paid", 1]

    assert (run.step("paid").reason, awaited.kind) == (Reason.EVENT, Reason.EVENT)
    assert awaited.name == "order.paid"
    assert awaited.request["known"] == {"input": {"order": "A-1"}}


def test_an_event_is_looked_up_by_what_its_field_must_equal() -> None:
    run = begun(paid(OF_ORDER), order="A-1")

    assert asked(run)["key"] == '["data","order"]\x1f"A-1"'


def test_a_match_without_an_equality_has_no_key() -> None:
    run = begun(paid("${{ event.data.sum > input.least }}"), least=10)

    assert "key" not in asked(run)
    assert is_it(asked(run), named(EVENT))


def test_an_event_yields_its_data() -> None:
    run = begun(paid(), task("after", **{"with": {"message": "${{ steps.paid.output.sum }}"}}))

    run.hear(Answered("paid", Reason.EVENT, content(EVENT)))

    assert run.rows["paid"].output == {"order": "A-1", "sum": 12}
    assert run.step("after").state is StepState.QUEUED


def test_what_changes_in_a_run_while_it_waits_changes_nothing() -> None:
    steps = {"id": "now", "set": {"order": "A-1"}}, paid("${{ event.data.order == vars.order }}")
    run = begun(*steps, {"id": "then", "set": {"order": "A-2"}, "needs": ["now"]})

    assert run.variables == {"order": "A-2"}
    assert is_it(asked(run), named(EVENT))


def test_a_match_that_reads_what_is_not_there_fails_the_step() -> None:
    run = begun(paid(OF_ORDER))

    view = run.step("paid")

    assert (view.state, view.error.code if view.error else "") == ("FAILED", "expression.error")


def test_a_match_that_asks_first_whether_it_is_there_waits() -> None:
    run = begun(paid("${{ has(input.order) && event.data.order == input.order }}"))

    assert run.step("paid").state is StepState.WAITING
    assert not is_it(asked(run), named(EVENT))


def test_an_event_that_does_not_come_in_time_fails_the_step() -> None:
    plan = plan_from({"id": "paid", "event": {"type": "order.paid", "timeout": "1d"}})

    run = simulate(plan, outside=lambda _: None)

    assert run.error is not None
    assert run.error.code == "event.timeout"
    assert run.finished_at == EPOCH + timedelta(days=1)


def test_a_dry_run_is_told_which_event_comes_and_when() -> None:
    plan = plan_from(paid(OF_ORDER))

    run = simulate(
        plan,
        input={"order": "A-1"},
        outside=lambda one: (
            Result(content(EVENT), seconds=60) if is_it(one.request, named(EVENT)) else None
        ),
    )

    assert run.rows["paid"].output == {"order": "A-1", "sum": 12}
    assert run.finished_at == EPOCH + timedelta(seconds=60)


@pytest.mark.parametrize(
    ("match", "event", "expected"),
    [
        (None, {}, True),
        (True, {}, True),
        (False, {}, False),
        ("${{ event.subject == null }}", {}, True),
        ("${{ event.subject == 'x' }}", {"subject": "x"}, True),
        ("${{ event.data.n == 1 }}", {"data": {"n": 1}}, True),
        ("${{ event.data.n == 1 }}", {"data": {}}, False),
        ("${{ event.data.n == 1 }}", {"data": "text"}, False),
        ("${{ event.data.n }}", {"data": {"n": 1}}, False),
        ("${{ event.partition == 7 }}", {"partition": 7}, True),
    ],
)
def test_which_event_is_it(match: Any, event: Any, expected: bool) -> None:
    assert is_it({"match": match}, named(event)) is expected


def test_what_is_not_text_is_handed_on_in_base64() -> None:
    assert content({"data_base64": "eA=="}) == "eA=="
    assert content({}) is None
