"""The cost of a step, counted: statements on the hot path, whatever else the run holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from django.utils import timezone

from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    a_version,
    any_claimed,
    finish,
    state,
    task,
)
from workflows.services.plans import pinned
from workflows.services.runs import Order, start_run, start_runs
from workflows.services.steps import claim_step

pytestmark = pytest.mark.usefixtures("committed")


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


def test_many_runs_cost_two_statements_each(statements: list[str]) -> None:
    name = a_version(task("only")).workflow.name
    statements.clear()

    start_runs(orders=[Order(name)] * 50, by=ANN)

    assert len(statements) <= 50 * 2 + 10
