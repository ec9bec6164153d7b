"""What somebody who decides does, in a real browser."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from environments.services import ensure_default
from tests.browser.conftest import PASSWORD
from tests.support.approvals import a_person, a_request
from workflows.models import Approval, Run

FORM = {
    "type": "object",
    "required": ["limit"],
    "properties": {
        "limit": {"type": "integer", "title": "Limit", "description": "In euros."},
        "urgent": {"type": "boolean", "title": "Urgent"},
    },
}


@pytest.fixture
def ben(page: Page) -> Page:
    """The page of a member of finance who has logged in, and may do nothing else."""
    ensure_default()
    member: User = a_person("ben", "finance", is_staff=True)
    member.set_password(PASSWORD)
    member.save()
    page.goto("/admin/login/")
    page.fill("[name=username]", "ben")
    page.fill("[name=password]", PASSWORD)
    page.click("[type=submit]")
    page.wait_for_url("**/admin/")
    return page


def asked(**keys: Any) -> Approval:
    """Start a run that asks for something to be read."""
    return a_request(message="Pay 1,200 EUR to Acme for the new press?", form=FORM, **keys)


def test_a_request_is_found_read_and_approved(ben: Page) -> None:
    request = asked(timeout="2d")
    ben.get_by_role("link", name="Approvals", exact=True).click()
    ben.get_by_role("link", name="sign").click()
    expect(ben.get_by_text("Pay 1,200 EUR to Acme")).to_be_visible()
    ben.get_by_role("link", name="Approve").click()
    ben.get_by_label("Limit").fill("900")
    ben.get_by_label("note").fill("Not more than that.")

    ben.get_by_role("button", name="Approve").click()

    expect(ben.get_by_text("You have approved it.")).to_be_visible()
    expect(ben.get_by_text("Not more than that.")).to_be_visible()
    assert Run.objects.get(pk=request.run_id).state == "COMPLETED"


def test_many_are_rejected_together_after_a_question(ben: Page) -> None:
    for _ in range(3):
        asked()
    ben.goto("/admin/workflows/approval/")
    ben.locator("#action-toggle").check()
    ben.locator("select[name=action]").select_option("reject")
    ben.get_by_role("button", name="Run").click()
    ben.get_by_label("Why").fill("The budget is spent.")

    ben.get_by_role("button", name="Reject").click()

    expect(ben.get_by_text("Reject: 3 done.")).to_be_visible()
    assert set(Run.objects.values_list("state", flat=True)) == {"FAILED"}


def test_a_vote_is_handed_over(ben: Page) -> None:
    request = asked()
    a_person("dora", is_staff=True)
    ben.goto(f"/admin/workflows/approval/{request.pk}/change/")
    ben.get_by_role("link", name="Hand over", exact=True).click()
    ben.get_by_label("to").fill("dora")

    ben.get_by_role("button", name="Hand over").click()

    expect(ben.get_by_text("ben to dora")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    [
        "/admin/workflows/approval/",
        "/admin/workflows/approval/{approval}/change/",
        "/admin/workflows/approval/{approval}/approve/",
        "/admin/workflows/approval/{approval}/hand/",
        "/admin/workflows/delegation/",
        "/admin/workflows/delegation/hand/",
    ],
)
def test_no_page_of_approvals_scrolls_sideways_on_a_telephone(ben: Page, path: str) -> None:
    request = asked(approvals=2)
    ben.set_viewport_size({"width": 390, "height": 844})

    ben.goto(path.format(approval=request.pk))

    assert ben.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
