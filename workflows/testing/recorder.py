"""A plugin for pytest that notes which branches of which definitions the tests have taken.

`manage.py workflow coverage` has it loaded, and names the file in `WORKFLOW_COVERAGE`. Each test
adds a line of JSON, so that tests may run beside each other.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflows.testing.branches import digest, taken_by
from workflows.testing.recording import LISTENERS
from workflows.testing.workflow import Workflow
from workflows.testing.world import Part

VARIABLE = "WORKFLOW_COVERAGE"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what the runs of a test have done when it is over."""
    runs: list[tuple[Workflow, Part]] = []

    def remember(workflow: Workflow, part: Part) -> None:
        runs.append((workflow, part))

    LISTENERS.append(remember)
    try:
        return (yield)
    finally:
        LISTENERS.remove(remember)
        lines = [json.dumps(_facts(item.nodeid, *one)) for one in runs]
        with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


def _facts(test: str, workflow: Workflow, part: Part) -> dict[str, object]:
    return {
        "test": test,
        "workflow": workflow.name,
        "digest": digest(workflow.text),
        "taken": sorted(taken_by(part.run, part.stage.lines)),
    }
