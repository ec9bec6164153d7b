import json
import re
from collections.abc import Callable

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse

from tests.admin.builders import completed, failed, incident_of, started, worked_off
from workflows.engine.events import StepError
from workflows.language.words import ErrorClass
from workflows.models import Incident, Journal, Run, Step
from workflows.services.runs import pause_run

Door = Callable[[str], Client]


def said_by(client: Client, url: str, form: dict[str, object]) -> list[str]:
    answer = client.post(url, form)
    return [str(message) for message in get_messages(answer.wsgi_request)]


def run_url(name: str, run: Run) -> str:
    return reverse(f"admin:workflows_run_{name}", args=[run.pk])


def incident_url(name: str, incident: Incident) -> str:
    return reverse(f"admin:workflows_incident_{name}", args=[incident.pk])


@pytest.mark.parametrize(("name", "state"), [("pause", "PAUSED"), ("cancel", "CANCELLED")])
def test_an_operation_asks_first_and_is_written_to_its_person(
    name: str, state: str, door: Door
) -> None:
    run, client = started(), door("operators")

    asked = client.get(run_url(name, run))
    client.post(run_url(name, run))

    assert asked.status_code == 200
    assert Run.objects.get(pk=run.pk).state == state
    line = Journal.objects.filter(run=run, path="").order_by("-id").first()
    assert line is not None
    assert line.actor == "person:operators-ann"


def test_a_paused_run_is_resumed(door: Door) -> None:
    run, client = started(), door("operators")
    client.post(run_url("pause", run))

    client.post(run_url("resume", run))

    assert Run.objects.get(pk=run.pk).state == "RUNNING"


def test_what_the_state_does_not_allow_is_said(door: Door) -> None:
    run = completed()

    said = said_by(door("operators"), run_url("cancel", run), {})

    refusal = f"The run {run.pk} is COMPLETED and cannot be cancelled."
    when = "A run can be cancelled while it is COMPENSATING or PAUSED or PENDING or RUNNING."
    assert said == [f"{refusal} {when}"]


def test_a_failed_run_goes_on_by_a_replay(door: Door) -> None:
    run = failed()

    door("operators").post(run_url("replay", run))

    assert Run.objects.get(pk=run.pk).state == "RUNNING"
    assert Incident.objects.get(run=run).resolution == "replayed"


def test_a_correction_begins_with_what_the_step_was_given(door: Door) -> None:
    incident = incident_of(failed())

    page = door("operators").get(incident_url("correct", incident))

    assert "${{ input.name }}" in page.content.decode()


def test_a_step_is_replayed_with_corrected_arguments(door: Door) -> None:
    incident = incident_of(failed())
    form = {"arguments": json.dumps({"message": "mended"}), "note": "a typo"}

    door("operators").post(incident_url("correct", incident), form)

    assert Step.objects.get(pk=incident.step_id).arguments == {"message": "mended"}
    assert Incident.objects.get(pk=incident.pk).note == "a typo"


@pytest.mark.parametrize("wrong", ["{not json", "[1, 2]", ""])
def test_arguments_that_are_no_object_are_refused_in_the_form(wrong: str, door: Door) -> None:
    incident = incident_of(failed())

    page = door("operators").post(incident_url("correct", incident), {"arguments": wrong})

    assert "arguments" in page.context["form"].errors
    assert Incident.objects.get(pk=incident.pk).resolution == ""


def test_arguments_that_the_task_would_refuse_stay_in_the_form_with_the_reason(door: Door) -> None:
    incident = incident_of(failed())
    form = {"arguments": json.dumps({"message": 7}), "note": "a typo"}

    page = door("operators").post(incident_url("correct", incident), form)

    assert "must be of type string" in str(page.context["form"].non_field_errors())
    assert page.context["form"].data["note"] == "a typo"
    assert Incident.objects.get(pk=incident.pk).resolution == ""


def test_a_skipped_step_has_the_output_that_a_person_gave(door: Door) -> None:
    incident = incident_of(failed())

    door("operators").post(incident_url("skip", incident), {"output": '{"by": "hand"}'})

    assert Step.objects.get(pk=incident.step_id).output == {"by": "hand"}


def test_an_incident_is_not_discarded_without_a_reason(door: Door) -> None:
    incident, client = incident_of(failed()), door("operators")

    without = client.post(incident_url("discard", incident), {"note": "  "})
    client.post(incident_url("discard", incident), {"note": "The order was withdrawn."})

    assert "note" in without.context["form"].errors
    assert Incident.objects.get(pk=incident.pk).resolution == "discarded"


def test_a_bulk_action_asks_and_reports_what_it_refused(door: Door) -> None:
    running, over, client = started(), completed(), door("operators")
    url = reverse("admin:workflows_run_changelist")
    form = {"action": "cancel", "_selected_action": [str(running.pk), str(over.pk)]}

    asked = client.post(url, form)
    said = said_by(client, url, {**form, "decided": "1"})

    assert b"2 selected" in asked.content
    assert said[0].startswith("Cancel: 1 done, 1 refused.")
    assert Run.objects.get(pk=running.pk).state == "CANCELLED"


def test_what_has_left_the_list_since_a_person_was_asked_is_reported_on_too(door: Door) -> None:
    runs, client = [started() for _ in range(3)], door("operators")
    url = reverse("admin:workflows_run_changelist") + "?state__exact=RUNNING"
    form = {"action": "pause", "_selected_action": [str(run.pk) for run in runs]}
    asked = client.post(url, form)
    pause_run(run_id=runs[0].pk, by="person:somebody")

    said = said_by(client, url, {**form, "decided": "1"})

    assert b"3 selected" in asked.content
    assert said[0].startswith("Pause: 2 done, 1 refused.")
    assert f"The run {runs[0].pk} is PAUSED and cannot be paused." in said[0]


