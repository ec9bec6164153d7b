"""What an operator does at night, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from environments.services import ensure_default
from tests.admin.builders import TWO_STEPS, failed, incident_of, started, worked_off
from workflows.models import Run
from workflows.services.definitions import apply_definition


def open_run(page: Page, run: Run) -> None:
    page.goto(f"/admin/workflows/run/{run.pk}/change/")


@pytest.fixture
def narrow(operator: Page) -> Page:
    operator.set_viewport_size({"width": 390, "height": 844})
    return operator


def test_a_run_is_started_through_the_form_and_seen_on_its_page(operator: Page) -> None:
    ensure_default()
    apply_definition(text=TWO_STEPS, source="test", by="command:test")
    operator.goto("/admin/workflows/workflow/")
    operator.get_by_role("link", name="two-steps").click()
    operator.get_by_role("link", name="Start a run").click()
    operator.get_by_label("name").fill("Bob")

    operator.get_by_role("button", name="Start").click()

    expect(operator.get_by_role("heading", name="two-steps running")).to_be_visible()
    assert Run.objects.get().input["name"] == "Bob"


def test_an_incident_is_replayed_after_a_question(operator: Page) -> None:
    run = failed()
    open_run(operator, run)
    operator.get_by_role("link", name="Replay", exact=True).click()
    operator.get_by_label("note").fill("The shop is back.")

    operator.get_by_role("button", name="Replay").click()

    expect(operator.get_by_text("The step is tried again.")).to_be_visible()
    assert Run.objects.get(pk=run.pk).state == "RUNNING"


def test_the_run_page_follows_a_run_that_lives(operator: Page) -> None:
    run = started()
    open_run(operator, run)
    expect(operator.get_by_role("heading", name="two-steps running")).to_be_visible()

    worked_off(run.pk)

    expect(operator.get_by_role("heading", name="two-steps completed")).to_be_visible()


def test_a_definition_is_corrected_by_its_findings(operator: Page) -> None:
    operator.goto("/admin/workflows/workflow/apply/")
    text = operator.get_by_label("Definition")
    text.fill(TWO_STEPS.replace("uses: log", "uses: lok", 1))
    operator.get_by_role("button", name="Apply as a new version").click()
    expect(operator.get_by_text("nothing was stored")).to_be_visible()
    text.fill(TWO_STEPS)

    operator.get_by_role("button", name="Apply as a new version").click()

    expect(operator.get_by_text("two-steps v1 is applied")).to_be_visible()


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/workflows/run/",
        "/admin/workflows/incident/",
        "/admin/workflows/run/{run}/change/",
        "/admin/workflows/step/{step}/change/",
        "/admin/workflows/incident/{incident}/discard/",
        "/admin/workflows/workflow/{workflow}/start/",
        "/admin/workflows/workflow/{workflow}/change/",
        "/admin/workflows/workflow/apply/",
    ],
)
def test_no_page_scrolls_sideways_on_a_telephone(narrow: Page, path: str) -> None:
    run = failed()
    incident = incident_of(run)
    keys = {"run": run.pk, "step": incident.step_id, "incident": incident.pk}

    narrow.goto(path.format(**keys, workflow=run.workflow_id))

    assert narrow.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_page_in_the_dark_is_dark(operator: Page) -> None:
    run = failed()
    operator.emulate_media(color_scheme="dark")
    operator.evaluate("localStorage.setItem('_x_adminTheme', JSON.stringify('dark'))")

    open_run(operator, run)

    card = operator.locator(".run-head")
    expect(card).to_have_css("background-color", "rgb(26, 33, 44)")
