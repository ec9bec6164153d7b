"""Steps wait for time and for callbacks while real workers do the rest."""

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client

from tests.e2e.builders import (
    ends,
    log,
    lose_every_message,
    sleep,
    started,
    states,
    until,
    until_step,
)
from tests.support.invariants import left_over
from tests.support.platform import Platform
from workflows.models import Run, Step

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def ask(name: str = "ask", of: str = "vendor", **keys: Any) -> dict[str, Any]:
    """Return a step that hands the URL of another on, here to the log."""
    return {
        "id": name,
        "uses": "log",
        "with": {"message": f"${{{{ steps.{of}.callback_url }}}}"},
        **keys,
    }


def call_back(asked: Step, body: Any) -> str:
    """Have the vendor that was asked call back, and return what it was told."""
    assert asked.output is not None
    url = urlsplit(asked.output["message"]).path
    answer = Client().post(url, json.dumps(body), content_type="application/json")
    told: str = answer.json().get("status", "")
    return told


def test_a_vendor_is_asked_and_calls_back(platform: Platform) -> None:
    then = {"id": "then", "uses": "log", "with": {"message": "${{ steps.vendor.output.said }}"}}
    run = started(ask(), {"id": "vendor", "callback": {"timeout": "1h"}}, then)
    until_step(run, "vendor", "WAITING")

    told = call_back(Step.objects.get(run=run, path="ask"), {"said": "yes"})

    assert platform.finished(run).state == "COMPLETED"
    assert told == "received"
    assert Step.objects.get(run=run, path="then").output["message"] == "yes"
    assert left_over(runs=[run.pk]) == []


def test_a_vendor_that_is_too_quick_is_heard_even_if_every_message_is_lost(
    platform: Platform,
) -> None:
    run = started(
        ask(),
        sleep("meanwhile", 2),
        {"id": "vendor", "callback": {}},
        log("then", needs=["vendor"]),
    )
    until_step(run, "meanwhile", "RUNNING")

    told = call_back(Step.objects.get(run=run, path="ask"), 1)
    lose_every_message()

    assert platform.finished(run, seconds=90).state == "COMPLETED"
    assert told == "kept"
    assert ends(run)["vendor"] == ["completed"]


def test_every_round_of_a_loop_has_a_callback_of_its_own(platform: Platform) -> None:
    inside = [ask(), {"id": "vendor", "callback": {}, "output": "${{ steps.vendor.output.n }}"}]
    run = started({"id": "all", "foreach": list(range(12)), "max_parallel": 5, "steps": inside})
    heard: dict[str, str] = {}

    def hear() -> bool:
        asked = Step.objects.filter(run=run, path__endswith=".ask", state="COMPLETED")
        for step in asked.exclude(path__in=heard):
            number = int(step.path.partition("[")[2].partition("]")[0])
            heard[step.path] = call_back(step, {"n": number})
            assert call_back(step, {"n": number}) == "already received"
        return Run.objects.get(pk=run.pk).finished_at is not None

    until(hear, run)

    assert platform.finished(run).state == "COMPLETED"
    assert Step.objects.get(run=run, path="all").output == list(range(12))
    assert set(heard.values()) <= {"received", "kept"}


def test_time_passes_without_a_worker_and_what_never_comes_is_made_good(
    platform: Platform,
) -> None:
    instead = [{"on": ["callback.timeout"], "steps": [log("instead")]}]
    run = started(
        {"id": "rest", "wait": {"for": "1500ms"}},
        {"id": "vendor", "callback": {"timeout": "1s"}, "catch": instead},
    )

    ended = platform.finished(run)

    assert ended.finished_at is not None
    assert ended.finished_at - ended.created_at >= timedelta(seconds=2.5)
    assert states(run)["vendor"] == states(run)["vendor.catch[0].instead"] == "COMPLETED"
    assert ends(run)["vendor"] == ["failed"]
