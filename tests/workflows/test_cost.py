"""The cost of a step, counted: statements on the hot path, whatever else the run holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    a_version,
    any_claimed,
    claimed,
    fail,
    finish,
    state,
    task,
)
from workflows.engine.advance import requirement
from workflows.engine.events import CancelRequested, Replayed, Succeeded
from workflows.services.claiming import claim_abreast, claim_step, claim_steps
from workflows.services.orders import Order
from workflows.services.plans import pinned
from workflows.services.recording import record_outcomes
from workflows.services.runs import start_run, start_runs
from workflows.store import load

pytestmark = pytest.mark.usefixtures("committed")

QUICK = replace(TAKER, quick=lambda _: True, width=20)
"""A worker to which every step has proven quick."""


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent to the database from now on, through the store or past it."""
    said: list[str] = []
    execute = psycopg.Cursor.execute

    def counted(cursor: psycopg.Cursor, query: str, *values: object, **keys: object) -> object:
        said.append(str(query))
        return execute(cursor, query, *values, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    return said


@contextmanager
def counting(statements: list[str], expected: int) -> Iterator[None]:
    statements.clear()
    yield
    assert len(statements) == expected, statements


def test_what_a_start_needs_is_looked_up_by_one_statement_and_stored_by_one(
    statements: list[str],
) -> None:
    workflow = a_version(task("only")).workflow.name
    start_run(workflow=workflow, by=ANN)

    with counting(statements, 2):  # find, commit
        start_run(workflow=workflow, by=ANN)


def test_a_claim_is_one_statement_and_so_is_every_outcome_of_a_chain(
    statements: list[str],
) -> None:
    run = a_run(*(task(f"s{n}") for n in range(5)))
    plan = pinned(run.pk)

    with counting(statements, 1):
        work = claim_step(pin=plan, path="s0", attempt=1, taker=TAKER, now=timezone.now())
    for _ in range(5):
        assert work is not None
        with counting(statements, 1):
            work = finish(work, run_on=True)

    assert state(run) == "COMPLETED"


def cost_of_a_step(statements: list[str], width: int) -> int:
    """Return how many statements it takes to do one child of a fan-out, and to take the next."""
    run = a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(width)]})
    taker = replace(TAKER, fan="all")
    work = any_claimed(run, taker)
    assert work is not None
    statements.clear()
    finish(work, run_on=True, taker=taker)
    return len(statements)


def test_a_child_costs_the_same_in_a_wide_fan_out_as_in_a_narrow_one(
    statements: list[str],
) -> None:
    assert cost_of_a_step(statements, 300) == cost_of_a_step(statements, 10) <= 5


def test_the_start_of_a_run_costs_the_same_however_many_steps_begin(statements: list[str]) -> None:
    costs = set()
    for width in (10, 300):
        name = a_version(*(task(f"s{n}", needs=[]) for n in range(width))).workflow.name
        start_run(workflow=name, by=ANN)
        statements.clear()
        start_run(workflow=name, by=ANN)
        costs.add(len(statements))

    assert len(costs) == 1


def test_many_runs_cost_a_statement_each(statements: list[str]) -> None:
    name = a_version(task("only")).workflow.name
    statements.clear()

    start_runs(orders=[Order(name)] * 50, by=ANN)

    assert len(statements) <= 50 + 10


def test_quick_steps_of_many_runs_cost_one_statement_a_round(statements: list[str]) -> None:
    runs = [a_run(task("first"), task("second")) for _ in range(10)]
    fences = [(pinned(run.pk), "first") for run in runs]

    with counting(statements, 1):
        works = claim_steps(fences=fences, taker=TAKER, now=timezone.now())
    for _ in range(2):
        with counting(statements, 1):
            done = [(work, Succeeded(work.path, work.attempt, None)) for work in works]
            works = record_outcomes(done=done, taker=QUICK, run_on=True, now=timezone.now())

    assert {state(run) for run in runs} == {"COMPLETED"}


def test_quick_children_of_a_fan_out_cost_as_much_together_as_one_alone(
    statements: list[str],
) -> None:
    run = a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(16)]})
    pin, taker = pinned(run.pk), replace(QUICK, fan="all")

    with counting(statements, 4):  # BEGIN, find, claim, COMMIT
        works = claim_abreast(pin=pin, taker=taker, now=timezone.now())
    with counting(statements, 1):
        done = [(work, Succeeded(work.path, work.attempt, None)) for work in works]
        record_outcomes(done=done, taker=taker, run_on=True, now=timezone.now())

    assert len(done) == 16
    assert run.steps.filter(state="COMPLETED").count() == 16


