import json
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils.timezone import now
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from tests.api.builders import API, a_client, a_user
from tests.selectors.builders import NIGHTLY, a_failed_run
from workflows.models import EventEffect, Trigger, Workflow

pytestmark = pytest.mark.django_db


def description() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(public=True)
    return made


def test_the_description_is_valid_and_made_without_a_warning(tmp_path: Any) -> None:
    file = tmp_path / "api.yaml"

    call_command("spectacular", "--fail-on-warn", "--validate", "--file", str(file))

    assert "openapi: 3.1" in file.read_text()


def test_every_operation_has_a_name_a_summary_and_its_refusals() -> None:
    operations = [one for methods in description()["paths"].values() for one in methods.values()]

    names = [operation["operationId"] for operation in operations]

    assert len(set(names)) == len(names) == 61
    assert all(operation["summary"] for operation in operations)
    assert all("default" in operation["responses"] for operation in operations)


def start_by(event_id: str) -> None:
    """Have the event refused to start a run, and the reason gone."""
    workflow = Workflow.objects.get(name="nightly")
    EventEffect.objects.create(
        event_id=event_id, kind="refused", workflow=workflow, reason="No.", at=now(), by="engine"
    )
    version = workflow.versions.get()
    Trigger.objects.create(
        workflow=workflow, version=version, number=0, type="order.paid", rule={"input": {}}
    )


def answers() -> list[tuple[str, str, Any]]:
    """Ask every door that answers with a shape, on a run that has failed."""
    run = a_failed_run()
    client = a_client(
        "view_workflow",
        "view_version",
        "view_run",
        "view_incident",
        "view_environment",
        "start_workflow",
        "add_version",
        "replay_incident",
        "publish_event",
        "view_receivedevent",
    )
    kind = "application/cloudevents+json"
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order.paid"}
    published = client.generic("POST", f"{API}/events/", json.dumps(event), content_type=kind)
    event_id = published.json()["events"][0]["id"]
    start_by(event_id)
    incident = client.get(f"{API}/incidents/").json()["results"][0]["id"]
    paths = {
        "/workflows/": "/workflows/",
        "/workflows/{name}/": "/workflows/nightly/",
        "/workflows/{name}/versions/": "/workflows/nightly/versions/",
        "/workflows/{name}/versions/{number}/": "/workflows/nightly/versions/1/",
        "/runs/": "/runs/",
        "/runs/{run_id}/": f"/runs/{run.pk}/",
        "/runs/{run_id}/steps/": f"/runs/{run.pk}/steps/",
        "/runs/{run_id}/steps/{path}/": f"/runs/{run.pk}/steps/copy/",
        "/runs/{run_id}/steps/{path}/attempts/": f"/runs/{run.pk}/steps/copy/attempts/",
        "/runs/{run_id}/journal/": f"/runs/{run.pk}/journal/",
        "/runs/{run_id}/undo/": f"/runs/{run.pk}/undo/",
        "/runs/{run_id}/waits/": f"/runs/{run.pk}/waits/",
        "/incidents/": "/incidents/?open=any",
        "/incidents/{incident_id}/": f"/incidents/{incident}/",
        "/events/": "/events/",
        "/events/{event_id}/": f"/events/{event_id}/",
        "/events/{event_id}/effects/": f"/events/{event_id}/effects/",
        "/environments/": "/environments/",
        "/environments/{name}/": "/environments/default/",
    }
    given = [(path, "get", client.get(API + asked)) for path, asked in paths.items()]
    given.append(("/events/", "post", published))
    again = client.post(f"{API}/events/{event_id}/start-again/")
    given.append(("/events/{event_id}/start-again/", "post", again))
    given.append(("/runs/", "post", client.post(f"{API}/runs/", {"workflow": "nightly"})))
    order = {"runs": [{"workflow": "nightly"}]}
    given.append(("/runs/bulk/", "post", client.post(f"{API}/runs/bulk/", order)))
    given.append(("/runs/{run_id}/replay/", "post", client.post(f"{API}/runs/{run.pk}/replay/")))
    text = client.generic("POST", f"{API}/workflows/", NIGHTLY, content_type="text/yaml")
    given.append(("/workflows/", "post", text))
    refused = client.generic("POST", f"{API}/workflows/", "x: 1", content_type="text/yaml")
    given.append(("/workflows/", "post", refused))
    return given


def test_answers_are_what_the_description_promises() -> None:
    whole = description()

    for path, method, answer in answers():
        responses = whole["paths"][API + path][method]["responses"]
        described = responses.get(str(answer.status_code)) or responses["default"]
        schema = next(iter(described["content"].values()))["schema"]
        validator = Draft202012Validator({**schema, "components": whole["components"]})
        wrong = [
            f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.json())
        ]
        assert not wrong, (path, method, wrong)


def test_the_description_is_served() -> None:
    served = Client().get(f"{API}/schema/", headers={"Accept": "application/json"})

    assert served.status_code == 200
    assert served.json()["openapi"].startswith("3.1")


def test_the_page_keeps_to_the_content_policy() -> None:
    client = Client()
    client.force_login(a_user(), "django.contrib.auth.backends.ModelBackend")

    page = client.get(f"{API}/docs/")

    scripts = re.findall(r"<script([^>]*)>([^<]*)", page.content.decode())
    assert page.status_code == 200
    assert len(scripts) == 3
    assert all('src="/' in attributes and not body for attributes, body in scripts)
    assert (
        "'unsafe-inline'"
        not in page["Content-Security-Policy"].partition("script-src")[2].partition(";")[0]
    )
    for address in re.findall(r'<script src="([^"]+)"', page.content.decode()):
        served = client.get(address.replace("&amp;", "&"))
        assert "javascript" in served["Content-Type"], address
        assert len(served.getvalue()) > 100
