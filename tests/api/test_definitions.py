from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.api.builders import API, a_client, problem_of
from tests.selectors.builders import NIGHTLY, a_run, a_version, an_environment
from workflows.models import Version, Workflow

pytestmark = pytest.mark.django_db

BROKEN = "workflow: nightly\nsteps:\n  - {id: copy, uses: lag}\n  - {id: copy, uses: log}\n"
JSON_TEXT = (
    '{"workflow": "nightly",\n\t"steps": [{"id": "a", "uses": "log", "with": {"message": "x"}}]}'
)


def send(text: str, content_type: str = "text/yaml", to: str = "workflows/") -> Any:
    client = a_client("add_version", "view_workflow")
    return client.generic("POST", f"{API}/{to}", text, content_type=content_type)


def test_a_group_that_is_not_there_yet_is_a_warning() -> None:
    response = send("workflow: ask\nsteps: [{id: sign, approval: {group: board}}]\n")

    assert response.status_code == 201
    [warning] = response.json()["warnings"]
    assert (warning["rule"], warning["path"]) == ("unknown-group", "steps[0].approval.group")
    assert warning["line"] == 2


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        (NIGHTLY, "text/yaml"),
        (NIGHTLY, "application/yaml; charset=utf-8"),
        (JSON_TEXT, "application/json"),
    ],
)
def test_a_definition_is_applied_as_it_is_written(text: str, content_type: str) -> None:
    response = send(text, content_type)

    assert response.status_code == 201
    assert (response.json()["workflow"], response.json()["number"]) == ("nightly", 1)
    assert response["Location"].endswith("/workflows/nightly/versions/1/")
    assert Version.objects.get().source == text


def test_the_same_definition_again_is_no_new_version() -> None:
    send(NIGHTLY)

    again = send(NIGHTLY)

    assert (again.status_code, again.json()["number"]) == (200, 1)


@pytest.mark.parametrize("to", ["workflows/", "language/validate/"])
def test_a_broken_definition_is_answered_with_every_finding(to: str) -> None:
    problem = problem_of(send(BROKEN, to=to), 422)

    assert problem["code"] == "definition_refused"
    assert {finding["line"] for finding in problem["findings"]} >= {3, 4}
    assert all(
        finding["column"] and finding["rule"] and finding["message"] and finding["hint"]
        for finding in problem["findings"]
    )
    assert not Workflow.objects.exists()


def test_a_definition_without_findings_is_told_so_and_not_stored() -> None:
    response = send(NIGHTLY, to="language/validate/")

    assert response.json() == {"workflow": "nightly", "environment": "default", "steps": 2}
    assert not Workflow.objects.exists()


def test_no_definition_at_all_is_a_finding() -> None:
    assert "empty" in problem_of(send(""), 422)["findings"][0]["message"]


def test_a_definition_in_a_form_is_refused_with_what_is_taken() -> None:
    refused = send("workflow=x", "application/x-www-form-urlencoded")

    assert "application/yaml" in problem_of(refused, 415)["hint"]


def test_a_workflow_is_listed_with_its_newest_version_and_run() -> None:
    a_version()
    a_run()
    newest = a_version(message="changed")
    run = a_run()

    row = a_client("view_workflow").get(f"{API}/workflows/").json()["results"][0]

    assert newest.number == 2
    assert (row["version"], row["environment"]) == (3, "default")
    assert (row["last_run"]["id"], row["last_run"]["state"]) == (str(run.pk), "RUNNING")


def test_a_workflow_is_shown_by_name_and_refused_by_name() -> None:
    a_version()
    client = a_client("view_workflow")

    found = client.get(f"{API}/workflows/nightly/").json()
    missing = client.get(f"{API}/workflows/weekly/")

    assert (found["description"], found["last_run"]) == ("Copy and check.", None)
    assert "workflow weekly" in problem_of(missing, 404)["detail"]


def test_the_versions_of_a_workflow_begin_with_the_newest() -> None:
    a_version()
    a_version(message="changed")
    client = a_client("view_version")

    rows = client.get(f"{API}/workflows/nightly/versions/").json()["results"]
    first = client.get(f"{API}/workflows/nightly/versions/1/").json()

    assert [row["number"] for row in rows] == [2, 1]
    assert (first["source"], first["document"]["workflow"]) == (NIGHTLY, "nightly")


@pytest.mark.parametrize("number", ["2", "99999999999999999999"])
def test_a_version_that_does_not_exist_is_not_found(number: str) -> None:
    a_version()

    missing = a_client("view_version").get(f"{API}/workflows/nightly/versions/{number}/")

    assert problem_of(missing, 404)["detail"] == f"There is no version {number} of nightly."


def test_the_language_is_published_as_a_schema() -> None:
    schema = a_client("view_workflow").get(f"{API}/language/schema/").json()

    assert schema["$schema"].endswith("2020-12/schema")
    assert "steps" in schema["properties"]


def test_an_environment_tells_its_queues_and_its_work() -> None:
    an_environment("lab")
    a_run(environment="lab")
    client = a_client("view_environment")

    lab = client.get(f"{API}/environments/lab/").json()
    names = [row["name"] for row in client.get(f"{API}/environments/").json()["results"]]

    assert (lab["state"], lab["queues"]) == ("ACTIVE", ["env.lab.default"])
    assert (lab["live_runs"], lab["open_incidents"]) == (1, 0)
    assert names == ["default", "lab"]


def test_an_environment_that_does_not_exist_is_not_found() -> None:
    missing = a_client("view_environment").get(f"{API}/environments/lab/")

    assert "environment lab" in problem_of(missing, 404)["detail"]


@pytest.mark.parametrize(
    ("path", "permission", "more"),
    [
        ("workflows/", "view_workflow", lambda number: a_run(f"w{number}")),
        (
            "workflows/nightly/versions/",
            "view_version",
            lambda number: a_version(message=f"m{number}"),
        ),
        ("environments/", "view_environment", lambda number: an_environment(f"e{number}")),
    ],
)
def test_a_list_of_twenty_costs_the_queries_of_one(path: str, permission: str, more: Any) -> None:
    a_run()
    client = a_client(permission)
    with CaptureQueriesContext(connection) as one:
        client.get(f"{API}/{path}")
    for number in range(19):
        more(number)

    with CaptureQueriesContext(connection) as twenty:
        rows = client.get(f"{API}/{path}").json()["results"]

    assert (len(rows), len(twenty)) == (20, len(one))
