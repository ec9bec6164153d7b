"""Which errors are worth another try, by their states; and what a commit that fails leaves."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from django.db import InterfaceError, OperationalError, connection

from tests.support.proxy import proxied_database
from tests.workflows.builders import a_run, claimed, ends, everything, finish, sql, states, task
from workflows import store
from workflows.store import Cure
from workflows.store.trouble import Outage

pytestmark = pytest.mark.usefixtures("committed")

LATER = ["53100", "53200", "53300", "57P01", "57P02", "57P03", "08006", "25006", "58030"]
AT_ONCE = ["40001", "40P01", "55P03", "57014"]
NEVER = ["23514", "23505", "22P05", "42P01", "XX000", "54001"]


def raised(state: str) -> Exception:
    """Have the server raise an error of that state."""
    with pytest.raises(psycopg.Error) as caught:
        store.cursor().execute(f"DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE='{state}'; END $$")
    return caught.value


@contextmanager
def a_commit_that_fails(state: str, times: int) -> Iterator[None]:
    """Have so many commits that end an attempt fail with an error of that state."""
    sql(
        f"""
        CREATE SEQUENCE commits;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('commits') <= {times} THEN RAISE 'so' USING ERRCODE = '{state}'; END IF;
            RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON workflows_attempt
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail();
        """
    )
    try:
        yield
    finally:
        sql("DROP FUNCTION fail CASCADE; DROP SEQUENCE commits")


@pytest.mark.parametrize("state", LATER)
def test_what_time_may_heal_is_tried_again_later(state: str) -> None:
    assert store.cure_of(raised(state)) is Cure.LATER


@pytest.mark.parametrize("state", AT_ONCE)
def test_what_stood_in_anothers_way_is_tried_again_at_once(state: str) -> None:
    assert store.cure_of(raised(state)) is Cure.AT_ONCE


@pytest.mark.parametrize("state", NEVER)
def test_what_will_never_be_accepted_is_not_tried_again(state: str) -> None:
    assert store.cure_of(raised(state)) is None


def test_a_server_that_takes_no_connection_may_take_one_later() -> None:
    with proxied_database() as network:
        network.refuse()
        with pytest.raises(OperationalError) as refused:
            store.session()

    assert store.cure_of(refused.value) is Cure.LATER


def test_a_closed_connection_is_an_outage_and_a_misused_one_is_not() -> None:
    misused = InterfaceError("cursor already closed")

    assert store.cure_of(misused) is None
    connection.close()
    assert store.cure_of(misused) is Cure.LATER


@pytest.mark.parametrize("state", ["53100", "40001"])
def test_a_commit_that_failed_is_made_again_whole(state: str) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")

    with a_commit_that_fails(state, times=2):
        following = finish(work, run_on=True)

    assert following is not None
    assert ends(run, "first") == [(1, "completed")]
    assert states(run) == {"first": "COMPLETED", "second": "RUNNING"}


def test_a_disk_that_stays_full_leaves_nothing_half_done() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    before = everything(run)

    with a_commit_that_fails("53100", times=1000), pytest.raises(psycopg.errors.DiskFull):
        finish(work, run_on=True)

    assert everything(run) == before
    finish(work)
    assert ends(run, "first") == [(1, "completed")]


def test_what_a_constraint_refuses_is_tried_once() -> None:
    run = a_run(task("first"))
    work = claimed(run, "first")

    with a_commit_that_fails("23514", times=1000):
        with pytest.raises(psycopg.errors.CheckViolation):
            finish(work)
        with connection.cursor() as cursor:
            cursor.execute("SELECT last_value FROM commits")
            assert cursor.fetchone() == (1,)


def test_an_outage_is_two_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()

    for _ in range(100):
        outage.note(OperationalError("connection refused\nIs the server running?"))
    outage.over()
    outage.over()

    said = [record.msg["event"] for record in caplog.records]
    assert said == ["database.away", "database.back"]
    assert caplog.records[0].msg["error"] == "connection refused"
