"""Undoing a run in the admin: the page shows what it would do before anybody says yes."""

import json
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.builders import permanent, started, worked_off
from workflows.models import Journal, Run

Door = Callable[[str], Client]

ORDER = """
workflow: order
retry: {max_attempts: 1}
steps:
  - {id: charge, uses: log, with: {message: charge}, compensate: {uses: log, with: {message: back}}}
  - {id: mail, uses: log, irreversible: true, with: {message: sent}}
  - {id: ship, uses: log, with: {message: ship}}
"""


def a_failed_order() -> Run:
    return worked_off(started(ORDER).pk, {"ship": permanent()})


def url(name: str, run: Run) -> str:
    return reverse(f"admin:workflows_run_{name}", args=[run.pk])


def test_the_page_that_asks_shows_what_would_be_undone_and_what_not(door: Door) -> None:
    page = door("operators").get(url("undo", a_failed_order())).content.decode()

    assert "What would be undone, in this order" in page
    assert "back" in page
    assert "it is irreversible, says the definition" in page


def test_a_failed_run_is_undone_in_the_name_of_who_said_so(door: Door) -> None:
    run = a_failed_order()

    door("operators").post(url("undo", run))

    assert worked_off(run.pk).state == "COMPENSATED"
    line = Journal.objects.get(run=run, path="", after="COMPENSATING")
    assert line.actor == "person:operators-ann"


def test_a_run_is_cancelled_and_undone(door: Door) -> None:
    run = worked_off(started(ORDER).pk, steps=1)

    door("operators").post(url("cancel_undo", run))

    assert worked_off(run.pk).state == "COMPENSATED"


def test_only_who_may_undo_is_let_in(door: Door) -> None:
    run = a_failed_order()

    assert door("viewers").post(url("undo", run)).status_code == 403
    assert Run.objects.get(pk=run.pk).state == "FAILED"


@pytest.mark.parametrize(
    ("steps", "offered"), [(0, "cancel_undo"), (9, "undo")], ids=["running", "failed"]
)
def test_the_run_page_offers_the_undo_that_fits(steps: int, offered: str, door: Door) -> None:
    run = worked_off(started(ORDER).pk, {"ship": permanent()}, steps=steps)

    page = door("operators").get(reverse("admin:workflows_run_change", args=[run.pk]))

    links = {name for name in ("undo", "cancel_undo") if url(name, run) in page.content.decode()}
    assert links == {offered}


def test_an_undone_run_shows_its_undone_steps_and_offers_nothing(door: Door) -> None:
    run, client = a_failed_order(), door("operators")
    client.post(url("undo", run))
    worked_off(run.pk)

    page = client.get(reverse("admin:workflows_run_change", args=[run.pk]))

    text = page.content.decode()
    assert "charge.compensate" in text
    assert "Compensated" in text
    assert url("undo", run) not in text


def test_arguments_are_shown_as_they_would_be_written_in_a_definition(door: Door) -> None:
    back = {"message": "back", "fields": {"why": "late"}}
    text = ORDER.replace("with: {message: back}", f"with: {json.dumps(back)}")
    run = worked_off(started(text).pk, {"ship": permanent()})

    page = door("operators").get(url("undo", run)).content.decode()

    assert unescape(page).count('{"why": "late"}') == 1
