"""Every file of the folder is broken in one way; its first line says where, and which rule."""

from pathlib import Path

import pytest

from tests.commands.builders import COPY, HERE, manage, manage_apart, saved
from workflows.models import Version, Workflow

BROKEN = sorted((HERE / "broken").glob("*.yaml"))


def what_is_wrong(file: Path) -> tuple[str, str]:
    """Return the place and the rule that the file's first line names."""
    place, rule = file.read_bytes().splitlines()[0].decode().removeprefix("# ").split()
    return place, rule


def test_there_are_many_kinds_of_broken_definitions() -> None:
    assert len({what_is_wrong(file)[1] for file in BROKEN}) >= 40


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_a_broken_definition_is_refused_with_place_rule_and_hint(file: Path) -> None:
    place, rule = what_is_wrong(file)

    answer = manage("workflow", "validate", file)

    finding, hint = answer.err.splitlines()
    assert answer.status == 2
    assert finding.startswith(f"{file}:{place}: ")
    assert finding.endswith(f" [{rule}]")
    assert hint.startswith("  hint: ")
    assert len(hint) > len("  hint: ")


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["apply", "simulate"])
def test_of_many_files_with_a_broken_one_nothing_is_stored_or_played(
    action: str, tmp_path: Path
) -> None:
    good = saved(tmp_path, COPY)

    answer = manage("workflow", action, good, *BROKEN)

    assert answer.status == 2
    assert answer.err.count("  hint: ") == len(BROKEN)
    assert answer.out == ""
    assert not Workflow.objects.exists()
    assert not Version.objects.exists()


def test_a_broken_definition_ends_the_process_with_status_2(tmp_path: Path) -> None:
    answer = manage_apart("workflow", "validate", HERE / "broken", LOCAL_DIR=str(tmp_path))

    assert answer.status == 2
    assert answer.out == ""
    for file in BROKEN:
        place, rule = what_is_wrong(file)
        assert f"{file}:{place}: " in answer.err
        assert f"[{rule}]" in answer.err
