from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.selectors.builders import KEYS_OF_A_RUN, a_run, an_environment, an_incident
from workflows.models import Run
from workflows.selectors.errors import AmbiguousError, CursorError, MissingError
from workflows.selectors.runs import (
    RunFilter,
    find_run,
    get_run,
    list_runs,
    run_document,
)
from workflows.services.runs import pause_run

pytestmark = pytest.mark.django_db

KEYS_OF_A_STEP = [
    "path",
    "state",
    "reason",
    "attempt",
    "output",
    "error",
    "queued_at",
    "started_at",
    "finished_at",
]


def ids_of(where: RunFilter) -> set[str]:
    return {row["id"] for row in list_runs(where).rows}


def test_the_json_of_a_run_keeps_its_keys_and_their_order() -> None:
    run = a_run(input={"size": 3})

    document = run_document(get_run(run.pk))

    assert list(document) == KEYS_OF_A_RUN
    assert [list(step) for step in document["steps"]] == [KEYS_OF_A_STEP, KEYS_OF_A_STEP]
    assert (document["version"], document["input"]) == (1, {"size": 3})
    assert document["created_at"].endswith("Z")


def test_steps_are_shown_in_the_order_of_the_definition() -> None:
    run = a_run()

    steps = run_document(get_run(run.pk))["steps"]

    assert [(step["path"], step["state"]) for step in steps] == [
        ("copy", "QUEUED"),
        ("check", "PENDING"),
    ]


def test_a_run_that_does_not_exist_is_named_in_the_refusal() -> None:
    with pytest.raises(MissingError, match=r"There is no run 0{8}-"):
        get_run(UUID(int=0))


def test_each_filter_keeps_only_the_runs_it_names() -> None:
    an_environment("lab")
    first = a_run(by="token:ci")
    other = a_run("weekly", environment="lab")
    pause_run(run_id=other.pk, by="person:ann")
    an_incident(other)

    now = timezone.now() + timedelta(seconds=5)
    kept = {
        "workflow": ids_of(RunFilter(workflow="weekly")),
        "environment": ids_of(RunFilter(environment="lab")),
        "states": ids_of(RunFilter(states=["PAUSED", "FAILED"])),
        "incident": ids_of(RunFilter(has_open_incident=True)),
        "id": ids_of(RunFilter(id_prefix=str(other.pk).upper())),
    }

    assert all(found == {str(other.pk)} for found in kept.values()), kept
    assert ids_of(RunFilter(started_by="token:ci")) == {str(first.pk)}
    assert ids_of(RunFilter(has_open_incident=False)) == {str(first.pk)}
    assert ids_of(RunFilter(created_after=now)) == set()
    assert len(ids_of(RunFilter(created_before=now))) == 2


def test_pages_follow_each_other_without_loss_or_repetition() -> None:
    started = [str(a_run().pk) for _ in range(5)]

    pages = [list_runs(limit=2)]
    while pages[-1].next:
        pages.append(list_runs(limit=2, after=pages[-1].next))

    assert [len(page.rows) for page in pages] == [2, 2, 1]
    assert [row["id"] for page in pages for row in page.rows] == started[::-1]


def test_a_new_run_does_not_shift_the_pages_already_shown() -> None:
    started = [str(a_run().pk) for _ in range(3)]
    first = list_runs(limit=2)
    a_run()

    second = list_runs(limit=2, after=first.next)

    assert [row["id"] for row in second.rows] == [started[0]]


@pytest.mark.parametrize("cursor", ["no", "WyJ4Il0", "W10", "bnVsbA", "é", "WyIwIiwiMSJd", "[" * 9])
def test_a_cursor_of_somebody_elses_is_refused(cursor: str) -> None:
    with pytest.raises(CursorError, match="take it from `next`"):
        list_runs(after=cursor)


def test_a_run_is_found_by_the_beginning_of_its_id() -> None:
    run = a_run()

    assert find_run(str(run.pk)[:30]).pk == run.pk


def test_a_beginning_that_fits_several_runs_is_refused() -> None:
    first, _second = a_run(), a_run()

    with pytest.raises(AmbiguousError, match="more characters"):
        find_run(str(first.pk)[:8])


@pytest.mark.parametrize("text", ["", "xyz", "0" * 33, "00000000"])
def test_what_is_no_beginning_of_an_id_finds_no_run(text: str) -> None:
    a_run()

    with pytest.raises(MissingError):
        find_run(text)


def test_a_list_of_twenty_runs_costs_the_queries_of_one(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    a_run()
    with django_assert_num_queries(1):
        assert len(list_runs().rows) == 1
    for _ in range(19):
        an_incident(a_run())

    with django_assert_num_queries(1):
        rows = list_runs().rows

    assert [row["open_incidents"] for row in rows] == [1] * 19 + [0]


def test_a_run_of_any_size_is_read_with_two_queries(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    run = a_run()

    with django_assert_num_queries(2):
        run_document(get_run(run.pk))


def test_a_list_leaves_the_values_of_runs_in_the_database() -> None:
    a_run(input={"size": 3})

    row = list_runs().rows[0]

    assert not {"input", "output", "vars"} & set(row)
    assert Run.objects.get().input == {"size": 3}
