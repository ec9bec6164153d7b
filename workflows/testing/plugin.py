"""The plugin for pytest: a fixture, and the story of every run beside a test that fails."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from workflows.language.catalog import TaskCatalog
from workflows.testing.recording import LISTENERS
from workflows.testing.story import story
from workflows.testing.workflow import Workflow
from workflows.testing.world import Part

_RUNS = pytest.StashKey[list[Part]]()


@pytest.fixture
def workflow(request: pytest.FixtureRequest) -> Callable[..., Workflow]:
    """Load definitions that lie beside the test: `workflow("order.yaml")`."""

    def load(file: str | Path, *, catalog: TaskCatalog | None = None) -> Workflow:
        beside = request.path.parent / file
        return Workflow.load(beside if beside.exists() else file, catalog=catalog)

    return load


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember the runs of a test."""
    runs = item.stash[_RUNS] = []

    def remember(_: Workflow, part: Part) -> None:
        runs.append(part)

    LISTENERS.append(remember)
    try:
        return (yield)
    finally:
        LISTENERS.remove(remember)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the story of each run beside a failure that does not tell it itself."""
    report = yield
    if report.failed:
        told = str(report.longrepr)
        for part in item.stash.get(_RUNS, []):
            text = story(part.run, part.stage.lines)
            if text.splitlines()[0] not in told:
                report.sections.append((f"The story of {part.run.plan.workflow}", text))
    return report
