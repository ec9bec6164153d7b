from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.api.builders import API, a_client, problem_of
from tests.selectors.builders import a_failed_run, a_run, an_environment, an_incident
from workflows.models import Incident, Step

pytestmark = pytest.mark.django_db


def the_incidents(query: str = "") -> list[dict[str, Any]]:
    response = a_client("view_incident").get(f"{API}/incidents/{query}")
    assert response.status_code == 200, response.content
    rows: list[dict[str, Any]] = response.json()["results"]
    return rows


def test_an_incident_tells_what_failed_and_where() -> None:
    run = a_failed_run()

    incident = the_incidents()[0]

    assert incident["run"] == str(run.pk)
    assert (incident["workflow"], incident["path"]) == ("nightly", "copy")
    assert incident["error"]["class"] == "permanent"
    assert incident["resolution"] is None


def test_open_incidents_are_listed_unless_asked_otherwise() -> None:
    incident = Incident.objects.get(run=a_failed_run())
    a_client("discard_incident").post(
        f"{API}/incidents/{incident.pk}/discard/", {"note": "The set is gone."}
    )

    listed = {query: len(the_incidents(f"?open={query}")) for query in ("true", "false", "any")}

    assert listed == {"true": 0, "false": 1, "any": 1}


def test_incidents_are_filtered_by_what_they_are_about() -> None:
    an_environment("lab")
    an_incident(a_run())
    wanted = an_incident(a_run("weekly", environment="lab"), code="sql.integrity")

    for query in (
        "workflow=weekly",
        "environment=lab",
        "code=sql.integrity",
        f"run={wanted.run_id}&error_class=transient",
    ):
        assert [row["id"] for row in the_incidents(f"?{query}")] == [str(wanted.pk)], query
    assert the_incidents("?error_class=business") == []


def test_a_replayed_step_gets_the_corrected_arguments() -> None:
    incident = Incident.objects.get(run=a_failed_run())

    response = a_client("replay_incident", name="ann").post(
        f"{API}/incidents/{incident.pk}/replay/",
        {"arguments": {"message": "mended"}, "note": "The disk is back."},
    )

    answer = response.json()
    assert (response.status_code, answer["resolution"]) == (200, "replayed")
    assert answer["resolved_by"].startswith("token:ann/")
    assert Step.objects.get(run=incident.run_id, path="copy").arguments == {"message": "mended"}


def test_arguments_that_the_task_would_refuse_are_refused_key_by_key() -> None:
    incident = Incident.objects.get(run=a_failed_run())

    response = a_client("replay_incident").post(
        f"{API}/incidents/{incident.pk}/replay/", {"arguments": {"mesage": "mended"}}
    )

    problem = problem_of(response, 422)
    assert [one["path"] for one in problem["findings"]] == ["arguments", "arguments.mesage"]
    assert "did you mean message" in problem["detail"]


def test_a_skipped_step_has_the_output_that_was_given() -> None:
    incident = Incident.objects.get(run=a_failed_run())

    response = a_client("skip_incident").post(
        f"{API}/incidents/{incident.pk}/skip/", {"output": {"copied": 3}}
    )

    assert response.json()["resolution"] == "skipped"
    assert Step.objects.get(run=incident.run_id, path="copy").output == {"copied": 3}


@pytest.mark.parametrize("body", [{}, {"note": ""}, {"note": "  "}, {"note": "x", "why": "y"}])
def test_an_incident_is_discarded_with_a_note_and_nothing_else(body: dict[str, str]) -> None:
    incident = Incident.objects.get(run=a_failed_run())

    refused = a_client("discard_incident").post(f"{API}/incidents/{incident.pk}/discard/", body)

    assert problem_of(refused, 400)["findings"]


def test_an_incident_is_resolved_once() -> None:
    incident = Incident.objects.get(run=a_failed_run())
    client = a_client("skip_incident", "replay_incident")
    client.post(f"{API}/incidents/{incident.pk}/skip/")

    again = client.post(f"{API}/incidents/{incident.pk}/replay/")

    assert "skipped" in problem_of(again, 409)["detail"]


def test_every_open_incident_of_a_run_is_replayed_at_once() -> None:
    run = a_failed_run()
    incident = Incident.objects.get(run=run)

    response = a_client("replay_incident").post(f"{API}/runs/{run.pk}/replay/")

    assert response.json() == {
        "sentence": "Replay: 1 done.",
        "done": [str(incident.pk)],
        "refused": [],
    }


def test_a_list_of_twenty_costs_the_queries_of_one() -> None:
    client = a_client("view_incident")
    an_incident(a_run())
    with CaptureQueriesContext(connection) as one:
        client.get(f"{API}/incidents/")
    for _ in range(19):
        an_incident(a_run())

    with CaptureQueriesContext(connection) as twenty:
        rows = client.get(f"{API}/incidents/").json()["results"]

    assert (len(rows), len(twenty)) == (20, len(one))
