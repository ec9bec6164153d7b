"""The first account: without it nobody could open the admin of a fresh installation."""

import secrets
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model


@dataclass(frozen=True, slots=True)
class Account:
    """A name and the password in clear, to be shown once."""

    username: str
    password: str


def ensure_admin() -> Account | None:
    """Create the superuser when there is none at all, and return it then."""
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists():
        return None
    chosen = settings.ENV.admin_password
    account = Account(
        username=settings.ENV.admin_username,
        password=chosen.get_secret_value() if chosen else secrets.token_urlsafe(12),
    )
    users.create_superuser(username=account.username, password=account.password)
    return account
