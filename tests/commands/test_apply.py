from pathlib import Path

import pytest
from django.contrib.auth.models import Group

from tests.commands.builders import COPY, INLINE, applied, manage, saved
from workflows.models import Version, Workflow

ASKS = """
workflow: ask
steps:
  - id: known
    approval: {group: finance}
  - id: asked
    approval:
        group: finanse
  - id: told_later
    approval: {group: "${{ steps.known.output.by[0] }}"}
""".lstrip()

pytestmark = pytest.mark.django_db


def test_a_definition_becomes_the_next_version(tmp_path: Path) -> None:
    applied(COPY)
    file = saved(tmp_path, COPY.replace("fetching", "fetching it"))

    answer = manage("workflow", "apply", file)

    assert answer.out == f"{file}: copy is now version 2.\n"
    assert Version.objects.get(number=2).created_by.startswith("command:")


def test_an_unchanged_definition_makes_no_version(tmp_path: Path) -> None:
    file = saved(tmp_path, COPY)
    manage("workflow", "apply", file)

    answer = manage("workflow", "apply", file, "--json")

    assert answer.json() == {
        "results": [
            {
                "file": str(file),
                "workflow": "copy",
                "version": 1,
                "created": False,
                "warnings": [],
            }
        ]
    }


def test_a_group_that_is_not_there_yet_is_a_warning_with_its_place(tmp_path: Path) -> None:
    Group.objects.create(name="finance")
    file = saved(tmp_path, ASKS)

    answer = manage("workflow", "apply", file)

    assert (answer.status, answer.out) == (0, f"{file}: ask is now version 1.\n")
    assert f"warning: {file}:7:16: there is no group finanse, so nobody could decide" in answer.err
    assert "did you mean finance?" in answer.err


def test_two_files_of_one_workflow_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, COPY, "a.yaml")
    saved(tmp_path, COPY, "b.yaml")

    answer = manage("workflow", "apply", tmp_path)

    assert answer.status == 2
    assert f"{tmp_path}/b.yaml:1:1: {tmp_path}/a.yaml defines the workflow copy too" in answer.err
    assert not Workflow.objects.exists()


def test_workflows_are_listed_by_name() -> None:
    applied(INLINE)
    applied(COPY)

    answer = manage("workflow", "list")

    lines = [line.split()[:3] for line in answer.out.splitlines() if "default" in line]
    assert lines == [["copy", "1", "default"], ["inline", "1", "default"]]


def test_a_list_is_paged_by_the_cursor_it_gives() -> None:
    applied(INLINE)
    applied(COPY)

    first = manage("workflow", "list", "--limit", 1, "--json").json()
    second = manage("workflow", "list", "--limit", 1, "--after", first["next"], "--json").json()

    assert [row["name"] for row in first["results"] + second["results"]] == ["copy", "inline"]
    assert second["next"] is None


def test_a_cursor_that_was_not_given_out_is_refused() -> None:
    answer = manage("workflow", "list", "--after", "nonsense")

    assert answer.status == 2
    assert "The cursor is not one of this list" in answer.err
