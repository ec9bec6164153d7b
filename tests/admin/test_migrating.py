"""Having selected runs go over to another version, from the list of runs."""

from collections.abc import Callable
from html import unescape
from re import search
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from tests.admin.builders import TWO_STEPS, started, worked_off
from workflows.models import Migration, Run
from workflows.services.definitions import apply_definition

pytestmark = pytest.mark.django_db

Door = Callable[[str], Client]
RUNS = "admin:workflows_run_changelist"


def a_version(text: str) -> None:
    apply_definition(text=text, source="order.yaml", by="person:ann")


def ask(client: Client, *runs: Run, **given: Any) -> Any:
    chosen = [str(run.pk) for run in runs]
    order = {"action": "migrate", "_selected_action": chosen, **given}
    return client.post(reverse(RUNS), order)


def seen_on(page: Any) -> str:
    found = search('name="seen" value="([^"]*)"', page.content.decode())
    assert found is not None
    return unescape(found[1])


def test_a_preflight_is_shown_before_anything_is_done(door: Door) -> None:
    run = started()
    a_version(TWO_STEPS + "  - {id: thank, uses: log, with: {message: thank}}\n")

    page = ask(door("operators"), run).content.decode()

    assert "Can go over" in page
    assert "it is new, and is carried out when its turn comes" in page
    assert Run.objects.get(pk=run.pk).version.number == 1


def test_runs_go_over_once_somebody_has_seen_what_that_means(door: Door) -> None:
    runs, client = [started(), started()], door("operators")
    a_version(TWO_STEPS + "  - {id: thank, uses: log, with: {message: thank}}\n")
    seen = seen_on(ask(client, *runs))

    answer = ask(client, *runs, version="2", decided="1", seen=seen)

    assert [str(one) for one in get_messages(answer.wsgi_request)] == ["Migrate: 2 done."]
    assert set(Migration.objects.values_list("by", flat=True)) == {"person:operators-ann"}


def test_what_became_of_a_step_is_asked_and_done_when_it_was_looked_at(door: Door) -> None:
    run, client = started(), door("operators")
    worked_off(run.pk, steps=1)
    a_version(TWO_STEPS.replace("id: fetch", "id: get"))
    asked = ask(client, run)
    said = {"version": "2", "becomes fetch": "get"}

    unseen = ask(client, run, **said, decided="1", seen=seen_on(asked))
    ask(client, run, **said, decided="1", seen=seen_on(unseen))

    assert "Need to be told what became of steps" in asked.content.decode()
    assert "it is get now" in asked.content.decode()
    assert "Can go over" in unseen.content.decode()
    assert Run.objects.get(pk=run.pk).version.number == 2
    assert set(run.steps.values_list("path", flat=True)) >= {"get"}


def test_the_run_page_says_which_versions_it_had(door: Door) -> None:
    run, client = started(), door("operators")
    a_version(TWO_STEPS + "  - {id: thank, uses: log, with: {message: thank}}\n")
    ask(client, run, version="2", decided="1", seen=seen_on(ask(client, run)))

    page = client.get(reverse("admin:workflows_run_change", args=[run.pk])).content.decode()

    assert "Was in v1" in page
    assert "operators-ann had it go over to v2" in page


def test_the_page_of_a_step_that_is_kept_aside_shows_what_it_was(door: Door) -> None:
    run, client = started(), door("operators")
    worked_off(run.pk, steps=1)
    a_version(TWO_STEPS.replace("id: fetch", "id: get"))
    said = {"version": "2", "becomes fetch": "~", "becomes get": "~"}
    ask(client, run, **said, decided="1", seen=seen_on(ask(client, run, **said)))

    [aside] = run.steps.filter(path="fetch~1")
    page = client.get(reverse("admin:workflows_step_change", args=[aside.pk]))

    assert page.status_code == 200
    assert "fetch~1" in page.content.decode()


def test_runs_of_several_workflows_are_not_migrated_at_once(door: Door) -> None:
    runs = started(), started(TWO_STEPS.replace("workflow: ", "workflow: other-"))

    answer = ask(door("operators"), *runs)

    assert "Select runs of one workflow" in str(next(iter(get_messages(answer.wsgi_request))))


def test_who_may_only_look_is_not_offered_it(door: Door) -> None:
    run = started()

    answer = ask(door("viewers"), run)

    assert "Can go over" not in answer.content.decode()
    assert "Migrate the selected runs" not in answer.content.decode()
    assert not Migration.objects.exists()


def test_runs_that_are_in_the_version_already_are_told_apart(door: Door) -> None:
    run = started()

    page = ask(door("operators"), run).content.decode()

    assert "Are in it already" in page
    assert "Can go over" not in page
    assert "None of them can go over to v1" in page
