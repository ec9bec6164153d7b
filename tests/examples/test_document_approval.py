"""A document is approved by two people and signed by a vendor who calls back."""

from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.test import Client

from examples.document_approval.vendor import SIGNER, Vendor, listening
from tests.e2e.builders import until_step
from tests.support import invariants
from tests.support.approvals import a_person, no, request_of, say
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]

GROUP = "document-reviewers"


def start(vendor: Vendor) -> Run:
    """Start the approval of one document."""
    given = {"title": "Contract 7", "vendor_url": vendor.url}
    run = start_run(workflow="document-approval", input=given, by="person:tester").run
    until_step(run, "review", "WAITING")
    return run


def reply(url: str, said: dict[str, Any]) -> None:
    """Post an answer to the platform under test, whatever host the URL names."""
    path = urlsplit(url)
    Client().post(f"{path.path}?{path.query}", said, content_type="application/json")
    connection.close()


def approve(run: Run) -> None:
    for name in ("ada", "ben"):
        say(request_of(run, "review"), a_person(name, GROUP))


@pytest.mark.parametrize("works_for", [0.5, 0.0])
def test_what_two_approve_is_signed_however_quick_the_vendor_is(
    platform: Platform, works_for: float
) -> None:
    with listening(reply, works_for=works_for) as vendor:
        run = start(vendor)
        approve(run)
        done = platform.finished(run)

    assert (done.state, done.output) == (
        "COMPLETED",
        {"signed": True, "by": SIGNER, "reviewed_by": ["ada", "ben"]},
    )
    assert invariants.left_over(runs=[done.pk]) == []


def test_one_no_is_enough_and_nothing_is_sent(platform: Platform) -> None:
    with listening(reply) as vendor:
        run = start(vendor)
        say(request_of(run, "review"), a_person("ada", GROUP), no())
        done = platform.finished(run)

    assert done.state == "COMPLETED"
    assert done.output["signed"] is False
    assert vendor.ledger.done == []
