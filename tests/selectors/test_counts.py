import pytest
from pytest_django import DjangoAssertNumQueries

from tests.selectors.builders import a_run
from workflows.selectors.counts import steps_by_state

pytestmark = pytest.mark.django_db


def test_the_steps_of_many_runs_are_counted_with_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    ids = [a_run().pk, a_run().pk]

    with django_assert_num_queries(1):
        counts = steps_by_state(ids)

    assert counts == {run_id: {"QUEUED": 1, "PENDING": 1} for run_id in ids}
