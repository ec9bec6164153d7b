from collections.abc import Callable

import pytest
from django.test import Client

from tests.admin.builders import person

Door = Callable[[str], Client]


@pytest.fixture
def door(db: None) -> Door:
    """Return the admin as a person with one role sees it."""

    def open_as(role: str) -> Client:
        client = Client()
        user = person(role, name=f"{role or 'nobody'}-ann")
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return open_as
