import gzip
import json
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from axes.models import AccessLog
from django.utils import timezone
from pytest_django.fixtures import Settings

from tests.commands.builders import INLINE, a_run, an_incident, manage, manage_on_terminal
from tests.workflows.builders import sql
from workflows.management.door import Exit
from workflows.models import Pruning, Run
from workflows.models.ids import first_id_of
from workflows.services import retention
from workflows.services.events import publish_event

pytestmark = pytest.mark.django_db

LAST_HALF = 2**64 - 1


def an_old_run() -> Run:
    """Have a run that was completed a hundred days ago: its id says so too."""
    run, ended = a_run(INLINE), timezone.now() - timedelta(days=100)
    old = UUID(int=first_id_of(ended).int | run.pk.int & LAST_HALF)
    sql("SET LOCAL session_replication_role = replica")
    sql("UPDATE workflows_journal SET run_id = %s WHERE run_id = %s", old, run.pk)
    sql("UPDATE workflows_step SET run_id = %s WHERE run_id = %s", old, run.pk)
    sql("UPDATE workflows_run SET id = %s, finished_at = %s WHERE id = %s", old, ended, run.pk)
    sql("SET LOCAL session_replication_role = origin")
    return Run.objects.get(pk=old)


def test_without_bounds_the_settings_decide() -> None:
    an_old_run()
    young = a_run(INLINE)

    answer = manage("prune", "--yes")

    assert answer.status == 0
    assert "Removed 1 runs, 0 events and 0 lines." in answer.out
    assert [run.pk for run in Run.objects.all()] == [young.pk]


def test_without_bounds_old_events_and_lines_go_as_well() -> None:
    publish_event(event={"id": "e1", "source": "/t", "type": "t", "specversion": "1.0"}, by="t")
    sql("UPDATE workflows_receivedevent SET received_at = '2020-01-01', wake_at = NULL")
    AccessLog.objects.create(username="ann", ip_address="127.0.0.1")
    AccessLog.objects.update(attempt_time="2020-01-01T00:00:00Z")

    bounded = manage("prune", "--older-than", "1s", "--yes", "--json").json()["removed"]
    removed = manage("prune", "--yes", "--json").json()["removed"]

    assert (bounded["events"], bounded["lines"]) == (0, 0)
    assert (removed["events"], removed["lines"]) == (1, 1)


def test_a_dry_run_says_what_would_be_removed_and_removes_nothing() -> None:
    an_old_run()

    answer = manage("prune", "--dry-run", "--json")

    found = answer.json()["found"]
    assert (found["runs"], found["steps"]) == (1, 2)
    assert found["journal"] > 0
    assert found["bytes"] > 0
    assert answer.json()["removed"]["runs"] == 0
    assert Run.objects.count() == 1


def test_other_bounds_are_asked_for_by_age_and_state() -> None:
    a_run(INLINE)
    kept = a_run(INLINE, input={"size": 9})

    answer = manage("prune", "--older-than", "0s", "--state", "completed", "--yes", "--json")

    assert answer.json()["removed"]["runs"] == 1
    assert answer.json()["bounds"] == "COMPLETED 0 d"
    assert [run.pk for run in Run.objects.all()] == [kept.pk]


def test_nothing_is_removed_where_nobody_can_be_asked() -> None:
    an_old_run()

    answer = manage("prune")

    assert answer.status == Exit.REFUSED
    assert "Repeat the command with --yes" in answer.err
    assert Run.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_person_is_asked_before_anything_is_removed(process_env: dict[str, str]) -> None:
    a_run(INLINE)

    answer = manage_on_terminal("prune", "--older-than", "0s", types="n\n", **process_env)

    assert answer.status == Exit.REFUSED
    assert "Remove these 1 runs for good?" in answer.err
    assert Run.objects.count() == 1


def test_a_run_with_an_open_incident_is_never_removed() -> None:
    an_incident()

    answer = manage("prune", "--older-than", "0s", "--yes")

    assert "No run is older than" in answer.out
    assert Run.objects.count() == 1


def test_where_the_settings_keep_for_ever_an_age_must_be_given(settings: Settings) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"RETENTION_DAYS": {"FAILED": 0}}

    answer = manage("prune", "--state", "FAILED", "--yes")

    assert answer.status == Exit.REFUSED
    assert "--older-than" in answer.err


def test_removed_runs_are_kept_in_the_archive(tmp_path: Path) -> None:
    run = a_run(INLINE)

    manage("prune", "--older-than", "0s", "--archive", tmp_path / "runs", "--yes")

    [path] = (tmp_path / "runs").iterdir()
    [line] = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert line["run"]["id"] == str(run.pk)
    assert Pruning.objects.get().archive == str(tmp_path / "runs")


def test_ctrl_c_says_how_far_it_came_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    monkeypatch.setattr(time, "sleep", _interrupt)
    for _ in range(3):
        a_run(INLINE)

    with pytest.raises(SystemExit) as left:
        manage("prune", "--older-than", "0s", "--yes")

    assert left.value.code == Exit.DETACHED
    assert Run.objects.count() == 2
    assert Pruning.objects.get().runs == 1


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt
