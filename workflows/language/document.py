"""A document as a tree of nodes, each knowing its value and its place in the text.

And the report that the findings about it are written to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workflows.language.findings import Finding


@dataclass(slots=True, eq=False)
class Node:
    """A value and its place: where it starts, and its part of the text.

    A mapping has `fields` and the places of their keys; a sequence has `items`.
    """

    value: Any
    line: int
    column: int
    start: int
    end: int
    size: int = 1
    fields: dict[str, "Node"] | None = None
    items: list["Node"] | None = None
    keys: dict[str, tuple[int, int]] | None = None

    def get(self, key: str) -> "Node | None":
        """Return the field called `key`, if this is a mapping that has it."""
        return None if self.fields is None else self.fields.get(key)

    def key_place(self, key: str) -> tuple[int, int]:
        """Return where the key stands, or where the mapping starts if it has no such key."""
        return (self.keys or {}).get(key, (self.line, self.column))

    def inside(self, way: Iterable[str | int]) -> "Node":
        """Return the node that `way` leads to, or the last one there is on it."""
        node = self
        for step in way:
            following: Node | None = None
            if isinstance(step, str):
                following = node.get(step)
            elif node.items is not None and step < len(node.items):
                following = node.items[step]
            if following is None:
                return node
            node = following
        return node


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the tree that was read from it."""

    text: str
    root: Node

    def place(self, node: Node, offset: int) -> tuple[int, int]:
        """Return the line and the column of a position inside a text value.

        As near as can be told: exact unless the text is escaped or folded
        before the expression.
        """
        written = self.text[node.start : node.end]
        opened = node.value.count("${{", 0, offset + 3)
        start = node.value.rfind("${{", 0, offset + 3) if opened else -1
        found = -1
        for _ in range(opened):
            found = written.find("${{", found + 1)
        if found < 0 or start < 0:
            return node.line, node.column
        exact = written.startswith(node.value[start:offset], found)
        position = found + (offset - start if exact else 0)
        lines = written.count("\n", 0, position)
        if lines:
            return node.line + lines, position - written.rfind("\n", 0, position)
        return node.line, node.column + position


class Report:
    """The findings of one document, in the making."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._found: set[Finding] = set()

    def add(
        self, rule: str, place: Node | tuple[int, int], path: str, message: str, hint: str
    ) -> None:
        """Note a finding at a node, or at a line and a column."""
        line, column = (place.line, place.column) if isinstance(place, Node) else place
        self._found.add(Finding(self.source, line, column, rule, path, message, hint))

    def sorted(self) -> tuple[Finding, ...]:
        """Return all findings by position."""
        return tuple(sorted(self._found))

    def __bool__(self) -> bool:
        return bool(self._found)
