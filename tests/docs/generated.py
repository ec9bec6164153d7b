"""The parts of the documentation that tables of the program say: diagrams, and the task types.

`python -m tests.docs.generated` writes them between their marks; a test compares them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from environments.states import ENVIRONMENT_MOVES
from workers.registry import BUILT_IN, TaskType, catalog
from workflows.engine.states import RUN_MOVES, STEP_MOVES

State = TypeVar("State", bound=StrEnum)

DOCS = Path(__file__).parents[2] / "docs"
FAMILIES = (
    (re.compile(r"(http\.)\d+"), r"\1<status>"),
    (re.compile(r"(shell\.exit_)\d+"), r"\1<n>"),
    (re.compile(r"(shell\.signal_)\w+"), r"\1<NAME>"),
)
"""Codes that are many, and the one word that stands for them."""


def state_diagram(moves: Mapping[State, Sequence[State]]) -> str:
    """Draw a table of moves: it begins with the first state, and ends where nothing follows."""
    first = next(iter(moves))
    arrows = [("[*]", first.value)]
    for before, followers in moves.items():
        arrows += [(before.value, after.value) for after in followers]
    arrows += [(state.value, "[*]") for state, followers in moves.items() if not followers]
    lines = [f"    {before} --> {after}" for before, after in arrows]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def built_in_types() -> list[TaskType]:
    """List what comes with the platform, whatever applications of others are installed."""
    every = [catalog.get(name) for name in catalog.names()]
    return [one for one in every if one.function.__module__.startswith(f"{BUILT_IN}.")]


def table_of_types(types: Iterable[TaskType]) -> str:
    """Write task types as a table; parameters in bold must be given."""
    head = "| `uses` | what it does | parameters | repeated when lost | error codes |"
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *map(_row, types)])


def _row(one: TaskType) -> str:
    schema = one.schema()
    required = set(schema.get("required", ()))
    parameters = [f"**`{name}`**" if name in required else f"`{name}`" for name in _names(schema)]
    lost = {"freely": "yes", "after_probe": "if its probe allows it", "never": "no"}[one.repeat]
    cells = (f"`{one.name}`", one.summary, ", ".join(parameters), lost, _codes(one))
    return f"| {' | '.join(cells)} |"


def _names(schema: Mapping[str, object]) -> list[str]:
    properties = schema["properties"]
    assert isinstance(properties, Mapping)
    return list(properties)


def _codes(one: TaskType) -> str:
    found: dict[str, dict[str, None]] = {}
    for code, error_class in one.codes.items():
        for pattern, family in FAMILIES:
            if pattern.fullmatch(code):
                code = pattern.sub(family, code)  # noqa: PLW2901 - the family stands for it
        found.setdefault(code, {})[error_class.value] = None
    return ", ".join(f"`{code}` {' or '.join(classes)}" for code, classes in found.items())


PARTS: Mapping[tuple[str, str], str] = {
    ("architecture.md", "runs"): state_diagram(RUN_MOVES),
    ("architecture.md", "steps"): state_diagram(STEP_MOVES),
    ("architecture.md", "environments"): state_diagram(ENVIRONMENT_MOVES),
    ("tasks.md", "task types"): table_of_types(built_in_types()),
}
"""What stands in which file, between which marks."""


def between_marks(name: str) -> re.Pattern[str]:
    """Match what stands between a part's marks."""
    return re.compile(rf"(?<=<!-- {name}: generated -->\n).*?(?=\n<!-- end -->)", re.DOTALL)


def write() -> None:
    """Bring every part up to date."""
    for (file, name), text in PARTS.items():
        page = DOCS / file
        page.write_text(between_marks(name).sub(lambda _, new=text: new, page.read_text()))


if __name__ == "__main__":
    write()
