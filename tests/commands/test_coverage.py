"""`workflow coverage` runs tests and says which branches of a definition they have taken."""

from pathlib import Path

import pytest

from tests.commands.builders import manage, saved

BRANCHED = """\
workflow: branched
input: {type: object, properties: {n: {type: integer, default: 1}}}
steps:
  - id: route
    switch:
      - when: ${{ input.n > 5 }}
        steps: [{id: air, uses: log, with: {message: air}}]
      - else:
        steps: [{id: land, uses: log, with: {message: land}}]
  - {id: tell, uses: log, with: {message: told}, when: "${{ input.n > 1 }}"}
"""

TESTS = """
from pathlib import Path

from workflows.testing import Workflow

def test_it_goes_by_land():
    Workflow.load(Path(__file__).parent / "workflow.yaml").run().assert_ran("land")
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    saved(tmp_path, BRANCHED)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:django\n")
    return saved(tmp_path, TESTS, "test_branched.py")


def test_every_branch_is_reported_with_its_line(tests: Path) -> None:
    answer = manage("workflow", "coverage", tests.parent / "workflow.yaml", tests, "--json")

    found = answer.json()
    assert answer.status == 0
    assert (found["taken"], found["total"], found["percent"]) == (4, 8, 50.0)
    assert [
        (one["line"], one["step"], one["branch"]) for one in found["branches"] if not one["runs"]
    ] == [
        (6, "route", "case input.n > 5"),
        (7, "route.air", "runs"),
        (10, "tell", "runs"),
        (10, "tell", "when is true"),
    ]


def test_tests_do_not_get_the_settings_of_the_platform(
    tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    asked = "\nimport os\n\ndef test_it():\n    assert 'DJANGO_SETTINGS_MODULE' not in os.environ\n"
    tests.write_text(TESTS + asked)

    answer = manage("workflow", "coverage", tests.parent / "workflow.yaml", tests)

    assert answer.status == 0


def test_branches_that_were_never_taken_are_marked(
    tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tests.parent)  # a longer path would be folded

    answer = manage("workflow", "coverage", "workflow.yaml", tests.name)

    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert any(line.endswith("workflow.yaml:7 route.air runs never") for line in lines)
    assert "4 of 8 branches (50.0 %) were taken by 1 runs." in lines[-1]


def test_less_than_is_wanted_is_status_1(tests: Path) -> None:
    file = tests.parent / "workflow.yaml"

    enough = manage("workflow", "coverage", file, tests, "--at-least", "50")
    more = manage("workflow", "coverage", file, tests, "--at-least", "51")

    assert (enough.status, enough.err) == (0, "")
    assert more.status == 1
    assert more.err.endswith("50.0 % is less than the 51 % that are wanted.")


@pytest.mark.parametrize("wanted", ["101", "-1", "nan", "most"])
def test_what_is_wanted_is_a_percentage(tests: Path, wanted: str) -> None:
    answer = manage("workflow", "coverage", tests, tests, f"--at-least={wanted}")

    assert answer.status != 0
    assert f"'{wanted}' is not a number from 0 to 100" in answer.err


def test_runs_of_another_definition_do_not_count(tests: Path) -> None:
    other = saved(tests.parent, BRANCHED.replace("n > 5", "n > 6"), "other.yaml")

    answer = manage("workflow", "coverage", other, tests, "--json")

    assert answer.json()["taken"] == 0
    assert answer.json()["runs_of_another_definition"] == 1


def test_tests_that_fail_are_status_1_and_shown(tests: Path) -> None:
    tests.write_text(TESTS.replace('assert_ran("land")', 'assert_ran("air")'))

    answer = manage("workflow", "coverage", tests.parent / "workflow.yaml", tests)

    assert answer.status == 1
    assert "air was not carried out." in answer.err


def test_no_tests_are_refused(tmp_path: Path) -> None:
    empty = saved(tmp_path, "", "test_nothing.py")

    answer = manage("workflow", "coverage", saved(tmp_path, BRANCHED), empty)

    assert answer.status == 2
    assert "There are no tests at" in answer.err
