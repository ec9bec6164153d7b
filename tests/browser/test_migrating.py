"""What an operator does who has live runs go over to another version, in a real browser."""

from playwright.sync_api import Page, expect

from tests.admin.builders import TWO_STEPS, started, worked_off
from workflows.models import Run
from workflows.services.definitions import apply_definition

ANOTHER = TWO_STEPS.replace("id: fetch", "id: get")


def test_runs_go_over_once_it_is_said_what_became_of_a_step(operator: Page) -> None:
    begun, fresh = started(), started()
    worked_off(begun.pk, steps=1)
    apply_definition(text=ANOTHER, source="test", by="command:test")
    operator.goto("/admin/workflows/run/")
    for box in operator.locator("input.action-select").all():
        box.check()
    operator.locator("select[name=action]").select_option("migrate")
    operator.get_by_role("button", name="Run").click()

    expect(operator.get_by_text("Need to be told what became of steps")).to_be_visible()
    operator.get_by_label("What became of fetch").select_option("get")
    operator.get_by_role("button", name="Look again").click()
    operator.get_by_role("button", name="Migrate 2 runs").click()

    expect(operator.get_by_text("Migrate: 2 done.")).to_be_visible()
    numbers = Run.objects.filter(pk__in=[begun.pk, fresh.pk]).values_list("version__number")
    assert set(numbers) == {(2,)}