def test_quick_steps_of_one_run_cost_as_much_together_as_one_alone(statements: list[str]) -> None:
    spread = [task(f"b{n}", needs=["first"]) for n in range(12)]
    knots = [task(f"c{n}", needs=[f"b{n}", f"b{n - 1}"]) for n in range(1, 12)]
    run = a_run(task("first"), *spread, *knots)
    works = claim_steps(fences=[(pinned(run.pk), "first")], taker=QUICK, now=timezone.now())

    for expected in (12, 11):
        done = [(work, Succeeded(work.path, work.attempt, None)) for work in works]
        with counting(statements, 1):
            works = record_outcomes(done=done, taker=QUICK, run_on=True, now=timezone.now())
        assert len(works) == expected


def test_quick_items_of_a_loop_cost_as_much_together_as_one_alone(statements: list[str]) -> None:
    loop = {"id": "each", "foreach": 40, "max_parallel": 10, "steps": [task("one")]}
    run = a_run(loop)
    taker = replace(QUICK, fan="each", settles=True)
    facts: dict[str, Any] = {"taker": taker, "now": timezone.now()}
    pin = pinned(run.pk)

    with counting(statements, 4):  # BEGIN, find, claim, COMMIT
        works = claim_abreast(pin=pin, **facts)
    for _ in range(3):
        with counting(statements, 5):  # BEGIN, load, the next items, commit, COMMIT
            done = [(work, Succeeded(work.path, work.attempt, None)) for work in works]
            works = record_outcomes(done=done, run_on=True, **facts)

    assert [work.path for work in works] == [f"each[{n}].one" for n in range(30, 40)]


@pytest.mark.parametrize("items", [12, 60])
def test_an_item_of_a_loop_costs_the_same_however_many_there_are(
    statements: list[str], items: int
) -> None:
    loop = {"id": "each", "foreach": f"${{{{ {items} }}}}", "max_parallel": 1}
    run = a_run({**loop, "steps": [task("one")]})
    work = claim_step(
        pin=pinned(run.pk), path="each[0].one", attempt=1, taker=TAKER, now=timezone.now()
    )

    for _ in range(items - 1):
        assert work is not None
        with counting(statements, 5):  # BEGIN, load, the next item, commit, COMMIT
            work = finish(work, run_on=True)

    assert work is not None
    finish(work)
    assert state(run) == "COMPLETED"


def test_a_cancel_reads_what_lives_and_not_what_is_done() -> None:
    loop = {"id": "each", "foreach": "${{ 30 }}", "max_parallel": 2, "steps": [task("one")]}
    run = a_run(loop)
    for number in range(20):
        finish(claimed(run, f"each[{number}].one"))

    plan = pinned(run.pk).plan
    with transaction.atomic():
        held = load(run.pk, plan, requirement(plan, CancelRequested()), actor=ANN)

    assert sorted(held.steps) == ["each", "each[20].one", "each[21].one"]


def test_a_replay_reads_no_items_that_ended_well_nor_what_is_inside_them() -> None:
    body = [task("one"), task("two")]
    run = a_run({"id": "each", "foreach": 3, "max_parallel": 3, "steps": body})
    for number in (0, 2):
        finish(claimed(run, f"each[{number}].one"))
        finish(claimed(run, f"each[{number}].two"))
    finish(claimed(run, "each[1].one"))
    fail(claimed(run, "each[1].two"))

    plan = pinned(run.pk).plan
    with transaction.atomic():
        held = load(run.pk, plan, requirement(plan, Replayed("each[1].two")), actor=ANN)

    assert sorted(held.steps) == ["each", "each[1]", "each[1].one", "each[1].two"]


def test_many_rows_that_move_at_once_are_matched_by_hashing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT proconfig FROM pg_proc WHERE prosrc LIKE '%rows_before was%'")
        settings = [set(row[0]) for row in cursor.fetchall()]

    assert settings
    assert all({"enable_hashjoin=on", "enable_nestloop=off"} <= each for each in settings)