def test_an_action_on_all_pages_asks_about_each_row_and_does_no_other(door: Door) -> None:
    runs, client = [started() for _ in range(52)], door("operators")
    url = reverse("admin:workflows_run_changelist") + "?state__exact=RUNNING"
    all_pages = {"action": "pause", "select_across": "1", "_selected_action": [str(runs[0].pk)]}

    asked = client.post(url, all_pages)
    late = started()
    chosen = [value for _, value in asked.context["selected"]]
    said = said_by(client, url, {"action": "pause", "_selected_action": chosen, "decided": "1"})

    assert said == ["Pause: 52 done."]
    assert Run.objects.get(pk=late.pk).state == "RUNNING"
    assert set(Run.objects.filter(state="PAUSED")) == set(runs)


@pytest.mark.parametrize(
    ("action", "resolution"), [("replay", "replayed"), ("discard", "discarded")]
)
def test_dead_letters_are_dealt_with_in_bulk(action: str, resolution: str, door: Door) -> None:
    incidents = [incident_of(failed()) for _ in range(3)]
    selected = [str(incident.pk) for incident in incidents]
    form = {"action": action, "_selected_action": selected, "decided": "1", "note": "cleaned up"}

    door("operators").post(reverse("admin:workflows_incident_changelist"), form)

    assert set(Incident.objects.values_list("resolution", flat=True)) == {resolution}


def test_a_fork_asks_where_it_begins_and_leads_to_the_new_run(door: Door) -> None:
    run, client = completed(), door("operators")
    path = Step.objects.filter(run=run).values_list("path", flat=True)[0]

    asked = client.get(run_url("fork", run), {"path": path})
    answer = client.post(run_url("fork", run), {"path": path, "input": json.dumps(run.input)})

    new = Run.objects.get(forked_from=run)
    assert path in asked.content.decode()
    assert answer["Location"] == reverse("admin:workflows_run_change", args=[new.pk])
    assert new.started_by == "person:operators-ann"


def test_a_fork_that_makes_no_sense_is_refused_in_a_sentence(door: Door) -> None:
    run = completed()

    wish = {"path": "nowhere", "input": json.dumps(run.input)}
    said = said_by(door("operators"), run_url("fork", run), wish)

    assert said == [f"{run.workflow.name} has no step nowhere."]


def test_a_bulk_action_names_the_runs_that_it_is_about(door: Door) -> None:
    runs = [started(), failed()]
    chosen = {"action": "cancel", "_selected_action": [str(run.pk) for run in runs]}

    page = door("operators").post(reverse("admin:workflows_run_changelist"), chosen)

    seen = page.content.decode()
    assert "Cancel 2 runs?" in seen
    for run, state in zip(runs, ("running", "failed"), strict=True):
        assert f"two-steps v1, run {run.pk.hex[-12:]}, {state}" in seen


def test_who_discards_incidents_sees_of_which_runs_they_are(door: Door) -> None:
    incident = incident_of(failed())
    chosen = {"action": "discard", "_selected_action": [str(incident.pk)]}
    client, said = door("operators"), f"fetch of two-steps, run {incident.run_id.hex[-12:]}"

    many = client.post(reverse("admin:workflows_incident_changelist"), chosen)
    one = client.get(incident_url("discard", incident))

    assert f"{said}: http.404" in many.content.decode()
    assert f"{said}: http.404" in one.content.decode()


def test_the_page_of_an_incident_says_what_to_do_next(door: Door) -> None:
    incident = incident_of(failed())

    page = door("viewers").get(incident_url("change", incident)).content.decode()

    assert "What to do next" in page
    assert "Mend the cause or correct its arguments" in page


def test_the_page_of_an_incident_shows_what_its_step_was_given_and_every_try(door: Door) -> None:
    incident = incident_of(failed())

    page = door("viewers").get(incident_url("change", incident)).content.decode()

    assert "${{ input.name }}" in page
    assert "worker-1" in page


def test_no_page_recommends_to_replay_what_may_have_taken_effect(door: Door) -> None:
    doubt = StepError(ErrorClass.UNCERTAIN, "bank.unconfirmed", "The bank broke the connection.")
    doubtful = worked_off(started().pk, {"fetch": doubt})
    client = door("operators")

    def tones(run: Run) -> list[str]:
        pages = (run_url("change", run), incident_url("change", incident_of(run)))
        text = "".join(client.get(page).content.decode() for page in pages)
        return re.findall(r'btn-(\w+)" href="[^"]*/replay/"', text)

    assert tones(doubtful) == ["plain"] * 3
    assert tones(failed()) == ["primary"] * 3


def test_a_fork_of_a_failed_run_begins_where_it_failed_unless_told_otherwise(door: Door) -> None:
    run, client = failed(), door("operators")

    forms = [client.get(run_url("fork", run) + tail).context["form"] for tail in ("", "?path=b")]

    assert [form["path"].value() for form in forms] == ["fetch", "b"]


def test_who_mistypes_json_is_told_where(door: Door) -> None:
    incident = incident_of(failed())

    page = door("operators").post(incident_url("correct", incident), {"arguments": '{"a": 1,\n b}'})

    said = "This is not JSON. At line 2, column 2: expecting property name"
    assert page.context["form"].errors["arguments"][0].startswith(said)
