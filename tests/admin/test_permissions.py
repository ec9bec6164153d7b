from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from monitoring.run_page import newest_mark
from tests.admin.builders import completed, failed, incident_of, started, worked_off
from workflows.admin.operations import INCIDENT_OPERATIONS, RUN_OPERATIONS
from workflows.models import Incident, Run

Door = Callable[[str], Client]


@pytest.mark.parametrize("operation", RUN_OPERATIONS)
def test_a_forged_operation_on_a_run_is_forbidden(operation: str, door: Door) -> None:
    run = started()

    answer = door("viewers").post(reverse(f"admin:workflows_run_{operation}", args=[run.pk]))

    assert answer.status_code == 403
    assert Run.objects.get(pk=run.pk).state == "RUNNING"


@pytest.mark.parametrize("operation", INCIDENT_OPERATIONS)
def test_a_forged_operation_on_an_incident_is_forbidden(operation: str, door: Door) -> None:
    incident = incident_of(failed())
    url = reverse(f"admin:workflows_incident_{operation}", args=[incident.pk])

    answer = door("viewers").post(url, {"note": "x", "arguments": "{}", "output": "1"})

    assert answer.status_code == 403
    assert Incident.objects.get(pk=incident.pk).resolution == ""


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_a_forged_bulk_action_does_nothing(action: str, door: Door) -> None:
    run = started()
    form = {"action": action, "_selected_action": str(run.pk), "decided": "1"}

    door("viewers").post(reverse("admin:workflows_run_changelist"), form)

    assert Run.objects.get(pk=run.pk).state == "RUNNING"


def test_a_viewer_sees_the_run_page_without_buttons(door: Door) -> None:
    run = failed()
    url = reverse("admin:workflows_run_change", args=[run.pk])

    seen = door("viewers").get(url).content.decode()

    assert "The order is not there." in seen
    assert 'class="btn btn-' not in seen


def test_an_operator_sees_the_buttons_that_the_state_allows(door: Door) -> None:
    run = started()
    url = reverse("admin:workflows_run_change", args=[run.pk])

    seen = door("operators").get(url).content.decode()

    assert reverse("admin:workflows_run_pause", args=[run.pk]) in seen
    assert reverse("admin:workflows_run_resume", args=[run.pk]) not in seen


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("workflows_workflow_apply", 0), ("workflows_workflow_start", 1)],
)
def test_a_viewer_neither_applies_nor_starts(name: str, arguments: int, door: Door) -> None:
    run = completed()
    url = reverse(f"admin:{name}", args=[run.workflow_id][:arguments])

    answer = door("viewers").post(url, {"text": "workflow: x"})

    assert answer.status_code == 403


@pytest.mark.parametrize(
    "name",
    ["workflows_run_change", "workflows_step_change", "workflows_incident_change"],
)
def test_staff_without_a_role_sees_no_page(name: str, door: Door) -> None:
    run = failed()
    incident = incident_of(run)
    key = {"run": run.pk, "step": incident.step_id, "incident": incident.pk}[name.split("_")[1]]

    answer = door("").get(reverse(f"admin:{name}", args=[key]))

    assert answer.status_code == 403


def test_what_is_not_there_or_not_allowed_says_so_and_leads_back(door: Door) -> None:
    nobodys = "0198c5a0-1b2c-7d3e-8f40-123456789abc"
    missing = door("viewers").get(reverse("admin:workflows_run_change", args=[nobodys]))
    refused = door("").get(reverse("admin:workflows_run_change", args=[failed().pk]))

    assert f"There is no run {nobodys}" in missing.content.decode()
    assert "There is no such page" in missing.content.decode()
    assert "This is not for you" in refused.content.decode()
    assert all('href="/admin/"' in answer.content.decode() for answer in (missing, refused))


def test_the_live_part_is_for_those_who_may_see_runs(door: Door) -> None:
    url = reverse("live-run", args=[started().pk])

    assert door("viewers").get(url).status_code == 200
    assert door("").get(url).status_code == 403
    assert Client().get(url).status_code == 302


def test_the_live_part_is_sent_only_when_the_journal_has_moved(door: Door) -> None:
    run, client = started(), door("viewers")
    url = reverse("live-run", args=[run.pk])
    mark = newest_mark(run.pk)

    unchanged = client.get(url, {"seen": mark}).status_code
    worked_off(run.pk, steps=1)

    assert unchanged == 204
    assert client.get(url, {"seen": mark}).status_code == 200


@pytest.mark.parametrize("key", ["00000000-0000-7000-8000-000000000000", "nonsense"])
@pytest.mark.parametrize("model", ["run", "step", "incident", "workflow", "version"])
def test_what_is_not_there_is_not_found(model: str, key: str, door: Door) -> None:
    answer = door("root").get(reverse(f"admin:workflows_{model}_change", args=[key]))

    assert answer.status_code == 404


def test_a_post_without_its_token_is_refused(door: Door) -> None:
    run = started()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = door("root").cookies

    answer = strict.post(reverse("admin:workflows_run_cancel", args=[run.pk]))

    assert answer.status_code == 403
    assert Run.objects.get(pk=run.pk).state == "RUNNING"
