from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from tests.api.builders import API, a_client, a_user, problem_of

pytestmark = pytest.mark.django_db

BACKEND = "django.contrib.auth.backends.ModelBackend"
NOBODY = "00000000-0000-7000-8000-000000000000"
DOORS = [
    ("GET", "/workflows/", "workflows.view_workflow"),
    ("POST", "/workflows/", "workflows.add_version"),
    ("GET", "/workflows/{name}/", "workflows.view_workflow"),
    ("GET", "/workflows/{name}/versions/", "workflows.view_version"),
    ("GET", "/workflows/{name}/versions/{number}/", "workflows.view_version"),
    ("GET", "/language/schema/", "workflows.view_workflow"),
    ("POST", "/language/validate/", "workflows.view_workflow"),
    ("GET", "/runs/", "workflows.view_run"),
    ("POST", "/runs/", "workflows.start_workflow"),
    ("POST", "/runs/bulk/", "workflows.start_workflow"),
    ("POST", "/runs/migration/", "workflows.migrate_run"),
    ("POST", "/runs/migration/preflight/", "workflows.view_run"),
    ("GET", "/runs/{run_id}/", "workflows.view_run"),
    ("POST", "/runs/{run_id}/pause/", "workflows.pause_run"),
    ("POST", "/runs/{run_id}/resume/", "workflows.pause_run"),
    ("POST", "/runs/{run_id}/cancel/", "workflows.cancel_run"),
    ("POST", "/runs/{run_id}/fork/", "workflows.start_workflow"),
    ("POST", "/runs/{run_id}/replay/", "workflows.replay_incident"),
    ("GET", "/runs/{run_id}/undo/", "workflows.view_run"),
    ("POST", "/runs/{run_id}/undo/", "workflows.compensate_run"),
    ("GET", "/runs/{run_id}/journal/", "workflows.view_run"),
    ("GET", "/runs/{run_id}/steps/", "workflows.view_run"),
    ("GET", "/runs/{run_id}/steps/{path}/", "workflows.view_run"),
    ("GET", "/runs/{run_id}/steps/{path}/attempts/", "workflows.view_run"),
    ("GET", "/runs/{run_id}/steps/{path}/callback/", "workflows.see_callback_url"),
    ("GET", "/runs/{run_id}/waits/", "workflows.view_run"),
    ("GET", "/incidents/", "workflows.view_incident"),
    ("GET", "/incidents/{incident_id}/", "workflows.view_incident"),
    ("POST", "/incidents/{incident_id}/replay/", "workflows.replay_incident"),
    ("POST", "/incidents/{incident_id}/skip/", "workflows.skip_incident"),
    ("POST", "/incidents/{incident_id}/discard/", "workflows.discard_incident"),
    ("GET", "/events/", "workflows.view_receivedevent"),
    ("POST", "/events/", "workflows.publish_event"),
    ("GET", "/events/{event_id}/", "workflows.view_receivedevent"),
    ("GET", "/events/{event_id}/effects/", "workflows.view_receivedevent"),
    ("POST", "/events/{event_id}/start-again/", "workflows.start_workflow"),
    ("GET", "/guards/", "workflows.view_breaker"),
    ("GET", "/guards/{environment}/{name}/", "workflows.view_breaker"),
    ("GET", "/guards/{environment}/{name}/parked/", "workflows.view_breaker"),
    ("POST", "/guards/{environment}/{name}/open/", "workflows.operate_breaker"),
    ("POST", "/guards/{environment}/{name}/close/", "workflows.operate_breaker"),
    ("GET", "/profiles/", "environments.view_profile"),
    ("GET", "/profiles/{profile}/", "environments.view_profile"),
    ("POST", "/profiles/{profile}/clear/", "environments.operate_profile"),
    ("POST", "/profiles/{profile}/disable/", "environments.operate_profile"),
    ("POST", "/profiles/{profile}/empty-folder/", "environments.operate_profile"),
    ("POST", "/profiles/{profile}/enable/", "environments.operate_profile"),
    ("GET", "/environments/", "environments.view_environment"),
    ("GET", "/environments/{name}/", "environments.view_environment"),
]
OPEN_TO_ALL_WHO_ARE_KNOWN = [
    ("GET", "/tokens/"),
    ("POST", "/tokens/"),
    ("DELETE", "/tokens/{key}/"),
    ("GET", "/approvals/"),
    ("GET", "/approvals/{approval_id}/"),
    ("POST", "/approvals/{approval_id}/decide/"),
    ("POST", "/approvals/{approval_id}/hand/"),
    ("POST", "/approvals/decide/"),
    ("GET", "/delegations/"),
    ("POST", "/delegations/"),
    ("DELETE", "/delegations/{delegation_id}/"),
]
OPEN_TO_THE_SIGNED = [("POST", "/callbacks/{run_id}/{path}/{attempt}/{signature}/")]


def ask(client: APIClient, method: str, path: str) -> Any:
    filled = path.format(
        name="none",
        number=1,
        run_id=NOBODY,
        incident_id=NOBODY,
        event_id=NOBODY,
        environment="none",
        profile=1,
        approval_id=NOBODY,
        delegation_id=NOBODY,
        path="none",
        key="none",
    )
    return client.generic(method, API + filled, content_type="application/json")


def test_the_tables_of_this_file_name_every_door() -> None:
    paths = SchemaGenerator().get_schema(public=True)["paths"]

    described = {
        (method.upper(), path.removeprefix(API))
        for path, methods in paths.items()
        for method in methods
    }

    to_all = {*OPEN_TO_ALL_WHO_ARE_KNOWN, *OPEN_TO_THE_SIGNED}
    assert described == {door[:2] for door in DOORS} | to_all


@pytest.mark.parametrize(("method", "path", "permission"), DOORS)
def test_a_door_asks_strangers_who_they_are(method: str, path: str, permission: str) -> None:
    response = ask(APIClient(), method, path)

    assert problem_of(response, 401)["code"] == "not_authenticated"
    assert response["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), OPEN_TO_ALL_WHO_ARE_KNOWN)
def test_what_is_open_to_all_who_are_known_is_nothing_for_strangers(method: str, path: str) -> None:
    response = ask(APIClient(), method, path)

    assert problem_of(response, 401)["code"] == "not_authenticated"


@pytest.mark.parametrize(("method", "path", "permission"), DOORS)
def test_a_door_names_the_permission_that_is_missing(
    method: str, path: str, permission: str
) -> None:
    others = {name.split(".")[1] for _, _, name in DOORS} - {permission.split(".")[1]}

    refused = ask(a_client(*others), method, path)

    assert permission in problem_of(refused, 403)["detail"]


@pytest.mark.parametrize(("method", "path", "permission"), DOORS)
def test_the_one_permission_opens_the_door(method: str, path: str, permission: str) -> None:
    response = ask(a_client(permission.split(".")[1]), method, path)

    assert response.status_code in {200, 400, 404, 422}


def test_a_session_opens_doors_and_must_prove_where_a_change_comes_from() -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(a_user("view_run", "start_workflow"), BACKEND)

    reading = client.get(f"{API}/runs/")
    writing = client.post(f"{API}/runs/", {"workflow": "nightly"})

    assert reading.status_code == 200
    assert "CSRF" in problem_of(writing, 403)["detail"]
