"""Workflows with their newest version and run, and the versions of each."""

from collections.abc import Iterable
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery

from workflows.models import Run, Version, Workflow
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import PAGE, Order, Page, page_of
from workflows.selectors.shapes import (
    LastRun,
    VersionDocument,
    VersionSummary,
    WorkflowDocument,
    json_time,
    json_time_or_none,
)

BY_NAME = Order(("name",))
NEWEST_NUMBER_FIRST = Order(("number",), newest_first=True)


def workflows() -> QuerySet[Workflow]:
    """Return the workflows; rows carry `newest_version_id` and `newest_run_id`."""
    versions = Version.objects.filter(workflow=OuterRef("pk")).order_by("-number")
    runs = Run.objects.filter(workflow=OuterRef("pk")).order_by("-id")
    return Workflow.objects.annotate(
        newest_version_id=Subquery(versions.values("pk")[:1]),
        newest_run_id=Subquery(runs.values("pk")[:1]),
    )


def list_workflows(*, after: str | None = None, limit: int = PAGE) -> Page[WorkflowDocument]:
    """Return a page of workflows by name."""
    page = page_of(workflows(), BY_NAME, after=after, limit=limit)
    return Page(tuple(workflow_documents(page.rows)), page.next)


def get_workflow(name: str) -> WorkflowDocument:
    """Return the workflow. Raises `MissingError`."""
    for document in workflow_documents(workflows().filter(name=name)):
        return document
    raise MissingError("workflow", name)


def workflow_documents(found: Iterable[Workflow]) -> list[WorkflowDocument]:
    """Return rows of `workflows` as JSON: two more queries, however many they are."""
    rows = list(found)
    versions = _versions_of({row.newest_version_id for row in rows})  # type: ignore[attr-defined] # annotated by `workflows`
    runs = _runs_of({row.newest_run_id for row in rows})  # type: ignore[attr-defined] # as above
    return [
        _workflow_document(
            row,
            versions.get(row.newest_version_id),  # type: ignore[attr-defined] # as above
            runs.get(row.newest_run_id),  # type: ignore[attr-defined] # as above
        )
        for row in rows
    ]


def list_versions(
    name: str, *, after: str | None = None, limit: int = PAGE
) -> Page[VersionSummary]:
    """Return a page of a workflow's versions, the newest first. Raises `MissingError`."""
    if not Workflow.objects.filter(name=name).exists():
        raise MissingError("workflow", name)
    found = _light(Version.objects.filter(workflow__name=name).select_related("workflow"))
    return page_of(found, NEWEST_NUMBER_FIRST, after=after, limit=limit).of(version_summary)


def get_version(name: str, number: int | None = None) -> Version:
    """Return a workflow's version, the newest unless numbered. Raises `MissingError`."""
    found = Version.objects.filter(workflow__name=name).select_related("workflow").defer("plan")
    if number is not None:
        found = found.filter(number=number)
    newest = found.order_by("-number").first()
    if newest is None:
        raise MissingError("workflow" if number is None else f"version {number} of", name)
    return newest


def version_summary(version: Version) -> VersionSummary:
    """Return a version as a list shows it."""
    return {
        "workflow": version.workflow.name,
        "number": version.number,
        "environment": version.environment,
        "digest": version.digest,
        "created_by": version.created_by,
        "created_at": json_time(version.created_at),
    }


def version_document(version: Version) -> VersionDocument:
    """Return a version with its text and its checked document."""
    return {
        **version_summary(version),
        "source": version.source,
        "document": version.document,
    }


def _workflow_document(
    workflow: Workflow, version: Version | None, run: Run | None
) -> WorkflowDocument:
    return {
        "name": workflow.name,
        "description": workflow.description,
        "version": version.number if version else None,
        "environment": version.environment if version else None,
        "created_at": json_time(workflow.created_at),
        "last_run": _last_run(run) if run else None,
    }


def _last_run(run: Run) -> LastRun:
    return {
        "id": str(run.pk),
        "state": run.state,
        "created_at": json_time(run.created_at),
        "finished_at": json_time_or_none(run.finished_at),
    }


def _light(versions: QuerySet[Version]) -> QuerySet[Version]:
    return versions.defer("source", "document", "plan")


def _versions_of(ids: set[UUID | None]) -> dict[UUID, Version]:
    return _light(Version.objects.all()).in_bulk([one for one in ids if one])


def _runs_of(ids: set[UUID | None]) -> dict[UUID, Run]:
    shown = Run.objects.only("state", "created_at", "finished_at")
    return shown.in_bulk([one for one in ids if one])
