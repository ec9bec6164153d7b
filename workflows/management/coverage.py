"""`workflow coverage`: run tests, and say which branches of a definition they have taken."""

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import RenderableType

from workflows.engine.compile import compile_spec
from workflows.management.documents import load_files
from workflows.management.door import RefusedError
from workflows.management.output import cell, table
from workflows.testing.branches import Branch, branches_of, digest

RECORDER = "workflows.testing.recorder"
VARIABLE = "WORKFLOW_COVERAGE"
SETTINGS = "DJANGO_SETTINGS_MODULE"
NO_TESTS = 5
"""What pytest says when it has found no test."""


def percent_of(text: str) -> float:
    """Read a percentage of the command line."""
    message = f"{text!r} is not a number from 0 to 100"
    try:
        percent = float(text)
    except ValueError:
        raise ArgumentTypeError(message) from None
    if not 0 <= percent <= 100:  # noqa: PLR2004 - what a percentage is
        raise ArgumentTypeError(message)
    return percent


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a definition its tests have gone through."""

    file: str
    workflow: str
    branches: tuple[Branch, ...]
    times: Counter[tuple[str, str]]
    runs: int
    others: int
    """Runs of a workflow of this name whose definition is another."""
    passed: bool
    said: str
    """What pytest had to say."""

    @property
    def taken(self) -> int:
        """How many branches were taken at least once."""
        return sum(self.times[one.key] > 0 for one in self.branches)

    @property
    def percent(self) -> float:
        """How many of a hundred branches were taken."""
        return 100.0 * self.taken / len(self.branches) if self.branches else 100.0

    def sentence(self) -> str:
        """Say how much was taken, and of what."""
        said = (
            f"{self.file}: {self.taken} of {len(self.branches)} branches "
            f"({self.percent:.1f} %) were taken by {self.runs} runs."
        )
        if self.others:
            said += f" {self.others} runs of another definition of {self.workflow} do not count."
        return said

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "file": self.file,
            "workflow": self.workflow,
            "percent": round(self.percent, 1),
            "taken": self.taken,
            "total": len(self.branches),
            "runs": self.runs,
            "runs_of_another_definition": self.others,
            "tests_passed": self.passed,
            "branches": [
                {
                    "line": one.line,
                    "column": one.column,
                    "step": one.path,
                    "branch": one.what,
                    "runs": self.times[one.key],
                }
                for one in self.branches
            ],
        }


def measure(file: str, tests: Sequence[str]) -> Coverage:
    """Run the tests in a process of their own and return what they cover of the definition."""
    (checked,) = load_files([file])
    if checked.spec is None:
        raise RefusedError(f"{file} holds no definition.")
    plan = compile_spec(checked.spec)
    # The settings of this command are the platform's, and tests must not get them: theirs are in
    # their own configuration.
    inherited = {name: text for name, text in os.environ.items() if name != SETTINGS}
    with TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", RECORDER, *tests],
            env=inherited | {VARIABLE: str(notes), "PYTHONPATH": _path()},
            capture_output=True,
            text=True,
            check=False,
        )
        facts = list(_facts(notes))
    if done.returncode not in {0, 1}:
        why = "no tests" if done.returncode == NO_TESTS else "tests that cannot be run"
        raise RefusedError(f"There are {why} at {' '.join(tests)}:\n{done.stdout}{done.stderr}")
    wanted = digest(checked.text)
    named = [one for one in facts if one["workflow"] == plan.workflow]
    counted = [one for one in named if one["digest"] == wanted]
    times = Counter((path, what) for one in counted for path, what in one["taken"])
    return Coverage(
        checked.file,
        plan.workflow,
        branches_of(plan, checked.text, checked.file),
        times,
        runs=len(counted),
        others=len(named) - len(counted),
        passed=done.returncode == 0,
        said=done.stdout,
    )


def coverage_picture(found: Coverage) -> RenderableType:
    """Return every branch with how many runs have taken it."""
    made = table("line", "step", "branch", "runs")
    for one in found.branches:
        times = found.times[one.key]
        made.add_row(
            cell(f"{found.file}:{one.line}"),
            cell(one.path),
            cell(one.what),
            cell(times) if times else cell("never", "bold red"),
        )
    return made


def _path() -> str:
    """Return where the process of the tests finds this platform."""
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.getenv("PYTHONPATH")]))


def _facts(notes: Path) -> Iterator[dict[str, Any]]:
    if notes.exists():
        with notes.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
