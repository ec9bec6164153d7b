from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from environments.models import Environment, Profile, ProfilePool
from environments.services import ensure_default
from tests.workflows.builders import ANN, a_run, claim, step, task
from workflows.models import Breaker, Run
from workflows.services.guards import open_guard

Door = Callable[[str], Client]

WHY = {"note": "The CRM is being moved."}


@pytest.fixture
def crm(db: None) -> Breaker:
    """A guard that a person has opened."""
    ensure_default()
    open_guard(environment="default", guard="crm", why="moved", by=ANN)
    return Breaker.objects.get()


def parked() -> Run:
    run = a_run(task("only", guard="crm"))
    assert claim(run, "only") is None
    return run


def url_of(breaker: Breaker, name: str) -> str:
    return reverse("admin:workflows_breaker_operate", args=[breaker.pk, name])


def test_the_list_of_guards_says_how_many_steps_are_parked(crm: Breaker, door: Door) -> None:
    for _ in range(3):
        parked()

    seen = door("viewers").get(reverse("admin:workflows_breaker_changelist")).content.decode()

    assert "until somebody closes it" in seen
    assert '<td class="field-parked' in seen
    assert ">3<" in seen.replace("\n", "").replace(" ", "")


def test_the_pages_of_a_parked_step_and_its_run_say_what_it_waits_for(
    crm: Breaker, door: Door
) -> None:
    run = parked()
    client = door("viewers")

    for page in (
        reverse("admin:workflows_step_change", args=[step(run, "only").pk]),
        reverse("admin:workflows_run_change", args=[run.pk]),
    ):
        assert "arked: crm is open since" in client.get(page).content.decode()


def test_the_page_of_an_open_guard_begins_with_what_is_the_matter_and_what_to_do(
    crm: Breaker, door: Door
) -> None:
    parked()

    seen = door("viewers").get(reverse("admin:workflows_breaker_change", args=[crm.pk]))

    head = seen.content.decode().partition("Settings")[0]
    assert "until somebody closes it: moved (ann)" in head
    assert "1 step is parked before it. Look whether what it guards is well again" in head


def test_the_first_page_tells_of_open_guards_and_of_tainted_profiles(
    crm: Breaker, door: Door
) -> None:
    parked()
    pool = ProfilePool.objects.create(environment=crm.environment, name="crm-bots")
    for name in ("ann", "ben"):
        Profile.objects.create(pool=pool, name=name, state="TAINTED")

    seen = door("viewers").get(reverse("admin:index")).content.decode()

    assert "1 step is parked before it" in seen
    assert "2 profiles are tainted" in seen


def test_an_operator_closes_a_guard_with_a_reason(crm: Breaker, door: Door) -> None:
    client = door("operators")

    refused = client.post(url_of(crm, "close"), {"note": ""})
    assert "This field is required" in refused.content.decode()
    client.post(url_of(crm, "close"), WHY)

    crm.refresh_from_db()
    assert crm.state == "CLOSED"
    assert "operators-ann" in crm.why


def test_a_viewer_can_neither_open_nor_close_a_guard(crm: Breaker, door: Door) -> None:
    client = door("viewers")

    assert client.post(url_of(crm, "close"), WHY).status_code == 403
    page = reverse("admin:workflows_breaker_change", args=[crm.pk])
    seen = client.get(page).content.decode()
    assert "until somebody closes it" in seen
    assert 'class="btn btn-' not in seen


def test_a_manager_changes_the_settings_and_nothing_of_where_the_guard_stands(
    crm: Breaker, door: Door
) -> None:
    page = reverse("admin:workflows_breaker_change", args=[crm.pk])
    form = {"threshold": 9, "window": 10, "cool_down": 11, "longest_cool_down": 12}
    inline = {"journal-TOTAL_FORMS": 0, "journal-INITIAL_FORMS": 0}

    answer = door("managers").post(page, form | inline)

    assert answer.status_code == 302
    after = Breaker.objects.get()
    assert (after.threshold, after.window, after.cool_down) == (9, 10, 11)
    assert (after.state, after.held) == ("OPEN", True)


def test_a_manager_gives_a_guard_settings_before_it_ever_failed(door: Door, db: None) -> None:
    ensure_default()
    form = {"threshold": 1, "window": 10, "cool_down": 11, "longest_cool_down": 12}
    place = {"environment": str(Environment.objects.get().pk), "name": "erp"}

    door("managers").post(reverse("admin:workflows_breaker_add"), form | place)

    assert (Breaker.objects.get().name, Breaker.objects.get().state) == ("erp", "CLOSED")


def test_the_page_of_a_guard_asks_once_for_what_is_parked(crm: Breaker, door: Door) -> None:
    client = door("viewers")
    parked()

    with CaptureQueriesContext(connection) as queries:
        client.get(reverse("admin:workflows_breaker_change", args=[crm.pk]))

    asked = [one["sql"] for one in queries if "workflows_parking" in one["sql"]]
    assert len(asked) == 2, "how many, and the first of them"
