"""Exactly one run per reason, started whole or not at all."""

import pytest
from django.db import transaction

from environments.services import create_environment, move_environment
from tests.support.publisher import Recorder
from tests.workflows.builders import ANN, a_version, at_once, states, step, task
from workflows.models import Run, Step
from workflows.services.errors import (
    EnvironmentClosedError,
    IdempotencyMismatchError,
    InputRefusedError,
    NotFoundError,
)
from workflows.services.orders import Order
from workflows.services.runs import start_run, start_runs

pytestmark = pytest.mark.usefixtures("committed")

SIZE = {"type": "object", "properties": {"size": {"type": "integer", "default": 1}}}


def a_workflow() -> str:
    return a_version(task("only"), input=SIZE).workflow.name


def test_the_same_key_twice_is_one_run() -> None:
    name = a_workflow()

    first = start_run(workflow=name, idempotency_key="monday", by=ANN)
    second = start_run(workflow=name, idempotency_key="monday", by="person:ben")

    assert (first.created, second.created) == (True, False)
    assert first.run.pk == second.run.pk
    assert Run.objects.get().started_by == ANN


def test_the_same_key_from_many_sides_at_once_is_one_run_and_one_message(sent: Recorder) -> None:
    name = a_workflow()

    started = at_once(
        *(lambda: start_run(workflow=name, idempotency_key="monday", by=ANN) for _ in range(6))
    )

    assert sorted(one.created for one in started) == [False] * 5 + [True]
    assert len({one.run.pk for one in started}) == 1
    assert len(sent.sent) == 1


def test_one_key_is_one_run_of_each_workflow() -> None:
    names = a_workflow(), a_workflow()

    runs = {start_run(workflow=name, idempotency_key="monday", by=ANN).run.pk for name in names}

    assert len(runs) == 2


def test_a_key_that_was_used_with_another_input_is_refused_with_the_run_it_named() -> None:
    name = a_workflow()
    run = start_run(workflow=name, input={"size": 1}, idempotency_key="monday", by=ANN).run

    with pytest.raises(IdempotencyMismatchError, match=str(run.pk)):
        start_run(workflow=name, input={"size": 2}, idempotency_key="monday", by=ANN)

    assert Run.objects.count() == 1


def test_a_default_that_was_given_outright_is_the_same_input() -> None:
    name = a_workflow()

    first = start_run(workflow=name, idempotency_key="monday", by=ANN)
    second = start_run(workflow=name, input={"size": 1}, idempotency_key="monday", by=ANN)

    assert first.run.pk == second.run.pk


def test_the_same_key_within_one_call_is_one_run() -> None:
    order = Order(a_workflow(), idempotency_key="monday")

    first, second, third = start_runs(orders=[order, order, order], by=ANN)

    assert (first.created, second.created, third.created) == (True, False, False)
    assert first.run.pk == second.run.pk == third.run.pk
    assert set(Step.objects.order_by().values_list("run_id", flat=True)) == {first.run.pk}


def test_among_many_a_key_that_was_used_for_another_input_is_answered_by_itself() -> None:
    name = a_workflow()
    run = start_run(workflow=name, input={"size": 1}, idempotency_key="monday", by=ANN).run
    keys = ["sunday", "monday", "tuesday", "tuesday"]
    orders = [Order(name, {"size": n}, idempotency_key=key) for n, key in enumerate(keys, start=5)]

    sunday, monday, tuesday, another = start_runs(orders=orders, by=ANN)

    assert (sunday.created, tuesday.created) == (True, True)
    assert (monday.order, another.order) == (orders[1], orders[3])
    assert str(run.pk) in str(monday.error)
    assert Run.objects.count() == 3


def test_two_callers_with_the_same_keys_in_opposite_order_both_get_their_runs() -> None:
    name = a_workflow()
    orders = [Order(name, idempotency_key=f"day-{n}") for n in range(20)]

    there, back = at_once(
        lambda: start_runs(orders=orders, by=ANN),
        lambda: start_runs(orders=orders[::-1], by=ANN),
    )

    assert [one.run.pk for one in there] == [one.run.pk for one in back[::-1]]
    assert Run.objects.count() == 20


def test_many_runs_start_with_the_steps_of_each_queued(sent: Recorder) -> None:
    name = a_workflow()

    started = start_runs(orders=[Order(name)] * 250, by=ANN)

    assert Run.objects.filter(state="RUNNING", steps__state="QUEUED").count() == 250
    assert len({one.run.pk for one in started}) == len(sent.sent) == 250


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"workflow": "nowhere"}, NotFoundError),
        ({"version": 9}, NotFoundError),
        ({"environment": "nowhere"}, NotFoundError),
        ({"environment": "closed"}, EnvironmentClosedError),
        ({"idempotency_key": "k" * 201}, InputRefusedError),
        ({"idempotency_key": "a\x00b"}, InputRefusedError),
        ({"input": {"size": "large"}}, InputRefusedError),
        ({"input": {"size": 1, "note": "a\x00b"}}, InputRefusedError),
        ({"input": {"size": 1, "note": float("nan")}}, InputRefusedError),
        ({"input": {"size": 1, "note": "\ud800"}}, InputRefusedError),
        ({"input": {"size": 1, "note": "x" * 300_000}}, InputRefusedError),
    ],
)
def test_when_one_order_is_refused_no_run_is_started(
    sent: Recorder, order: dict[str, object], error: type[Exception]
) -> None:
    name = a_workflow()
    create_environment(name="closed", by=ANN)
    move_environment(name="closed", state="ACTIVE", by=ANN)
    move_environment(name="closed", state="DRAINING", by=ANN)
    bad = Order(**{"workflow": name, **order})  # type: ignore[arg-type]

    with pytest.raises(error):
        start_runs(orders=[Order(name), bad], by=ANN)

    assert not Run.objects.exists()
    assert not sent.sent


def test_a_start_inside_a_transaction_that_is_undone_leaves_nothing(sent: Recorder) -> None:
    name = a_workflow()

    with transaction.atomic():
        start_run(workflow=name, by=ANN)
        transaction.set_rollback(True)

    assert not Run.objects.exists()
    assert not sent.sent


def test_a_key_whose_first_run_was_undone_starts_the_run() -> None:
    name = a_workflow()
    with transaction.atomic():
        start_run(workflow=name, idempotency_key="monday", by=ANN)
        transaction.set_rollback(True)

    assert start_run(workflow=name, idempotency_key="monday", by=ANN).created


def test_a_run_that_has_started_is_pinned_to_its_version() -> None:
    version = a_version(task("only"))
    run = start_run(workflow=version.workflow.name, by=ANN).run
    newer = a_version(task("only"), task("more"), workflow=version.workflow.name)

    other = start_run(workflow=version.workflow.name, by=ANN).run

    assert (run.version_id, other.version_id) == (version.pk, newer.pk)
    assert states(run) == {"only": "QUEUED"}
    assert step(run, "only").attempt == 1
