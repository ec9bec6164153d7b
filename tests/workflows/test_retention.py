import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from axes.models import AccessLog
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from knox.models import AuthToken
from pytest_django.fixtures import Settings

from environments.services import ensure_default
from tests.support.approvals import a_person, a_request, no, say
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    at_once,
    claimed,
    everything,
    fail,
    finish,
    in_future,
    meanwhile,
    open_incidents,
    sql,
    state,
    task,
    work_off,
)
from workflows import store
from workflows.engine.states import FINISHED_RUNS, RunState
from workflows.models import (
    Attempt,
    BreakerJournal,
    Callback,
    Delegation,
    EventEffect,
    Incident,
    Journal,
    Migration,
    Parking,
    Pruning,
    ReceivedEvent,
    Run,
    Step,
    Vote,
    Wait,
)
from workflows.services import retention
from workflows.services.approvals import delegate, delegate_for_a_time
from workflows.services.claiming import claim_step
from workflows.services.errors import InputRefusedError
from workflows.services.events import hand_out, publish_event
from workflows.services.guards import open_guard
from workflows.services.incidents import discard_incident
from workflows.services.plans import pinned
from workflows.services.retention import (
    Policy,
    forecast,
    policy,
    prune,
    prune_by_policy,
    prune_lines,
)
from workflows.services.runs import cancel_run, pause_run
from workflows.store import pruning
from workflows.store.pruning import Counts

pytestmark = pytest.mark.usefixtures("kept")

MONTH = timedelta(days=30)
ALL = Policy(dict.fromkeys(FINISHED_RUNS, MONTH))
LATER = in_future(2 * MONTH.total_seconds())


def completed() -> Run:
    run = a_run(task("first"), task("second"))
    work_off(run)
    return run


def failed() -> Run:
    run = a_run(task("first", retry={"max_attempts": 1}))
    fail(claimed(run, "first"))
    return run


def discarded() -> Run:
    run = failed()
    discard_incident(incident_id=open_incidents(run)[0].pk, note="gone", by=ANN)
    return run


def cancelled() -> Run:
    run = a_run(task("first"))
    cancel_run(run_id=run.pk, by=ANN)
    return run


def pruned(wanted: Policy = ALL, **facts: Any) -> Counts:
    usual: dict[str, Any] = {"now": LATER, "by": ANN}
    return sum(prune(policy=wanted, **(usual | facts)), Counts())


def rows() -> Counts:
    return Counts(*(m.objects.count() for m in (Run, Step, Attempt, Journal, Incident)))


@pytest.mark.parametrize("old", [completed, discarded, cancelled])
def test_an_old_run_goes_with_all_that_belongs_to_it(old: Callable[[], Run]) -> None:
    old()
    there = rows()

    removed = pruned()

    assert removed == there
    assert rows() == Counts()


def test_the_waits_of_an_old_run_go_with_it_and_are_archived(tmp_path: Path) -> None:
    run = a_run({"id": "rest", "wait": {"for": "10m"}})
    cancel_run(run_id=run.pk, by=ANN)

    pruned(archive=tmp_path)

    [archived] = read_back(tmp_path)
    assert [one["end"] for one in archived["waits"]] == ["cancelled"]
    assert not Wait.objects.exists()


def test_the_votes_of_an_old_run_go_with_it_and_are_archived(tmp_path: Path) -> None:
    ben = a_person("ben", "finance")
    a_person("dora")
    request = a_request(approvals=2)
    delegate(approval_id=request.pk, person=ben, to="dora", by="person:ben")
    say(request, ben)
    say(request, a_person("cleo", "finance"), no())
    discard_incident(incident_id=open_incidents(request.run)[0].pk, note="gone", by=ANN)

    pruned(archive=tmp_path)

    [file] = tmp_path.glob("*.gz")
    archived = json.loads(gzip.decompress(file.read_bytes()))
    assert [one["verdict"] for one in archived["votes"]] == ["approve", "reject"]
    assert [one["taker_name"] for one in archived["delegations"]] == ["dora"]
    assert not Vote.objects.exists()
    assert not Delegation.objects.exists()


