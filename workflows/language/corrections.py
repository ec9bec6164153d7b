"""Arguments that a person gives a step in place of its own, checked as those were."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workflows.language.catalog import TaskCatalog
from workflows.language.document import Report
from workflows.language.findings import Finding
from workflows.language.loader import check
from workflows.language.outline import outline
from workflows.language.reader import parse


def check_arguments(
    text: str, step: str, arguments: Mapping[str, Any], *, catalog: TaskCatalog | None = None
) -> tuple[Finding, ...]:
    """Return what is wrong with arguments, as if they stood in the step of that id in `text`.

    Those of what undoes the step `reserve` stand in `reserve.compensate`.
    What is wrong with the rest of the definition is left out: it was right when it was applied.
    Paths of findings begin at the arguments, and lead to no line.
    """
    source = "arguments"
    document = parse(text, Report(source))
    if document is None:
        return ()
    owner, _, undo = step.partition(".")
    place = outline(document, Report(source), catalog).by_id[owner]
    (place.node.value[undo] if undo else place.node.value)["with"] = arguments
    _, findings = check(json.dumps(document.root.value), source=source, catalog=catalog)
    way = ".".join(filter(None, (place.path, undo, "with")))
    return tuple(
        replace(one, line=0, column=0, path=f"{source}{one.path.removeprefix(way)}")
        for one in findings
        if one.path == way or one.path.startswith((f"{way}.", f"{way}["))
    )
