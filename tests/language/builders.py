"""Builders for the tests of the language: documents, a catalog, and what is said about them."""

from collections.abc import Collection, Mapping
from typing import Any

from workflows.language.findings import Finding
from workflows.language.loader import check
from workflows.language.words import ErrorClass

MARK = "§"
"""Stands in a document where a finding is expected; it is taken out before loading."""

FETCH: Mapping[str, Any] = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "pattern": "^http"},
        "method": {"enum": ["GET", "POST"]},
        "retries": {"type": "integer"},
        "json": {"type": "object"},
    },
}


class Catalog:
    """Two task types: `noop` takes anything, `fetch` is strict."""

    def names(self) -> Collection[str]:
        return ["noop", "fetch"]

    def parameters(self, name: str) -> Mapping[str, Any]:
        return FETCH if name == "fetch" else {"type": "object"}

    def codes(self, name: str) -> Mapping[str, ErrorClass]:
        declared = {"http.503": ErrorClass.TRANSIENT, "shell.cancelled": ErrorClass.CANCELLED}
        return declared if name == "fetch" else {}


def document(steps: str, head: str = "") -> str:
    """Write a document: its other keys, and its steps in flow style."""
    return "\n".join(["workflow: w", *([head] if head else []), f"steps: {steps}", ""])


def place_of_mark(text: str) -> tuple[int, int]:
    """Tell the line and the column of the mark."""
    before = text[: text.index(MARK)]
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def findings(text: str) -> tuple[Finding, ...]:
    """Load the text, mark or not, and give what was found."""
    return check(text.replace(MARK, ""), source="w.yaml", catalog=Catalog())[1]


def rules(text: str) -> list[str]:
    """Name the rules that the text breaks, by position."""
    return [finding.rule for finding in findings(text)]
