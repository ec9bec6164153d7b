"""An outage is outlasted: what is to be said to the database is said until it has been heard."""

from random import Random

import psycopg
import pytest
from django.db import connection

from workers import outage
from workers.canaries import came
from workers.models import CanaryMark
from workers.outage import LONGEST_PAUSE, outlast, pause_after


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, in no time."""
    made: list[float] = []
    monkeypatch.setattr(outage.time, "sleep", made.append)
    return made


def test_a_call_is_repeated_until_the_database_answers_and_knows_it(pauses: list[float]) -> None:
    heard: list[bool] = []

    def call(again: bool) -> str:
        heard.append(again)
        if len(heard) < 5:
            raise psycopg.OperationalError("away")
        return "recorded"

    assert outlast(call) == "recorded"
    assert heard == [False, True, True, True, True]
    assert len(pauses) == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(30)
@pytest.mark.usefixtures("pauses")
def test_a_connection_that_is_known_to_be_lost_is_tried_once() -> None:
    connection.ensure_connection()
    connection.connection.close()

    outlast(lambda _: came("env.lab.default"))

    assert CanaryMark.objects.get().queue == "env.lab.default"


def test_what_the_database_refuses_is_said_once(pauses: list[float]) -> None:
    def refused(_: bool) -> None:
        raise psycopg.errors.CheckViolation("no")

    with pytest.raises(psycopg.errors.CheckViolation):
        outlast(refused)

    assert not pauses


def test_an_error_of_another_kind_is_not_outlasted(pauses: list[float]) -> None:
    def broken(_: bool) -> None:
        raise LookupError("there is no run")

    with pytest.raises(LookupError):
        outlast(broken)

    assert not pauses


def test_the_end_of_the_process_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def told_to_stop(_: float) -> None:
        raise SystemExit(1)

    def away(_: bool) -> None:
        raise psycopg.OperationalError("away")

    monkeypatch.setattr(outage.time, "sleep", told_to_stop)

    with pytest.raises(SystemExit):
        outlast(away)


def test_pauses_grow_to_a_second_and_differ() -> None:
    chance = Random(7)  # noqa: S311 - it must repeat, not keep a secret

    made = [pause_after(tries, chance) for tries in range(100)]

    assert made[0] <= 0.05
    assert max(made) <= LONGEST_PAUSE
    assert min(made[10:]) >= LONGEST_PAUSE / 2
    assert len(set(made)) == 100
