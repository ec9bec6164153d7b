"""Whom a document asks for decisions: the groups that it names, each with its place."""

from dataclasses import dataclass

from workflows.language.document import Report
from workflows.language.fields import is_template
from workflows.language.outline import outline
from workflows.language.reader import parse
from workflows.language.words import StepKind


@dataclass(frozen=True, slots=True)
class Asked:
    """A group that a step asks, by its name; what an expression gives is known only in a run."""

    group: str
    line: int
    column: int
    path: str


def groups_asked(text: str, *, source: str) -> tuple[Asked, ...]:
    """Return the groups that the approvals of a document name, in its order."""
    report = Report(source)
    document = parse(text, report)
    if document is None or document.root.fields is None:
        return ()
    found = []
    for step in outline(document, report, None).steps:
        asked = step.node.get("approval") if step.kind is StepKind.APPROVAL else None
        for key in ("group", "escalate_to"):
            node = asked.get(key) if asked is not None else None
            if node is not None and isinstance(node.value, str) and not is_template(node.value):
                path = f"{step.path}.approval.{key}"
                found.append(Asked(node.value, node.line, node.column, path))
    return tuple(found)
