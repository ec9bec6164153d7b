"""What the pages say of a step that waits for something from outside."""

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils import timezone

from environments.services import ensure_default
from monitoring.run_page import run_page
from tests.admin.builders import started
from tests.admin.conftest import Door
from tests.workflows.builders import a_run, claimed, finish, task
from workflows import links
from workflows.models import Run, Step
from workflows.selectors.runs import get_run
from workflows.services.callbacks import receive_callback
from workflows.services.runs import cancel_run

pytestmark = pytest.mark.django_db

ASKS = """
workflow: asks
steps:
  - {id: vendor, callback: {timeout: 7d}}
  - {id: rest, needs: [], wait: {until: "2038-01-19T03:14:07Z"}}
  - {id: other, callback: {}}
"""


def step_url(run: Run, path: str) -> str:
    step = Step.objects.get(run=run, path=path)
    return reverse("admin:workflows_step_change", args=[step.pk])


def test_the_run_page_says_for_what_a_step_waits_since_when_and_until_when() -> None:
    run = started(ASKS)
    user = get_user_model()(is_superuser=True, is_active=True)

    rows = run_page(get_run(run.pk), user, now=timezone.now()).rows

    said = {row.step.path: row.reason for row in rows}
    assert said["vendor"].startswith("waits for its callback since 20")
    assert said["vendor"].endswith(" at the latest")
    assert said["rest"].startswith("waits until 2038-01-19 03:14:07, since 20")
    assert said["other"] == ""


def test_a_loop_says_how_far_it_has_come_and_when_its_next_round_begins() -> None:
    ensure_default()
    pack = {"id": "pack", "foreach": [1, 2, 3], "max_parallel": 2, "steps": [task("scan")]}
    poll = {"until": "${{ steps.status.output.done }}", "every": "10m"}
    run = a_run(pack, {"id": "poll", "needs": [], "repeat": poll, "steps": [task("status")]})
    finish(claimed(run, "pack[0].scan"))
    finish(claimed(run, "poll[0].status"), {"done": False})
    user = get_user_model()(is_superuser=True, is_active=True)

    rows = run_page(get_run(run.pk), user, now=timezone.now()).rows

    said = {row.step.path: row.reason for row in rows}
    assert said["pack"] == "waits for the steps inside it: 1 of 3 ended"
    assert said["poll"].startswith("1 round has ended, the next begins at 20")


def test_operators_see_the_url_of_a_step_that_waits_or_will(door: Door) -> None:
    run = started(ASKS)
    client = door("operators")

    waiting = client.get(step_url(run, "vendor")).content.decode()
    to_come = client.get(step_url(run, "other")).content.decode()

    assert links.callback_url(run.pk, "vendor", 1) in waiting
    assert links.callback_url(run.pk, "other", 1) in to_come


def test_viewers_see_that_a_step_waits_and_not_its_url(door: Door) -> None:
    run = started(ASKS)

    page = door("viewers").get(step_url(run, "vendor")).content.decode()

    assert "Waits for its callback since" in page
    assert "/callbacks/" not in page


def test_a_url_that_is_spent_is_not_shown(door: Door) -> None:
    run = started(ASKS)
    body = {"run_id": run.pk, "path": "vendor", "attempt": 1, "body": 1}
    receive_callback(**body, now=timezone.now())
    client = door("operators")

    answered = client.get(step_url(run, "vendor")).content.decode()
    cancel_run(run_id=run.pk, by="person:ann")
    cancelled = client.get(step_url(run, "other")).content.decode()

    assert "/callbacks/" not in answered
    assert "/callbacks/" not in cancelled
