import pytest

from tests.commands.builders import an_incident, manage, manage_apart
from workflows.models import Incident, Run, Step

pytestmark = pytest.mark.django_db


def test_open_incidents_are_listed_and_resolved_ones_on_demand() -> None:
    resolved, is_open = an_incident(), an_incident()
    manage("incident", "discard", resolved.pk, "--note", "gone", "--yes")

    shown = manage("incident", "list").out
    every = manage("incident", "list", "--all", "--json").json()["results"]

    assert str(is_open.pk) in shown
    assert str(resolved.pk) not in shown
    assert [one["resolution"] for one in every] == [None, "discarded"]


def test_the_id_in_a_list_of_incidents_stays_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    incident = an_incident("The disk is full, and so is the other one. " * 5)
    monkeypatch.setenv("COLUMNS", "80")

    shown = manage("incident", "list").out

    assert str(incident.pk) in shown


def test_incidents_of_one_run_can_be_listed() -> None:
    _, mine = an_incident(), an_incident()

    answer = manage("incident", "list", "--run", mine.run_id, "--json")

    assert [one["id"] for one in answer.json()["results"]] == [str(mine.pk)]


def test_an_incident_is_shown_with_what_can_be_done() -> None:
    incident = an_incident("The disk\x1b[2J is full.")

    answer = manage("incident", "show", incident.pk)

    assert "permanent disk.full" in answer.out
    assert "The disk\\x1b[2J is full." in answer.out
    assert f"manage.py incident replay {incident.pk}" in answer.out


def test_a_replay_takes_corrected_arguments() -> None:
    incident = an_incident()

    answer = manage(
        "incident", "replay", incident.pk, "--arguments", '{"message": "again"}', "--note", "freed"
    )

    assert answer.status == 0
    assert Incident.objects.get().note == "freed"
    assert Step.objects.get(run=incident.run, path="fetch").arguments == {"message": "again"}


def test_a_skip_takes_the_output_that_is_to_stand_there() -> None:
    incident = an_incident()

    answer = manage("incident", "skip", incident.pk, "--output", '{"bytes": 3}', "--json")

    step = Step.objects.get(run=incident.run, path="fetch")
    assert answer.json() == {"action": "skip", "done": [str(incident.pk)], "refused": []}
    assert step.output == {"bytes": 3}
    assert Run.objects.get().state == "RUNNING"


def test_a_discard_is_not_done_without_a_yes_where_nobody_can_be_asked() -> None:
    incident = an_incident()

    answer = manage("incident", "discard", incident.pk, "--note", "old")

    assert answer.status == 2
    assert "Repeat the command with --yes." in answer.err
    assert Incident.objects.get().resolution == ""


def test_a_discard_without_a_word_why_is_refused() -> None:
    incident = an_incident()

    answer = manage("incident", "discard", incident.pk, "--note", " ", "--yes")

    assert answer.status == 2
    assert Incident.objects.get().resolution == ""


def test_a_resolved_incident_is_not_resolved_again() -> None:
    incident = an_incident()
    manage("incident", "skip", incident.pk)

    answer = manage("incident", "replay", incident.pk)

    assert answer.status == 2
    assert "was skipped by command:" in answer.err


def test_an_unknown_incident_is_named() -> None:
    unknown = "01a1fd1a-9bd7-7680-a49f-06a7c0de297e"

    answer = manage("incident", "skip", unknown)

    assert answer.status == 2
    assert answer.err.startswith(f"There is no incident {unknown}.")


def test_what_is_no_id_is_status_2() -> None:
    answer = manage_apart("incident", "show", "first")

    assert answer.status == 2
    assert "'first' is no id" in answer.err


def test_recovery_says_what_it_did_or_that_nothing_was_lost() -> None:
    assert manage("recover").out == "Nothing was lost.\n"
    assert manage("recover", "--json").json() == {"results": []}
