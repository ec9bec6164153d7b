from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.api.builders import API, a_client, problem_of
from tests.selectors.builders import a_run
from workflows.models import Attempt, Step
from workflows.services.definitions import apply_definition
from workflows.services.runs import start_run

pytestmark = pytest.mark.django_db


def a_wide_run(branches: int) -> str:
    """Start a run of so many steps that need nothing."""
    steps = "\n".join(
        f"  - {{id: s{number}, needs: [], uses: log, with: {{message: x}}}}"
        for number in range(branches)
    )
    text = f"workflow: wide{branches}\nsteps:\n{steps}"
    apply_definition(text=text, source="test", by="person:ann")
    return str(start_run(workflow=f"wide{branches}", by="person:ann").run.pk)


def test_the_steps_of_a_run_come_in_pages_in_the_order_of_the_definition() -> None:
    a_run()
    run = a_wide_run(12)
    client = a_client("view_run")

    first = client.get(f"{API}/runs/{run}/steps/?limit=7").json()
    second = client.get(first["next"]).json()

    paths = [row["path"] for row in first["results"] + second["results"]]
    assert paths == [f"s{number}" for number in range(12)]
    assert second["next"] is None


def test_steps_are_filtered_by_state() -> None:
    run = a_run()

    page = a_client("view_run").get(f"{API}/runs/{run.pk}/steps/?state=PENDING").json()

    assert [row["path"] for row in page["results"]] == ["check"]


def test_a_step_is_found_by_its_path() -> None:
    run = a_run()
    client = a_client("view_run")

    found = client.get(f"{API}/runs/{run.pk}/steps/copy/")
    missing = client.get(f"{API}/runs/{run.pk}/steps/ship[3].pack/")

    assert found.json()["state"] == "QUEUED"
    assert "ship[3].pack" in problem_of(missing, 404)["detail"]


def test_the_tries_at_a_step_are_listed_by_number() -> None:
    run = a_run()
    step = Step.objects.get(run=run, path="copy")
    for number in (2, 1):
        Attempt.objects.create(
            run=run, step=step, number=number, end="failed", finished_at=timezone.now()
        )

    page = a_client("view_run").get(f"{API}/runs/{run.pk}/steps/copy/attempts/?limit=1").json()
    rest = a_client("view_run").get(page["next"]).json()

    assert [row["number"] for row in page["results"] + rest["results"]] == [1, 2]


def test_the_journal_tells_who_moved_what() -> None:
    run = a_run(by="person:bob")
    client = a_client("view_run")

    lines = client.get(f"{API}/runs/{run.pk}/journal/").json()["results"]
    own = client.get(f"{API}/runs/{run.pk}/journal/?path=").json()["results"]

    assert {line["actor"] for line in lines} == {"person:bob"}
    assert {line["path"] for line in lines} == {"", "copy"}
    assert [(line["before"], line["after"]) for line in own] == [("PENDING", "RUNNING")]


@pytest.mark.parametrize("below", ["steps/", "journal/", "steps/copy/", "steps/copy/attempts/"])
def test_nothing_is_below_a_run_that_does_not_exist(below: str) -> None:
    missing = a_client("view_run").get(f"{API}/runs/{uuid4()}/{below}")

    assert problem_of(missing, 404)["code"] == "not_found"


@pytest.mark.parametrize("below", ["", "steps/", "journal/"])
def test_a_run_of_twenty_steps_costs_the_queries_of_one(below: str) -> None:
    a_run()
    one, twenty = a_wide_run(1), a_wide_run(20)
    client = a_client("view_run")

    counts = []
    for run in (one, twenty):
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{API}/runs/{run}/{below}")
        counts.append(len(queries))

    assert counts[0] == counts[1]
