"""The tests' own database, and one that is not there."""

import os
import subprocess
import sys
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from orchestrator.env import ROOT
from workflows import store


@pytest.mark.django_db
def test_the_database_is_the_embedded_postgresql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SHOW fsync")

        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db
def test_what_the_store_marks_is_prepared_on_the_server_and_nothing_else() -> None:
    for _ in range(9):
        store.why_queued(UUID(int=0), "only", 1)
        store.any_due(now=store.now())

    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        prepared = [row[0].strip() for row in cursor.fetchall()]
    assert any(one.startswith("SELECT reason FROM workflows_step") for one in prepared)
    assert not any("deadline_at" in one for one in prepared)


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
