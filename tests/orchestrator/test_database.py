"""The tests' own database, and one that is not there."""

import os
import subprocess
import sys

import pytest
from django.core.management import call_command
from django.db import connection

from orchestrator.env import ROOT


@pytest.mark.django_db
def test_the_database_is_the_embedded_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")

        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db
def test_the_models_have_all_their_migrations() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_a_database_that_does_not_answer_is_a_sentence_and_a_status_of_its_own() -> None:
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "SECRET_KEY": "s" * 40}

    command = [sys.executable, "manage.py", "run", "list"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | away, capture_output=True, text=True, check=False
    )

    assert done.returncode == 3
    assert done.stderr.startswith("The database at DATABASE_URL does not answer.")
    assert "Traceback" not in done.stderr