def test_all_that_belongs_to_a_run_is_known_to_retention() -> None:
    known = {Step, Attempt, Journal, Incident, Wait, Vote, Delegation, Parking, Callback, Migration}
    by_themselves = {Run}  # child runs, each of an age of its own

    found = {one.related_model for one in Run._meta.related_objects}

    assert found == known | by_themselves


def test_a_run_that_is_younger_than_the_bound_stays() -> None:
    run = completed()
    before = everything(run)

    assert pruned(now=in_future(MONTH.total_seconds() - 60)) == Counts()

    assert everything(run) == before


def test_the_age_of_a_run_begins_with_its_end() -> None:
    run = completed()
    sql("UPDATE workflows_run SET finished_at = %s WHERE id = %s", LATER, run.pk)

    assert pruned() == Counts()


def test_a_live_run_stays_however_old_it_is() -> None:
    running, paused = a_run(task("first")), a_run(task("first"))
    pause_run(run_id=paused.pk, by=ANN)

    assert pruned() == Counts()

    assert (state(running), state(paused)) == ("RUNNING", "PAUSED")


def test_a_run_with_an_open_incident_stays_until_somebody_resolves_it() -> None:
    run = failed()

    assert pruned() == Counts()
    discard_incident(incident_id=open_incidents(run)[0].pk, note="gone", by=ANN)
    assert pruned().runs == 1


def test_each_state_has_its_own_bound() -> None:
    completed()
    kept = discarded()

    removed = pruned(Policy({RunState.COMPLETED: MONTH, RunState.FAILED: 3 * MONTH}))

    assert removed.runs == 1
    assert [run.pk for run in Run.objects.all()] == [kept.pk]


def test_a_policy_for_live_runs_is_refused() -> None:
    with pytest.raises(InputRefusedError, match="RUNNING are not finished"):
        Policy({RunState.RUNNING: MONTH})


def test_the_settings_are_the_policy_and_none_of_their_days_keeps_for_ever(
    settings: Settings,
) -> None:
    days = {"COMPLETED": 90, "FAILED": 0}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"RETENTION_DAYS": days}

    assert policy() == Policy({RunState.COMPLETED: timedelta(days=90)})


def test_the_forecast_is_what_is_removed() -> None:
    for old in (completed, completed, discarded, cancelled, failed):
        old()

    found, size = forecast(policy=ALL, now=LATER)

    assert found == pruned()
    assert found.runs == 4
    assert size > 0


def test_many_runs_leave_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(5):
        completed()

    batches = list(prune(policy=ALL, now=LATER, by=ANN))

    assert [one.runs for one in batches] == [2, 2, 1]


def test_a_run_of_many_steps_leaves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEPS", 3)
    for _ in range(3):
        completed()

    batches = list(prune(policy=ALL, now=LATER, by=ANN))

    assert [one.steps for one in batches] == [2, 2, 2]


def test_a_late_message_about_a_run_that_is_gone_changes_nothing() -> None:
    run = completed()
    pin = pinned(run.pk)
    pruned()

    work = claim_step(pin=pin, path="first", attempt=1, taker=TAKER, now=LATER)

    assert work is None
    assert rows() == Counts()


def test_a_prune_leaves_a_line_with_who_by_what_bounds_and_how_much() -> None:
    completed()
    removed = pruned(Policy({RunState.COMPLETED: MONTH}))

    [line] = Pruning.objects.all()

    assert (line.actor, line.bounds, line.archive) == (ANN, "COMPLETED 30 d", "")
    assert Counts(line.runs, line.steps, line.attempts, line.journal, line.incidents) == removed


def test_what_an_actor_removes_on_one_day_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    for _ in range(3):
        completed()
    pruned()
    pruned(by="engine", now=LATER + timedelta(days=1))

    assert [(one.actor, one.runs) for one in Pruning.objects.all()] == [(ANN, 3)]


def test_a_prune_that_removes_nothing_leaves_no_line() -> None:
    pruned()

    assert not Pruning.objects.exists()


