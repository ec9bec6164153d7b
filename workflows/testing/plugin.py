"""The plugin for pytest: a fixture, and the story of every run beside a test that fails."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from workflows.language.catalog import TaskCatalog
from workflows.testing.recording import LISTENERS
from workflows.testing.run import Run
from workflows.testing.workflow import Workflow

_RUNS = pytest.StashKey[list[Run]]()


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

    def remember(_: Workflow, run: Run) -> None:
        runs.append(run)

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
        for run in item.stash.get(_RUNS, []):
            story = run.story()
            if story.splitlines()[0] not in told:
                report.sections.append((f"The story of {run.simulation.plan.workflow}", story))
    return report
