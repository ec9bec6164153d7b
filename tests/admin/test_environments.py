from collections.abc import Callable

from django.test import Client
from django.urls import reverse

from environments.models import Environment, EnvironmentJournal
from environments.services import create_environment

Door = Callable[[str], Client]
FORM = {
    "name": "lab",
    "description": "",
    "classes": '["default", "heavy"]',
    "variables": "{}",
    "journal-TOTAL_FORMS": "0",
    "journal-INITIAL_FORMS": "0",
}


def move_url(environment: Environment, state: str) -> str:
    return reverse("admin:environments_environment_move", args=[environment.pk, state])


def test_an_environment_is_created_provisioning_by_its_person(door: Door) -> None:
    door("managers").post(reverse("admin:environments_environment_add"), FORM)

    line = EnvironmentJournal.objects.get(environment__name="lab")
    assert (line.after, line.actor) == ("PROVISIONING", "person:managers-ann")


def test_classes_that_no_step_could_ask_for_are_refused_in_the_form(door: Door) -> None:
    wrong = {**FORM, "classes": '["Heavy Ones"]'}

    page = door("managers").post(reverse("admin:environments_environment_add"), wrong)

    assert "no queue class" in page.context["errors"][0][0]
    assert Environment.objects.count() == 0


def test_parts_change_and_the_state_does_not(door: Door) -> None:
    made = create_environment(name="lab", by="person:ann")
    form = {**FORM, "variables": '{"url": "http://x"}', "state": "RETIRED"}

    door("managers").post(reverse("admin:environments_environment_change", args=[made.pk]), form)

    made.refresh_from_db()
    assert (made.variables, made.state) == ({"url": "http://x"}, "PROVISIONING")


def test_an_environment_admits_whom_the_form_names_and_nobody_when_it_names_none(
    door: Door,
) -> None:
    made, client = create_environment(name="lab", by="person:ann"), door("managers")
    page = reverse("admin:environments_environment_change", args=[made.pk])

    client.post(page, {**FORM, "admits": '["default"]'})
    admitted = Environment.objects.get(pk=made.pk).admits
    client.post(page, {**FORM, "admits": ""})

    assert admitted == ["default"]
    assert Environment.objects.get(pk=made.pk).admits == []


def test_a_move_asks_first_and_is_journalled(door: Door) -> None:
    made, client = create_environment(name="lab", by="person:ann"), door("managers")

    asked = client.get(move_url(made, "ACTIVE"))
    client.post(move_url(made, "ACTIVE"))

    made.refresh_from_db()
    assert asked.status_code == 200
    assert made.state == "ACTIVE"


def test_a_forged_move_is_forbidden(door: Door) -> None:
    made = create_environment(name="lab", by="person:ann")

    answer = door("operators").post(move_url(made, "ACTIVE"))

    made.refresh_from_db()
    assert (answer.status_code, made.state) == (403, "PROVISIONING")


def test_the_page_offers_only_the_moves_that_its_state_allows(door: Door) -> None:
    made = create_environment(name="lab", by="person:ann")
    url = reverse("admin:environments_environment_change", args=[made.pk])

    seen = door("managers").get(url).content.decode()

    assert move_url(made, "ACTIVE") in seen
    assert move_url(made, "SUSPENDED") not in seen
