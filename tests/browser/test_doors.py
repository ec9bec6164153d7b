"""The doors open in a real browser, under the strict content policy."""

import secrets
import sys
from collections.abc import Iterator

import pytest
from django.conf import settings
from playwright.sync_api import Page, expect

from orchestrator.launcher import any_free_port
from orchestrator.supervisor import Child, Supervisor


@pytest.fixture
def flower(process_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    port = any_free_port()
    url = f"http://flower:{secrets.token_hex(8)}@127.0.0.1:{port}"
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"flower_url": url}))
    supervisor = Supervisor(settings.ENV.home)
    command = (sys.executable, "-m", "orchestrator", "flower")
    supervisor.keep(Child("flower", command, process_env | {"FLOWER_URL": url}))
    supervisor.watch()
    yield
    supervisor.stop()


def test_an_operator_logs_in_and_sees_the_admin(operator: Page) -> None:
    expect(operator.get_by_role("link", name="Runs").first).to_be_visible()


def test_the_api_describes_itself_without_anything_from_elsewhere(operator: Page) -> None:
    operator.goto("/api/v1/docs/")

    expect(operator.get_by_role("heading", name="Automation orchestrator")).to_be_visible()


def test_an_operator_sees_the_workers_in_flower(flower: None, operator: Page) -> None:
    while (answer := operator.request.get("/flower/")).status == 503:
        assert "does not answer" in answer.text()

    operator.goto("/flower/")

    expect(operator.get_by_text("Online workers")).to_be_visible()
    operator.get_by_role("link", name="Tasks").click()
    expect(operator.get_by_text("No tasks have been received.")).to_be_visible()
