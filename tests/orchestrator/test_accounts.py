"""The first start makes an account; later ones leave accounts alone."""

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.test import RequestFactory

from orchestrator.accounts import ensure_admin


@pytest.mark.django_db
def test_the_first_start_makes_an_administrator_whose_password_works() -> None:
    account = ensure_admin()

    assert account
    request = RequestFactory().post("/")
    user = authenticate(request, username=account.username, password=account.password)
    assert user
    assert user.is_superuser


@pytest.mark.django_db
def test_a_later_start_makes_none() -> None:
    ensure_admin()

    assert ensure_admin() is None
    assert get_user_model().objects.count() == 1
