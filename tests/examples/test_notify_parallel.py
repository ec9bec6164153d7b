"""Everybody is told; somebody is paged only when it is critical."""

import pytest

from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]


def test_nobody_is_paged_for_what_is_not_critical(platform: Platform) -> None:
    done = platform.finished(start("warning"))

    page = done.steps.get(path="notify.page")
    assert (done.state, page.state, page.reason) == ("COMPLETED", "SKIPPED", "when")
    assert done.output["paged"] is False
    assert done.output["told"]["page"] is None


def test_what_is_critical_pages_somebody(platform: Platform) -> None:
    done = platform.finished(start("critical"))

    assert done.state == "COMPLETED"
    assert done.output["paged"] is True
    assert done.output["told"]["page"]["message"].endswith("[critical] shop: the till is down")


def start(severity: str) -> Run:
    """Announce an event."""
    given = {"severity": severity, "message": "the till is down"}
    return start_run(workflow="notify-parallel", input=given, by="person:tester").run
