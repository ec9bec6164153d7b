from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from environments.services import move_environment
from tests.api.builders import API, a_client, problem_of
from tests.selectors.builders import KEYS_OF_A_RUN, a_run, a_version, an_environment, an_incident
from workflows.models import Journal, Run
from workflows.services.runs import pause_run

pytestmark = pytest.mark.django_db


def start(body: dict[str, Any], key: str | None = None, **facts: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    client = facts.pop("client", None) or a_client("start_workflow", **facts)
    return client.post(f"{API}/runs/", body, headers=headers)


def test_a_started_run_is_answered_with_its_json_and_its_address() -> None:
    a_version()

    response = start({"workflow": "nightly", "input": {"size": 3}})

    run = response.json()
    assert response.status_code == 201
    assert list(run) == KEYS_OF_A_RUN
    assert (run["state"], run["input"], run["version"]) == ("RUNNING", {"size": 3}, 1)
    assert response["Location"].endswith(f"{API}/runs/{run['id']}/")


def test_the_journal_names_the_token_that_started_a_run() -> None:
    a_version()

    start({"workflow": "nightly"}, name="ci")

    assert Journal.objects.first().actor.startswith("token:ci/")  # type: ignore[union-attr]
    assert Run.objects.get().started_by.startswith("token:ci/")


def test_a_start_sent_twice_with_one_key_is_one_run() -> None:
    a_version()

    first = start({"workflow": "nightly"}, key="night-7")
    again = start({"workflow": "nightly"}, key="night-7")

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert Run.objects.count() == 1


def test_a_key_that_started_something_else_is_refused() -> None:
    a_version()
    start({"workflow": "nightly"}, key="night-7")

    refused = start({"workflow": "nightly", "input": {"size": 9}}, key="night-7")

    problem = problem_of(refused, 409)
    assert problem["code"] == "idempotency_mismatch"
    assert "night-7" in problem["detail"]


@pytest.mark.parametrize("key", ["", " ", "x" * 201])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    a_version()

    refused = start({"workflow": "nightly"}, key=key)

    assert problem_of(refused, 400)["findings"][0]["path"] == "idempotency_key"
    assert not Run.objects.exists()


def test_an_input_that_does_not_fit_is_refused_with_its_findings() -> None:
    a_version()

    refused = start({"workflow": "nightly", "input": {"size": "large"}})

    problem = problem_of(refused, 422)
    assert problem["code"] == "input_refused"
    assert "size" in problem["findings"][0]["path"]
    assert not Run.objects.exists()


def test_a_workflow_that_does_not_exist_is_named() -> None:
    refused = start({"workflow": "weekly"})

    assert "weekly" in problem_of(refused, 404)["detail"]


def test_an_environment_that_is_closed_takes_no_run() -> None:
    a_version()
    an_environment("lab")
    move_environment(name="lab", state="DRAINING", by="person:ann")

    refused = start({"workflow": "nightly", "environment": "lab"})

    assert problem_of(refused, 409)["code"] == "environment_closed"


def test_a_key_that_a_start_does_not_know_is_refused_with_those_it_knows() -> None:
    a_version()

    refused = start({"workflow": "nightly", "inputs": {}})

    finding = problem_of(refused, 400)["findings"][0]
    assert finding["path"] == "inputs"
    assert "workflow, input, environment, version" in finding["message"]


@pytest.mark.parametrize(
    "body", [{"input": {}}, {"workflow": 7, "version": 0}, [], "x", {"workflow": "x", "input": []}]
)
def test_a_body_of_another_form_is_refused(body: Any) -> None:
    refused = start(body)

    assert problem_of(refused, 400)["findings"]


def test_many_runs_are_started_at_once_in_their_order() -> None:
    a_version()
    a_version("weekly")
    orders = [{"workflow": name, "idempotency_key": "k"} for name in ("weekly", "nightly")]

    response = a_client("start_workflow").post(f"{API}/runs/bulk/", {"runs": orders})

    body = response.json()
    assert (response.status_code, body["created"]) == (201, 2)
    assert [run["workflow"] for run in body["runs"]] == ["weekly", "nightly"]


def test_a_bulk_start_sent_again_starts_nothing() -> None:
    a_version()
    order = {"runs": [{"workflow": "nightly", "idempotency_key": "k"}]}
    client = a_client("start_workflow")

    first = client.post(f"{API}/runs/bulk/", order).json()
    again = client.post(f"{API}/runs/bulk/", order)

    assert (again.status_code, again.json()["created"]) == (200, 0)
    assert again.json()["runs"][0]["id"] == first["runs"][0]["id"]


def test_a_bulk_start_says_of_each_order_what_became_of_it() -> None:
    a_version()
    client = a_client("start_workflow")
    first = {"workflow": "nightly", "idempotency_key": "k"}
    client.post(f"{API}/runs/bulk/", {"runs": [first]})
    orders = [{"workflow": "nightly"}, first | {"input": {"other": 1}}, first]

    response = client.post(f"{API}/runs/bulk/", {"runs": orders})

    body = response.json()
    assert (response.status_code, body["created"], body["refused"]) == (201, 1, 1)
    new, refused, known = body["runs"]
    assert (new["created"], known["created"], known["refused"]) == (True, False, None)
    assert (refused["id"], refused["state"]) == (None, None)
    assert known["id"] in refused["refused"]


@pytest.mark.parametrize("number", [0, 1001])
def test_a_bulk_start_has_from_one_to_a_thousand_runs(number: int) -> None:
    order = {"runs": [{"workflow": "nightly"}] * number}

    refused = a_client("start_workflow").post(f"{API}/runs/bulk/", order)

    assert problem_of(refused, 400)["findings"][0]["path"].startswith("runs")


def test_one_bad_order_refuses_the_whole_bulk_and_is_pointed_at() -> None:
    a_version()
    order = {"runs": [{"workflow": "nightly"}, {"workflow": "nightly", "size": 1}]}

    refused = a_client("start_workflow").post(f"{API}/runs/bulk/", order)

    assert problem_of(refused, 400)["findings"][0]["path"] == "runs[1].size"
    assert not Run.objects.exists()


def test_a_bulk_start_takes_no_key_for_all() -> None:
    refused = a_client("start_workflow").post(
        f"{API}/runs/bulk/", {"runs": []}, headers={"Idempotency-Key": "k"}
    )

    assert problem_of(refused, 400)["findings"][0]["path"] == "Idempotency-Key"


def test_a_run_is_shown_without_its_steps_when_asked() -> None:
    run = a_run()
    client = a_client("view_run")

    whole = client.get(f"{API}/runs/{run.pk}/").json()
    alone = client.get(f"{API}/runs/{run.pk}/?steps=false").json()

    assert list(whole) == KEYS_OF_A_RUN
    assert list(alone) == KEYS_OF_A_RUN[:-1]


def test_a_run_is_held_let_go_and_ended() -> None:
    run = a_run()
    client = a_client("pause_run", "cancel_run")

    states = [
        client.post(f"{API}/runs/{run.pk}/{action}/").json()["state"]
        for action in ("pause", "resume", "cancel")
    ]

    assert states == ["PAUSED", "RUNNING", "CANCELLED"]


def test_what_the_state_does_not_allow_is_a_conflict() -> None:
    run = a_run()

    refused = a_client("pause_run").post(f"{API}/runs/{run.pk}/resume/")

    problem = problem_of(refused, 409)
    assert problem["code"] == "state_refused"
    assert "RUNNING" in problem["detail"]


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "replay"])
def test_an_action_takes_no_keys_and_needs_its_run(action: str) -> None:
    client = a_client("pause_run", "cancel_run", "replay_incident")
    here = f"{API}/runs/{uuid4()}/{action}/"

    keyed = client.post(here, {"force": True})
    missing = client.post(here)

    assert problem_of(keyed, 400)["findings"][0]["path"] == "force"
    assert problem_of(missing, 404)["code"] == "not_found"


