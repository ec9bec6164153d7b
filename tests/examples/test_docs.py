"""What the documentation shows can be applied, and does what it says."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.support.platform import Platform
from workers.registry import catalog
from workflows.models import Run
from workflows.services.definitions import apply_definition, check_definition
from workflows.services.runs import start_run

ROOT = Path(settings.BASE_DIR)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DEFINITION = re.compile(r"^(workflow: .*?)^(?:```|YAML)$", re.DOTALL | re.MULTILINE)
DEFINITIONS = [
    pytest.param(found, id=f"{path.name}-{found.splitlines()[0].removeprefix('workflow: ')}")
    for path in PAGES
    for found in DEFINITION.findall(path.read_text())
]


@pytest.fixture
def documented_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare the task types that the documentation shows, for one test."""
    monkeypatch.setattr(catalog, "_types", {name: catalog.get(name) for name in catalog.names()})
    for page in PAGES:
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            exec(code, {"__name__": page.stem})  # noqa: S102 - it is ours


@pytest.mark.parametrize("text", DEFINITIONS)
def test_every_definition_in_the_documentation_can_be_applied(
    documented_tasks: None, text: str
) -> None:
    _, findings = check_definition(text=text, source="documentation")

    assert findings == ()


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    lost = [
        f"{page.name}: {link}"
        for page in PAGES
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
        if not (page.parent / link).exists()
    ]

    assert lost == []


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("workflow", "given", "output", "states"),
    [
        ("announce", {}, {"told": 2}, {"call": "SKIPPED", "route.air": "SKIPPED"}),
        ("announce", {"urgent": True}, None, {"call": "COMPLETED", "notify.page": "COMPLETED"}),
        ("announce", {"country": "FR"}, {"told": 2}, {"route.air": "COMPLETED"}),
        ("expressions", {}, None, {"say": "COMPLETED"}),
        ("expressions", {"lines": []}, None, {"say": "SKIPPED"}),
        ("nightly-reports", {}, None, {"tidy": "COMPLETED"}),
        ("send-reminders", {}, None, {"remind[1].note": "COMPLETED", "report": "COMPLETED"}),
        ("handle-ticket", {}, None, {"ticket[2].verify": "COMPLETED"}),
    ],
)
def test_a_definition_of_the_language_reference_does_what_it_says(
    platform: Platform, workflow: str, given: dict[str, Any], output: Any, states: dict[str, str]
) -> None:
    apply_definition(text=documented(workflow), source="language.md", by="person:tester")

    done = platform.finished(start(workflow, given))

    found = dict(done.steps.filter(path__in=states).values_list("path", "state"))
    assert (done.state, done.output, found) == ("COMPLETED", output, states)


def documented(workflow: str) -> str:
    """Return the definition of that name."""
    return next(str(one.values[0]) for one in DEFINITIONS if one.id == f"language.md-{workflow}")


def start(workflow: str, given: dict[str, Any]) -> Run:
    """Start a run."""
    return start_run(workflow=workflow, input=given, by="person:tester").run
