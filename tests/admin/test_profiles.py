import json
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from environments.models import Environment, Profile, ProfilePool
from environments.services import ensure_default
from environments.vault import seal, unseal
from tests.workflows.builders import a_run, claim, step, task

Door = Callable[[str], Client]

WHY = {"note": "I have looked, and it is logged in."}


@pytest.fixture
def pool(db: None) -> ProfilePool:
    ensure_default()
    environment = Environment.objects.get()
    return ProfilePool.objects.create(environment=environment, name="crm-bots")


@pytest.fixture
def ann(pool: ProfilePool) -> Profile:
    """A tainted profile."""
    sealed = seal("default", {"cookie": "s3cret"})
    return Profile.objects.create(pool=pool, name="ann", context=sealed, state="TAINTED")


def url_of(profile: Profile, name: str) -> str:
    return reverse("admin:environments_profile_operate", args=[profile.pk, name])


def page_of(profile: Profile) -> str:
    return reverse("admin:environments_profile_change", args=[profile.pk])


def test_a_manager_makes_a_profile_and_its_context_is_sealed(pool: ProfilePool, door: Door) -> None:
    given = {"pool": pool.pk, "name": "ben", "content": '{"password": "hunter22"}'}

    answer = door("managers").post(reverse("admin:environments_profile_add"), given)

    made = Profile.objects.get()
    assert answer.status_code == 302
    assert unseal("default", made.context) == {"password": "hunter22"}
    assert "hunter22" not in made.context


def test_a_context_that_is_no_object_is_refused(pool: ProfilePool, door: Door) -> None:
    given = {"pool": pool.pk, "name": "ben", "content": "[1]"}

    answer = door("managers").post(reverse("admin:environments_profile_add"), given)

    assert "Give an object" in answer.content.decode()
    assert not Profile.objects.exists()


def test_no_page_shows_what_is_in_a_profile(ann: Profile, door: Door) -> None:
    client = door("root")

    for page in (
        page_of(ann),
        url_of(ann, "renew"),
        reverse("admin:environments_profile_changelist"),
    ):
        answer = client.get(page)
        seen = answer.content.decode()
        assert answer.status_code == 200
        assert "ann" in seen
        assert "s3cret" not in seen
        assert ann.context not in seen


def test_an_operator_clears_a_tainted_profile_and_who_waits_for_it_is_due(
    ann: Profile, door: Door
) -> None:
    run = a_run(task("only", profile={"pool": "crm-bots"}))
    assert claim(run, "only") is None

    door("operators").post(url_of(ann, "clear"), WHY)

    ann.refresh_from_db()
    assert (ann.state, ann.path) == ("LEASED", "only")
    assert step(run, "only").wake_at <= ann.leased_at


def test_the_page_of_a_step_that_waits_says_for_which_pool(ann: Profile, door: Door) -> None:
    run = a_run(task("only", profile={"pool": "crm-bots"}))
    claim(run, "only")

    page = reverse("admin:workflows_step_change", args=[step(run, "only").pk])

    assert "waits for a profile of crm-bots" in door("viewers").get(page).content.decode()


def test_a_viewer_may_do_nothing_to_a_profile(ann: Profile, door: Door) -> None:
    client = door("viewers")

    assert client.post(url_of(ann, "clear"), WHY).status_code == 403
    assert client.post(url_of(ann, "renew"), {"content": "{}"}).status_code == 403
    assert 'class="btn btn-' not in client.get(page_of(ann)).content.decode()


def test_a_manager_gives_a_profile_another_context(ann: Profile, door: Door) -> None:
    fresh = {"content": json.dumps({"cookie": "fresh"})}

    door("managers").post(url_of(ann, "renew"), fresh)

    ann.refresh_from_db()
    assert unseal("default", ann.context) == {"cookie": "fresh"}
    assert ann.state == "TAINTED"


def test_an_operator_empties_the_folder_of_a_profile(ann: Profile, door: Door) -> None:
    client = door("operators")

    client.post(url_of(ann, "empty"))

    ann.refresh_from_db()
    assert (ann.turn, ann.state) == (2, "TAINTED")
    assert f"default/{ann.pk}.2" in client.get(page_of(ann)).content.decode()


def test_a_profile_in_use_is_not_given_another_context(ann: Profile, door: Door) -> None:
    door("operators").post(url_of(ann, "clear"), WHY)
    assert claim(a_run(task("only", profile={"pool": "crm-bots"})), "only") is not None

    answer = door("managers").post(url_of(ann, "renew"), {"content": '{"a": 1}'}, follow=True)

    assert "is leased" in answer.content.decode()
