"""Whom a document counts on: the groups and the workflows that it names, each with its place."""

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


@dataclass(frozen=True, slots=True)
class Called:
    """A workflow that a step runs, and the version of it that it names, if any."""

    workflow: str
    version: int | None
    line: int
    column: int
    path: str


def workflows_called(text: str, *, source: str) -> tuple[Called, ...]:
    """Return the workflows that steps of a document run, in its order; not the workflow itself."""
    report = Report(source)
    document = parse(text, report)
    if document is None or document.root.fields is None:
        return ()
    own = document.root.value.get("workflow")
    found = []
    for step in outline(document, report, None).steps:
        node = step.node.get("workflow") if step.kind is StepKind.WORKFLOW else None
        if node is not None and isinstance(node.value, str) and node.value != own:
            version = step.node.value.get("version")
            named = version if isinstance(version, int) else None
            path = f"{step.path}.workflow"
            found.append(Called(node.value, named, node.line, node.column, path))
    return tuple(found)


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