def test_a_line_about_a_prune_is_never_removed() -> None:
    completed()
    pruned()

    with pytest.raises(DatabaseError, match="Cannot delete"), transaction.atomic():
        sql("DELETE FROM workflows_pruning")

    assert Pruning.objects.count() == 1


@pytest.mark.usefixtures("committed")
def test_the_permission_to_remove_the_journal_ends_with_its_transaction() -> None:
    run = completed()
    with transaction.atomic():
        pruning.permit_pruning()

    with pytest.raises(DatabaseError, match="Cannot delete"):
        sql("DELETE FROM workflows_journal WHERE run_id = %s", run.pk)


def test_the_journal_of_a_live_run_is_not_removed_by_retention_either() -> None:
    run = a_run(task("first"))
    pruning.permit_pruning()

    with pytest.raises(DatabaseError, match="Cannot delete"), transaction.atomic():
        sql("DELETE FROM workflows_journal WHERE run_id = %s", run.pk)


@pytest.mark.parametrize("at", ["journal", "attempts", "incidents", "steps", "runs", "record"])
@pytest.mark.usefixtures("committed")
def test_a_prune_that_ends_anywhere_leaves_every_run_whole(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = discarded()
    before = everything(run)
    broken = pruning.REMOVE | {at: "SELECT 1 / 0 WHERE %s IS NOT NULL"}
    monkeypatch.setattr(pruning, "REMOVE", broken)
    if at == "record":
        monkeypatch.setattr(pruning, "RECORD", "SELECT 1 / 0")

    with pytest.raises(Exception, match="division by zero"):
        pruned()

    assert everything(run) == before
    assert not Pruning.objects.exists()


@pytest.mark.usefixtures("committed")
def test_what_a_prune_has_removed_before_it_was_left_stays_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    first, second = completed(), completed()

    next(prune(policy=ALL, now=LATER, by=ANN))
    connection.close()

    assert [run.pk for run in Run.objects.all()] == [second.pk]
    assert not Journal.objects.filter(run=first.pk).exists()


@pytest.mark.usefixtures("committed")
def test_a_run_that_somebody_holds_is_left_for_later() -> None:
    held, free = completed(), completed()

    with transaction.atomic():
        store.lock_run(held.pk)
        with meanwhile(pruned):
            pass

    assert [run.pk for run in Run.objects.all()] == [held.pk]
    assert not Step.objects.filter(run=free.pk).exists()


@pytest.mark.usefixtures("committed")
def test_many_prunes_at_once_remove_each_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for _ in range(12):
        completed()

    removed = at_once(pruned, pruned, pruned)

    assert sum(one.runs for one in removed) == 12
    assert [line.runs for line in Pruning.objects.all()] == [12]
    assert rows() == Counts()


@pytest.mark.usefixtures("committed")
def test_running_work_goes_on_while_old_runs_are_removed() -> None:
    completed()
    run = a_run(task("first"), task("second"))

    with transaction.atomic():
        pruned()
        with meanwhile(lambda: finish(claimed(run, "first"))):
            pass

    work_off(run)
    assert state(run) == "COMPLETED"


def test_the_engine_goes_on_only_as_long_as_it_may(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    days = {"COMPLETED": 30}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"RETENTION_DAYS": days}
    for _ in range(3):
        completed()
    answers, pauses = iter([True, False]), []

    removed = prune_by_policy(
        now=LATER, go_on=lambda: next(answers), pause=lambda: pauses.append(1)
    )

    assert (removed.runs, len(pauses)) == (2, 1)
    assert [line.actor for line in Pruning.objects.all()] == ["engine"]


def test_lines_of_guards_and_profiles_go_when_they_are_older_than_the_settings_want() -> None:
    ensure_default()
    open_guard(environment="default", guard="crm", why="down", by=ANN)
    a_year = timezone.now() + timedelta(days=366)

    assert list(prune_lines(now=timezone.now())) == []
    assert list(prune_lines(now=a_year)) == [1]

    assert not BreakerJournal.objects.exists()


def test_lines_are_kept_for_ever_where_the_settings_say_so(settings: Settings) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"AUDIT_RETENTION_DAYS": 0}
    ensure_default()
    open_guard(environment="default", guard="crm", why="down", by=ANN)

    assert list(prune_lines(now=timezone.now() + timedelta(days=3660))) == []

    assert BreakerJournal.objects.count() == 1


