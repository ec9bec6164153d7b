"""A document to a Spec, or to all that is wrong with it, each with its line and column."""

from workflows.language.building import undisturbed
from workflows.language.catalog import TaskCatalog
from workflows.language.checks import CHECKS, shape
from workflows.language.document import Report
from workflows.language.findings import DefinitionError, Finding
from workflows.language.outline import outline
from workflows.language.reader import parse
from workflows.language.spec import Spec


def load(text: str, *, source: str, catalog: TaskCatalog | None = None) -> Spec:
    """Return the workflow in `text`; `source` is what findings call the text.

    Without a catalog, task types and their parameters are not checked. Raises
    `DefinitionError` with every finding.
    """
    spec, findings = check(text, source=source, catalog=catalog)
    if spec is None or findings:
        raise DefinitionError(findings)
    return spec


@undisturbed()
def check(
    text: str, *, source: str, catalog: TaskCatalog | None = None
) -> tuple[Spec | None, tuple[Finding, ...]]:
    """Return the workflow in `text`, if it has the right shape, and all findings by position."""
    report = Report(source)
    document = parse(text, report)
    if document is None:
        return None, report.sorted()
    spec = shape.read(document.root, report)
    if document.root.fields is not None:
        found = outline(document, report, catalog)
        for one in CHECKS:
            one(found)
    return spec, report.sorted()