def test_a_run_without_incidents_has_nothing_to_replay() -> None:
    run = a_run()

    refused = a_client("replay_incident").post(f"{API}/runs/{run.pk}/replay/")

    assert "no open incident" in problem_of(refused, 409)["detail"]


def test_runs_are_filtered_by_the_query() -> None:
    a_run()
    wanted = a_run("weekly")
    pause_run(run_id=wanted.pk, by="person:ann")
    an_incident(wanted)
    client = a_client("view_run")

    for query in (
        "state=PAUSED&state=FAILED",
        "workflow=weekly",
        "has_open_incident=true",
        f"id={str(wanted.pk)[:31]}&created_after=2020-01-01T00:00:00Z&started_by=person:ann",
    ):
        rows = client.get(f"{API}/runs/?{query}&environment=default").json()["results"]
        assert str(wanted.pk) in [row["id"] for row in rows], query
        assert all(row["workflow"] == "weekly" for row in rows if "id=" not in query), query


def test_a_child_run_names_its_parent_and_is_found_by_it() -> None:
    top = a_run("weekly")
    child = a_run("nightly")
    Run.objects.filter(pk=child.pk).update(parent=top, parent_path="call")
    client = a_client("view_run")

    def found(query: str) -> list[str]:
        return [row["id"] for row in client.get(f"{API}/runs/?{query}").json()["results"]]

    assert found(f"child_of={top.pk}") == [str(child.pk)]
    assert found("top_level=true") == [str(top.pk)]
    assert found("top_level=false") == [str(child.pk)]
    shown = client.get(f"{API}/runs/{child.pk}/").json()
    assert shown["parent"] == {"run": str(top.pk), "path": "call"}
    assert client.get(f"{API}/runs/{top.pk}/").json()["parent"] is None