def test_lines_go_in_batches_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for name in ("ann", "ben", "cleo"):
        AccessLog.objects.create(username=name, ip_address="127.0.0.1")
    AccessLog.objects.filter(username__in=["ann", "ben"]).update(attempt_time="2020-01-01T00:00Z")

    removed = list(prune_lines(now=timezone.now()))

    assert removed == [2]
    assert [one.username for one in AccessLog.objects.all()] == ["cleo"]


def test_what_has_expired_goes_at_once_and_nothing_else() -> None:
    now = timezone.now()
    for key, hours in {"old": -1, "new": 1}.items():
        Session.objects.create(session_key=key, expire_date=now + timedelta(hours=hours))
    user = a_person("ben")
    AuthToken.objects.create(user, expiry=timedelta(seconds=-1))
    AuthToken.objects.create(user, expiry=timedelta(hours=1))
    AuthToken.objects.create(user, expiry=None)

    assert sum(prune_lines(now=now)) == 2

    assert [one.session_key for one in Session.objects.all()] == ["new"]
    assert AuthToken.objects.count() == 2


BOUNDED = {
    "axes_accessattemptexpiration": "nothing writes it: AXES_USE_ATTEMPT_EXPIRATION is off",
    "environments_environmentjournal": "people move environments, rarely",
    "workers_pulse": "workers that are silent for long are forgotten",
    "workflows_pruning": "a line a day",
}
DEFINED = re.compile(
    r"auth_|django_(celery_beat_|content_type|migrations)|environments_(environment|profile(pool)?)$"
    r"|workers_canarymark|workflows_(workflow|version|trigger|breaker)$"
)
"""What people define: there is as much of it as they want."""


def test_a_vote_handed_on_for_a_span_of_time_goes_long_after_its_end() -> None:
    giver, now = a_person("ben", "finance"), timezone.now()
    a_person("dora", "finance")
    delegate_for_a_time(person=giver, to="dora", ends_at=now + timedelta(days=1), by=ANN)

    assert list(prune_lines(now=now + timedelta(days=365))) == []
    assert list(prune_lines(now=now + timedelta(days=367))) == [1]

    assert not Delegation.objects.exists()


def test_every_table_that_grows_is_known_to_retention(settings: Settings) -> None:
    """A new table is either looked after, or listed here with what bounds it."""
    looked_after = {
        *re.findall(r"DELETE FROM (\w+)", " ".join((*pruning.REMOVE.values(), *pruning.ALONG))),
        *re.findall(r"DELETE FROM (\w+)", pruning.REMOVE_EVENTS),
        *(
            line[0]
            for line in (*settings.ORCHESTRATOR["LINES"], *settings.ORCHESTRATOR["EXPIRING"])
        ),
    }

    others = set(connection.introspection.table_names()) - looked_after - BOUNDED.keys()

    assert {table for table in others if not DEFINED.match(table)} == set()


