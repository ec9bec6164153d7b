"""What the language has and the engine cannot do yet. The table shrinks as the engine grows."""

from collections.abc import Iterator

from workflows.language.document import Node
from workflows.language.outline import Outline

NOT_YET = frozenset(
    {
        "name.secrets",
    }
)

RULE = "not-available-yet"
HINT = "leave it out until a later release has it"


def check(outline: Outline) -> None:
    """Report what the engine cannot carry out."""
    keys = {entry.partition(":")[0] for entry in NOT_YET}
    for what, node, path in _places(outline):
        for key, value in (node.fields or {}).items():
            if f"{what}.{key}" not in keys:
                continue
            for entry in (f"{what}.{key}", f"{what}.{key}: {value.value!s:.40}"):
                if entry in NOT_YET and value.value is not None:
                    outline.report.add(
                        RULE,
                        node.key_place(key),
                        f"{path}.{key}".removeprefix("."),
                        f"{entry.partition('.')[2]} is not available yet",
                        HINT,
                    )


def _places(outline: Outline) -> Iterator[tuple[str, Node, str]]:
    yield "workflow", outline.root, ""
    holders = [("", outline.root), *((step.path, step.node) for step in outline.steps)]
    for path, node in holders:
        retry = node.get("retry")
        if retry is not None:
            yield "retry", retry, f"{path}.retry"
    for step in outline.steps:
        yield "step", step.node, step.path
