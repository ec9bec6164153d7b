from collections.abc import Callable

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from knox.models import AuthToken

from environments.services import create_environment
from tests.admin.builders import TWO_STEPS, completed, failed, incident_of, started
from workflows.models import Run

LISTS = (
    "workflows_workflow",
    "workflows_version",
    "workflows_run",
    "workflows_breaker",
    "environments_profile",
    "environments_profilepool",
    "workflows_step",
    "workflows_attempt",
    "workflows_incident",
    "workflows_approval",
    "workflows_delegation",
    "workflows_journal",
    "workflows_pruning",
    "environments_environment",
)
OTHERS = (
    "auth_user",
    "auth_group",
    "knox_authtoken",
    "django_celery_beat_periodictask",
    "django_celery_beat_intervalschedule",
    "django_celery_beat_crontabschedule",
    "django_celery_beat_clockedschedule",
    "django_celery_beat_solarschedule",
)
Door = Callable[[str], Client]


def queries_of(client: Client, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = client.get(url)
    assert answer.status_code == 200
    return len(captured)


def named(name: str) -> str:
    return TWO_STEPS.replace("two-steps", name)


@pytest.mark.parametrize("model", LISTS)
def test_a_list_of_twenty_costs_as_many_queries_as_a_list_of_one(model: str, door: Door) -> None:
    client, url = door("root"), reverse(f"admin:{model}_changelist")
    failed(named("first"))
    client.get(url)
    for_one = queries_of(client, url)
    for number in range(19):
        failed(named(f"flow-{number}"))
        create_environment(name=f"env-{number}", by="person:ann")

    for_twenty = queries_of(client, url)

    assert for_twenty == for_one


@pytest.mark.parametrize("model", LISTS + OTHERS)
def test_a_list_without_rows_opens(model: str, door: Door) -> None:
    answer = door("root").get(reverse(f"admin:{model}_changelist"))

    assert answer.status_code == 200


@pytest.mark.parametrize("model", OTHERS)
def test_the_form_of_anothers_model_opens(model: str, door: Door) -> None:
    answer = door("root").get(reverse(f"admin:{model}_add"))

    assert answer.status_code == 200


def test_a_run_is_found_by_the_beginning_of_its_id(door: Door) -> None:
    run = completed()

    url = reverse("admin:workflows_run_changelist")
    answer = door("viewers").get(url, {"q": str(run.pk)[:30]})

    assert [one.pk for one in answer.context["cl"].result_list] == [run.pk]


def test_runs_are_filtered_by_what_needs_a_person(door: Door) -> None:
    completed()
    broken = failed()

    answer = door("viewers").get(
        reverse("admin:workflows_run_changelist"), {"incidents": "open", "age": "hour"}
    )

    assert [one.pk for one in answer.context["cl"].result_list] == [broken.pk]


@pytest.mark.parametrize("level", ["top", "child", "of"])
def test_child_runs_are_told_from_those_that_no_step_has_started(level: str, door: Door) -> None:
    top, child = started(), started()
    Run.objects.filter(pk=child.pk).update(parent=top, parent_path="call")
    query = {"parent": str(top.pk)} if level == "of" else {"level": level}

    answer = door("viewers").get(reverse("admin:workflows_run_changelist"), query)

    wanted = top if level == "top" else child
    assert [one.pk for one in answer.context["cl"].result_list] == [wanted.pk]


def test_the_incidents_shown_at_first_are_the_open_ones_by_their_causes(door: Door) -> None:
    failed()
    failed()
    started()

    answer = door("viewers").get(reverse("admin:workflows_incident_changelist"))

    causes = [(cause["code"], cause["number"]) for cause in answer.context["causes"]]
    assert causes == [("http.404", 2)]
    assert len(answer.context["cl"].result_list) == 2


def test_a_cause_leads_to_its_incidents(door: Door) -> None:
    run = failed()
    url = reverse("admin:workflows_incident_changelist")

    answer = door("viewers").get(
        url, {"run__workflow__id__exact": str(run.workflow_id), "code": "http.404"}
    )

    assert [one.pk for one in answer.context["cl"].result_list] == [incident_of(run).pk]


def test_no_list_counts_more_rows_than_its_bound(door: Door) -> None:
    completed()
    client = door("viewers")

    with CaptureQueriesContext(connection) as captured:
        client.get(reverse("admin:workflows_journal_changelist"))

    counting = [one["sql"] for one in captured if "COUNT(*)" in one["sql"].upper()]
    assert all("LIMIT" in sql for sql in counting)
    assert counting


@pytest.mark.parametrize("model", LISTS)
def test_a_list_without_rows_says_once_what_would_be_there(model: str, door: Door) -> None:
    page = door("root").get(reverse(f"admin:{model}_changelist"))

    shown = page.context["cl"].model_admin
    assert getattr(shown, "greets", False) or shown.nothing
    assert page.content.decode().count('class="card empty') == 1


def test_a_token_is_told_once_when_it_is_made(door: Door) -> None:
    client = door("root")
    user = get_user_model().objects.get(username="root-ann")

    answer = client.post(reverse("admin:knox_authtoken_add"), {"user": user.pk}, follow=True)

    [said] = [str(one) for one in answer.context["messages"] if str(one).startswith("TOKEN ")]
    token, made = said.removeprefix("TOKEN "), AuthToken.objects.get(user=user)
    assert token.startswith(made.token_key)
    assert token not in client.get(reverse("admin:knox_authtoken_changelist")).content.decode()