def read_back(folder: Path) -> Iterator[dict[str, Any]]:
    """Read an archive as anybody would, with nothing of ours."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt") as file:
            yield from map(json.loads, file)


def names(line: dict[str, Any], part: str, key: str) -> list[Any]:
    return [row[key] for row in line[part]]


def test_an_archived_run_is_read_back_with_all_that_belonged_to_it(tmp_path: Path) -> None:
    run = discarded()
    journal = list(run.journal.order_by("id").values_list("before", "after", "actor"))

    pruned(archive=tmp_path / "runs")

    [line] = read_back(tmp_path / "runs")
    version = run.version.number
    assert line["run"]["id"] == str(run.pk)
    assert (line["run"]["workflow"], line["run"]["version"]) == (run.workflow.name, version)
    assert (line["run"]["environment"], line["run"]["state"]) == ("default", "FAILED")
    assert [(one["before"], one["after"], one["actor"]) for one in line["journal"]] == journal
    assert names(line, "steps", "path") == ["first"]
    assert names(line, "attempts", "end") == ["failed"]
    assert names(line, "incidents", "resolution") == ["discarded"]


def test_the_archive_has_every_column_of_every_row(tmp_path: Path) -> None:
    discarded()
    models = {"run": Run, "steps": Step, "attempts": Attempt, "journal": Journal}
    columns = {
        part: {field.column for field in model._meta.fields}
        for part, model in (models | {"incidents": Incident}).items()
    }

    pruned(archive=tmp_path)

    [line] = read_back(tmp_path)
    for part, wanted in columns.items():
        row = line[part] if part == "run" else line[part][0]
        assert wanted <= row.keys()


def test_an_archived_run_is_found_in_the_file_of_the_day_it_was_started_on(tmp_path: Path) -> None:
    run = completed()

    pruned(archive=tmp_path)

    [path] = tmp_path.glob("*.gz")
    assert path.name == f"{run.created_at:%Y-%m-%d}.jsonl.gz"


def test_batches_and_prunes_add_to_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    ids = [str(completed().pk) for _ in range(2)]
    pruned(archive=tmp_path)
    ids.append(str(completed().pk))

    pruned(archive=tmp_path)

    assert [line["run"]["id"] for line in read_back(tmp_path)] == ids


def test_what_a_killed_writer_left_half_written_is_taken_back(tmp_path: Path) -> None:
    first = completed()
    pruned(archive=tmp_path)
    [path] = tmp_path.glob("*.gz")
    path.with_name(f".{path.name}.length").write_text(str(path.stat().st_size))
    path.write_bytes(path.read_bytes() + b"\x1f\x8b half of a")
    second = completed()

    pruned(archive=tmp_path)

    ids = [line["run"]["id"] for line in read_back(tmp_path)]
    assert ids == [str(first.pk), str(second.pk)]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_run_that_cannot_be_archived_is_not_removed(tmp_path: Path) -> None:
    run = completed()
    before = everything(run)
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(InputRefusedError, match="cannot be written"):
        pruned(archive=tmp_path / "file" / "runs")

    assert everything(run) == before


def test_an_archive_is_for_its_owner_alone(tmp_path: Path) -> None:
    completed()

    pruned(archive=tmp_path / "runs")

    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "runs").glob("*")]
    assert modes == [0o600]
    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o700


def an_event(number: int, *, days: int) -> UUID:
    event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "order.paid"}
    published = publish_event(event=event, by=ANN).id
    age = timedelta(days=days)
    sql("UPDATE workflows_receivedevent SET received_at = now() - %s WHERE id = %s", age, published)
    return published


def left() -> set[UUID]:
    return set(ReceivedEvent.objects.values_list("pk", flat=True))


def test_events_go_when_they_are_old_and_handed_out_with_what_they_did() -> None:
    a_run({"id": "paid", "event": {"type": "order.paid", "since": "1d"}})
    young, old = an_event(1, days=0), an_event(2, days=31)
    hand_out(now=store.now())
    EventEffect.objects.create(
        event_id=old, kind="refused", workflow=Run.objects.get().workflow,
        reason="No.", at=store.now(), by=ANN,
    )  # fmt: skip
    waiting = an_event(3, days=31)

    prune_by_policy(now=store.now(), go_on=lambda: True, pause=lambda: None)

    assert left() == {young, waiting}
    assert list(EventEffect.objects.values_list("event", flat=True)) == [young]


def test_events_go_in_small_batches_and_no_further_than_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    for number in range(5):
        an_event(number, days=31 + number)
    hand_out(now=store.now())

    prune_by_policy(now=store.now(), go_on=lambda: False, pause=lambda: None)

    assert len(left()) == 3


def test_events_are_kept_for_ever_where_the_settings_say_so(settings: Settings) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"EVENT_RETENTION_DAYS": 0}
    kept = an_event(1, days=1000)
    hand_out(now=store.now())

    prune_by_policy(now=store.now(), go_on=lambda: True, pause=lambda: None)

    assert left() == {kept}
