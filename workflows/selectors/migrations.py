"""Migrations: which versions a run has had, and which runs there are to go over to another."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef
from django.db.models.functions import JSONObject

from workflows.engine.preflight import MOVABLE
from workflows.engine.states import RunState
from workflows.models import Migration, Run, Version, Workflow
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import NEWEST_FIRST, PAGE, Page, page_of
from workflows.selectors.shapes import MigrationDocument, json_time

STILL_LIVE: Sequence[str] = tuple(
    sorted(state.value for state in MOVABLE if state is not RunState.FAILED)
)


OF_A_RUN = ArraySubquery(
    Migration.objects.filter(run=OuterRef("pk"))
    .order_by("number")
    .values(
        json=JSONObject(
            from_version="before__number",
            to_version="after__number",
            by="by",
            at="at",
            mapping="mapping",
        )
    )
)
"""The migrations of a run, read in the statement that reads it."""


def migrations_of(run: Run) -> list[MigrationDocument]:
    """Return how a run that was read with `OF_A_RUN` went from version to version, in order."""
    known: list[MigrationDocument] = run.known_migrations  # type: ignore[attr-defined] # annotated
    return [{**one, "at": json_time(datetime.fromisoformat(one["at"]))} for one in known]


def runs_to_migrate(  # noqa: PLR0913 - which runs, and which page of them
    *,
    workflow: str,
    before: int | None = None,
    version: int | None = None,
    with_failed: bool = False,
    after: str | None = None,
    limit: int = PAGE,
) -> Page[UUID]:
    """Return the runs of a workflow that are in another version than the newest, or than `version`.

    Only those in the version `before`, if given; failed ones only if asked. The newest come first.
    Raises MissingError.
    """
    known = Workflow.objects.filter(name=workflow).first()
    if known is None:
        raise MissingError("workflow", workflow)
    versions = Version.objects.filter(workflow=known).order_by("-number")
    wanted = versions if version is None else versions.filter(number=version)
    target = wanted.values_list("pk", flat=True).first()
    if target is None:
        raise MissingError("version", f"{workflow} v{version}")
    states = [*STILL_LIVE, *([RunState.FAILED.value] if with_failed else [])]
    found = Run.objects.filter(workflow=known, state__in=states).exclude(version=target)
    if before is not None:
        found = found.filter(version__number=before)
    rows = found.only("pk").order_by("-id")
    return page_of(rows, NEWEST_FIRST, after=after, limit=limit).of(lambda run: run.pk)
