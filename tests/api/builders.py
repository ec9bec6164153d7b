"""Callers of the API, with the permissions that they are given and no others."""

from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from knox.models import AuthToken
from rest_framework.test import APIClient

API = "/api/v1"
PASSWORD = "correct horse battery staple"
_NUMBERS = count(1)


def a_user(*permissions: str, name: str = "") -> User:
    """Create a user with permissions such as `view_run`."""
    user = User.objects.create_user(name or f"user{next(_NUMBERS)}", password=PASSWORD)
    granted = Permission.objects.filter(codename__in=permissions)
    assert len(granted) == len(permissions), permissions
    user.user_permissions.set(granted)
    return user


def a_client(*permissions: str, name: str = "") -> APIClient:
    """Return a client that sends the token of such a user."""
    _, token = AuthToken.objects.create(a_user(*permissions, name=name))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """Return the refusal; it must be a problem of this status."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    return problem
