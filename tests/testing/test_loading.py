"""A definition is loaded from a file or a text; what is wrong with it is said with its place."""

from pathlib import Path

import pytest

from tests.testing.builders import SHOP
from workers.registry import catalog
from workflows.language.findings import DefinitionError, InputError
from workflows.testing import Workflow


def test_a_definition_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(SHOP)

    assert Workflow.load(file).name == "shop"


def test_a_file_may_be_named_from_beside_the_test() -> None:
    name = Path(__file__).parents[1] / "language" / "pytest.ini"

    with pytest.raises(DefinitionError):
        Workflow.load(f"../{name.parent.name}/{name.name}")


def test_what_is_wrong_is_said_with_line_and_column() -> None:
    with pytest.raises(DefinitionError) as raised:
        Workflow.parse("workflow: w\nsteps:\n  - {id: a, usses: log}\n", source="w.yaml")

    assert "w.yaml:3:13: " in str(raised.value)


def test_unknown_task_types_are_accepted_without_a_catalog() -> None:
    run = Workflow.parse("workflow: w\nsteps: [{id: a, uses: no.such}]").run()

    run.assert_completed()


def test_unknown_task_types_are_refused_by_the_real_catalog() -> None:
    with pytest.raises(DefinitionError, match=r"no task type no\.such"):
        Workflow.parse("workflow: w\nsteps: [{id: a, uses: no.such}]", catalog=catalog)


def test_the_input_is_checked_and_gets_its_defaults() -> None:
    shop = Workflow.parse(SHOP).given(stubs={"reserve": {"stock": 1}})

    assert shop.run(input={"express": True}).input == {"order": 7, "express": True}
    with pytest.raises(InputError, match="order: it is a string"):
        shop.run(input={"order": "seven"})
