import pytest
from pytest_django.fixtures import Settings

from environments.models import Environment, Profile, ProfilePool
from environments.services import ensure_default
from environments.vault import seal
from tests.commands.builders import manage
from workflows.management.door import Exit

pytestmark = pytest.mark.django_db


def with_keys(settings: Settings, *masters: str) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"VAULT_KEYS": masters}


def a_profile() -> Profile:
    ensure_default()
    pool = ProfilePool.objects.create(environment=Environment.objects.get(), name="bots")
    return Profile.objects.create(pool=pool, name="ann", context=seal("default", {"a": 1}))


def test_what_was_sealed_anew_is_told_in_numbers(settings: Settings) -> None:
    with_keys(settings, "o" * 32)
    a_profile()
    with_keys(settings, "n" * 32, "o" * 32)

    first, second = manage("reseal"), manage("reseal", "--json")

    assert "Sealed 1 under the newest key; 0 were under it already." in first.out
    assert second.json() == {"sealed_anew": 0, "sealed_already": 1, "unreadable": {}}


def test_what_cannot_be_read_is_named_by_environment_and_is_a_refusal(settings: Settings) -> None:
    with_keys(settings, "o" * 32)
    a_profile()
    with_keys(settings, "n" * 32)

    answer = manage("reseal")

    assert answer.status == Exit.REFUSED
    assert "Not read: 1 of default" in answer.err
