from collections.abc import Callable

from django.test import Client
from django.urls import reverse

from tests.admin.builders import TWO_STEPS, completed
from workflows.models import Run, Version

Door = Callable[[str], Client]
GIVEN = {
    "input-name": "Bob",
    "input-times": "3",
    "input-lines": "[]",
    "environment": "default",
    "key": "form:1",
}


def start_url() -> str:
    return reverse("admin:workflows_workflow_start", args=[completed().workflow_id])


def test_the_form_is_drawn_from_the_input_schema_with_its_defaults(door: Door) -> None:
    form = door("operators").get(start_url()).context["form"]

    drawn = {field.label: field.value() for field in form.inputs}
    assert drawn == {"name": None, "times": 2, "polite": "true", "lines": ""} | {"polite": True}
    assert form["input-name"].field.required


def test_a_run_starts_with_what_the_form_was_given(door: Door) -> None:
    url = start_url()

    answer = door("operators").post(url, GIVEN)

    run = Run.objects.order_by("-id")[0]
    assert answer.headers["Location"] == reverse("admin:workflows_run_change", args=[run.pk])
    assert run.input == {"name": "Bob", "times": 3, "polite": False, "lines": []}
    assert run.started_by == "person:operators-ann"


def test_a_form_sent_twice_starts_one_run(door: Door) -> None:
    url, client = start_url(), door("operators")
    client.post(url, GIVEN)

    client.post(url, GIVEN)

    assert Run.objects.filter(idempotency_key="form:1").count() == 1


def test_what_the_schema_refuses_stands_at_its_field(door: Door) -> None:
    wrong = {**GIVEN, "input-lines": '["a", 7]'}

    form = door("operators").post(start_url(), wrong).context["form"]

    assert "lines[1]" in form.errors["input-lines"][0]
    assert Run.objects.count() == 1


def test_the_whole_input_can_be_given_as_json(door: Door) -> None:
    given = {"everything": '{"name": "Eve"}', "environment": "default", "key": "form:2"}

    door("operators").post(start_url(), given)

    assert Run.objects.order_by("-id")[0].input["name"] == "Eve"


def test_another_run_begins_with_the_input_of_the_one_before(door: Door) -> None:
    run = completed(name="Zoe", times=9)
    url = reverse("admin:workflows_workflow_start", args=[run.workflow_id])

    form = door("operators").get(url, {"like": str(run.pk)}).context["form"]

    assert form["input-name"].value() == "Zoe"
    assert form["input-times"].value() == 9


def test_a_definition_becomes_the_next_version(door: Door) -> None:
    completed()
    text = TWO_STEPS.replace("message: stored", "message: kept")

    door("authors").post(reverse("admin:workflows_workflow_apply"), {"text": text})

    newest = Version.objects.order_by("-number")[0]
    assert (newest.number, newest.created_by) == (2, "person:authors-ann")


def test_findings_are_shown_at_their_lines_and_nothing_is_stored(door: Door) -> None:
    text = TWO_STEPS.replace("uses: log, with: {message: stored}", "uses: lok")

    page = door("authors").post(reverse("admin:workflows_workflow_apply"), {"text": text})

    first = page.context["findings"][0]
    marked = [line for _, line, is_it in first["lines"] if is_it]
    assert "lok" in marked[0]
    assert f"Line {first['finding'].line}" in page.content.decode()
    assert Version.objects.count() == 0


def test_a_check_shows_the_picture_and_stores_nothing(door: Door) -> None:
    form = {"text": TWO_STEPS, "check": "1"}

    page = door("authors").post(reverse("admin:workflows_workflow_apply"), form)

    assert "<svg" in page.content.decode()
    assert Version.objects.count() == 0


def test_the_pages_of_a_workflow_and_its_version_open(door: Door) -> None:
    run, client = completed(), door("viewers")

    pages = [
        client.get(reverse("admin:workflows_workflow_change", args=[run.workflow_id])),
        client.get(reverse("admin:workflows_version_change", args=[run.version_id])),
    ]

    assert [page.status_code for page in pages] == [200, 200]
    assert b"two-steps" in pages[1].content


def test_a_group_that_is_not_there_yet_is_a_warning(door: Door) -> None:
    text = "workflow: ask\nsteps: [{id: sign, approval: {group: board}}]\n"
    url = reverse("admin:workflows_workflow_apply")

    seen = door("authors").post(url, {"text": text}, follow=True).content.decode()

    assert "ask v1 is applied" in seen
    assert "there is no group board" in seen
