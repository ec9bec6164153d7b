"""What the documentation derives from the program is what the program says."""

import re

import pytest

from orchestrator.env import ROOT, Env
from tests.docs.generated import DOCS, PARTS, between_marks, state_diagram
from workflows.engine.states import RunState


@pytest.mark.parametrize(("file", "name"), list(PARTS))
def test_a_derived_part_of_the_documentation_is_up_to_date(file: str, name: str) -> None:
    written = between_marks(name).findall((DOCS / file).read_text())

    assert written == [PARTS[file, name]], "run `python -m tests.docs.generated`"


def test_a_diagram_begins_at_the_first_state_and_ends_where_nothing_follows() -> None:
    moves = {RunState.PENDING: (RunState.RUNNING,), RunState.RUNNING: ()}

    arrows = [line.strip() for line in state_diagram(moves).splitlines() if "-->" in line]

    assert arrows == ["[*] --> PENDING", "PENDING --> RUNNING", "RUNNING --> [*]"]


def test_every_setting_is_explained_and_no_other() -> None:
    table = (DOCS / "operations.md").read_text().partition("## Settings")[2].partition("\n## ")[0]

    explained = re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)

    assert sorted(explained) == sorted(name.upper() for name in Env.model_fields)


@pytest.mark.parametrize("page", ["architecture.md", "operations.md", "tasks.md"])
def test_every_file_that_the_documentation_names_is_there(page: str) -> None:
    named = set(re.findall(r"`([a-z_./-]+/[a-z_0-9./-]*)`", (DOCS / page).read_text()))
    roots = {entry.name for entry in ROOT.iterdir()} - {".local", ".venv"}

    lost = [one for one in named if one.split("/")[0] in roots and not (ROOT / one).exists()]

    assert lost == []