def test_the_pages_of_a_list_are_followed_by_next() -> None:
    started = [str(a_run().pk) for _ in range(3)]
    client = a_client("view_run")

    first = client.get(f"{API}/runs/?limit=2&workflow=nightly").json()
    second = client.get(first["next"]).json()

    rows = first["results"] + second["results"]
    assert [row["id"] for row in rows] == started[::-1]
    assert second["next"] is None


@pytest.mark.parametrize(
    "query",
    [
        "stat=FAILED",
        "state=failed",
        "limit=0",
        "limit=201",
        "limit=1&limit=2",
        "workflow=%00",
        "created_after=yesterday",
        "has_open_incident=maybe",
        "id=xyz",
        "child_of=xyz",
        "top_level=maybe",
        "cursor=%00",
    ],
)
def test_a_query_that_is_not_understood_is_refused(query: str) -> None:
    refused = a_client("view_run").get(f"{API}/runs/?{query}")

    assert problem_of(refused, 400)["findings"][0]["path"] == query.partition("=")[0]


def test_an_unknown_parameter_is_refused_with_those_that_are_known() -> None:
    refused = a_client("view_run").get(f"{API}/runs/?stat=FAILED")

    assert "cursor, limit, workflow" in problem_of(refused, 400)["findings"][0]["message"]


def test_a_cursor_of_ones_own_making_is_refused() -> None:
    refused = a_client("view_run").get(f"{API}/runs/?cursor=abc")

    assert problem_of(refused, 400)["code"] == "bad_cursor"


def test_a_list_of_twenty_costs_the_queries_of_one(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    client = a_client("view_run")
    a_run()
    with CaptureQueriesContext(connection) as first:
        client.get(f"{API}/runs/")
    for _ in range(19):
        a_run()

    with django_assert_num_queries(len(first)):
        rows = client.get(f"{API}/runs/").json()["results"]

    assert len(rows) == 20


def test_a_run_is_forked_from_a_step_once_for_each_key() -> None:
    a_version()
    run = start({"workflow": "nightly", "input": {"size": 3}}).json()
    path = run["steps"][0]["path"]
    client = a_client("start_workflow")
    order = {"path": path, "input": {"size": 9}}

    first, again = (
        client.post(f"{API}/runs/{run['id']}/fork/", order, headers={"Idempotency-Key": "f"})
        for _ in range(2)
    )

    assert (first.status_code, again.status_code) == (201, 200)
    new = first.json()
    assert (new["forked_from"], new["input"]) == (run["id"], {"size": 9})
    assert first["Location"].endswith(f"{API}/runs/{new['id']}/")
    assert again.json()["id"] == new["id"]


def test_a_fork_that_makes_no_sense_is_refused() -> None:
    a_version()
    run = start({"workflow": "nightly"}).json()

    refused = a_client("start_workflow").post(f"{API}/runs/{run['id']}/fork/", {"path": "nowhere"})

    assert refused.status_code == 409
    assert "has no step nowhere" in refused.json()["detail"]
