"""The tests' own database."""

import pytest
from django.core.management import call_command
from django.db import connection


@pytest.mark.django_db
def test_the_database_is_the_embedded_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")

        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db
def test_the_models_have_all_their_migrations() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
