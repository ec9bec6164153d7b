import json

import pytest

from environments.models import Environment, Profile, ProfileJournal, ProfilePool
from environments.services import ensure_default
from environments.vault import seal
from tests.api.builders import API, a_client, problem_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann() -> Profile:
    """A tainted profile."""
    ensure_default()
    environment = Environment.objects.get()
    pool = ProfilePool.objects.create(environment=environment, name="crm-bots")
    sealed = seal("default", {"cookie": "s3cret"})
    state = "TAINTED"
    return Profile.objects.create(pool=pool, name="ann", context=sealed, state=state, why="lost")


def url_of(profile: Profile, act: str = "") -> str:
    return f"{API}/profiles/{profile.pk}/{act}"


def test_profiles_are_listed_without_what_is_in_them(ann: Profile) -> None:
    client = a_client("view_profile")

    answer = client.get(f"{API}/profiles/", {"pool": "crm-bots", "state": "TAINTED"})

    [shown] = answer.json()["results"]
    assert (shown["name"], shown["state"], shown["why"]) == ("ann", "TAINTED", "lost")
    assert "s3cret" not in json.dumps(shown)
    assert ann.context not in json.dumps(shown)


def test_a_tainted_profile_is_cleared_with_a_reason_and_its_name_is_in_the_journal(
    ann: Profile,
) -> None:
    client = a_client("operate_profile", name="ben")

    problem_of(client.post(url_of(ann, "clear/"), {}), 400)
    answer = client.post(url_of(ann, "clear/"), {"why": "It is logged in as it should be."})

    assert answer.json()["state"] == "FREE"
    [line] = ProfileJournal.objects.all()
    assert line.actor.startswith("token:ben/")
    assert "logged in" in line.why


def test_a_profile_is_disabled_and_enabled(ann: Profile) -> None:
    client = a_client("operate_profile")

    disabled = client.post(url_of(ann, "disable/"), {"why": "The login is locked."})
    enabled = client.post(url_of(ann, "enable/"), {"why": "It is unlocked."})

    assert (disabled.json()["state"], enabled.json()["state"]) == ("DISABLED", "FREE")


def test_the_folder_of_a_profile_is_emptied(ann: Profile) -> None:
    client = a_client("operate_profile")

    answer = client.post(url_of(ann, "empty-folder/"))

    assert answer.json()["folder"] == f"default/{ann.pk}.2"
    assert answer.json()["state"] == "TAINTED"


def test_what_the_state_does_not_allow_is_refused_with_the_state(ann: Profile) -> None:
    problem = problem_of(
        a_client("operate_profile").post(url_of(ann, "enable/"), {"why": "x"}), 409
    )

    assert "ann is tainted" in problem["detail"]


def test_a_profile_that_is_not_there_is_not_found(ann: Profile) -> None:
    client = a_client("operate_profile", "view_profile")

    problem_of(client.get(f"{API}/profiles/999999/"), 404)
    problem_of(client.post(f"{API}/profiles/999999/clear/", {"why": "x"}), 404)
