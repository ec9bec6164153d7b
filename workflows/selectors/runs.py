"""Runs: found by what an operator knows of them, and shown as the one JSON of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from environments.models import Environment
from workflows.models import Incident, Run, Workflow, runs_with_names
from workflows.models.ids import APART, first_id_of
from workflows.selectors.concurrency import place_in_line
from workflows.selectors.counts import number_of
from workflows.selectors.errors import AmbiguousError, MissingError
from workflows.selectors.migrations import OF_A_RUN, migrations_of
from workflows.selectors.paging import NEWEST_FIRST, PAGE, Page, page_of
from workflows.selectors.shapes import (
    ParentDocument,
    RunDocument,
    RunFacts,
    RunSummary,
    json_time,
    json_time_or_none,
)
from workflows.selectors.steps import step_documents

_NAMES = ("workflow__name", "version__number", "environment__name")
_HEAVY = ("input", "output", "vars", "ending")
_LONGEST_ID = 32


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs: all that is given must hold, but only one of the `states`."""

    workflow: str | None = None
    environment: str | None = None
    states: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    has_open_incident: bool | None = None
    started_by: str | None = None
    id_prefix: str | None = None
    parent: UUID | None = None
    """Only the child runs of this run."""
    is_top_level: bool | None = None
    """Only runs that no step has started; False: only those that one has."""


EVERY_RUN = RunFilter()


def runs(where: RunFilter = EVERY_RUN) -> QuerySet[Run]:
    """Return the runs with the names they show; rows carry `open_incidents`, their number."""
    found = runs_with_names().defer(*_HEAVY)
    open_ones = Incident.objects.filter(run=OuterRef("pk"), resolution="")
    found = found.annotate(open_incidents=number_of(open_ones, "run"))
    if where.workflow is not None:
        found = found.filter(workflow=_id_of(Workflow.objects.filter(name=where.workflow)))
    if where.environment is not None:
        found = found.filter(environment=_id_of(Environment.objects.filter(name=where.environment)))
    if where.states:
        found = found.filter(state__in=where.states)
    if where.created_after is not None:
        found = found.filter(
            created_at__gt=where.created_after, pk__gte=first_id_of(where.created_after - APART)
        )
    if where.created_before is not None:
        found = found.filter(
            created_at__lt=where.created_before, pk__lt=first_id_of(where.created_before + APART)
        )
    if where.started_by is not None:
        found = found.filter(started_by=where.started_by)
    if where.parent is not None:
        found = found.filter(parent=where.parent)
    if where.is_top_level is not None:
        found = found.filter(parent__isnull=where.is_top_level)
    if where.has_open_incident is not None:
        has_one = Exists(open_ones)
        found = found.filter(has_one if where.has_open_incident else ~has_one)
    return found if where.id_prefix is None else _beginning_with(found, where.id_prefix)


def list_runs(
    where: RunFilter = EVERY_RUN, *, after: str | None = None, limit: int = PAGE
) -> Page[RunSummary]:
    """Return a page of runs, the newest first."""
    return page_of(runs(where), NEWEST_FIRST, after=after, limit=limit).of(run_summary)


def get_run(run_id: UUID) -> Run:
    """Return the run with everything its JSON shows. Raises `MissingError`."""
    found = runs_with_names()
    try:
        return found.annotate(known_migrations=OF_A_RUN).get(pk=run_id)
    except Run.DoesNotExist:
        raise MissingError("run", run_id) from None


def find_run(prefix: str) -> Run:
    """Return the one run whose id begins so. Raises `MissingError` or `AmbiguousError`."""
    ids = list(_beginning_with(Run.objects.all(), prefix).values_list("pk", flat=True)[:2])
    if not ids:
        raise MissingError("run", prefix)
    if len(ids) > 1:
        raise AmbiguousError("run", prefix)
    return get_run(ids[0])


def run_summary(run: Run) -> RunSummary:
    """Return a run of `runs` as a list shows it."""
    return {
        "id": str(run.pk),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "environment": run.environment.name,
        "state": run.state,
        "reason": run.reason or None,
        "error": run.error,
        "started_by": run.started_by,
        "open_incidents": run.open_incidents,  # type: ignore[attr-defined] # annotated by `runs`
        "created_at": json_time(run.created_at),
        "started_at": json_time_or_none(run.started_at),
        "finished_at": json_time_or_none(run.finished_at),
        "late_since": json_time_or_none(run.sla_breached_at),
        "parent": _parent(run),
    }


def run_facts(run: Run) -> RunFacts:
    """Return a run of `get_run` without its steps: what a poller asks for."""
    return {
        "id": str(run.pk),
        "workflow": run.workflow.name,
        "version": run.version.number,
        "environment": run.environment.name,
        "state": run.state,
        "reason": run.reason or None,
        "input": run.input,
        "output": run.output,
        "error": run.error,
        "created_at": json_time(run.created_at),
        "started_at": json_time_or_none(run.started_at),
        "finished_at": json_time_or_none(run.finished_at),
        "late_since": json_time_or_none(run.sla_breached_at),
        "parent": _parent(run),
        "waits_for": place_in_line(run),
        "forked_from": str(run.forked_from_id) if run.forked_from_id else None,
        "migrations": migrations_of(run),
    }


def _parent(run: Run) -> ParentDocument | None:
    if run.parent_id is None:
        return None
    return {"run": str(run.parent_id), "path": run.parent_path or ""}


def child_runs(run_id: UUID, *, paths: Sequence[str] | None = None) -> QuerySet[Run]:
    """Return the child runs that steps of a run have started, the newest first."""
    found = runs(RunFilter(parent=run_id)).order_by("-id")
    return found if paths is None else found.filter(parent_path__in=paths)


def run_document(run: Run) -> RunDocument:
    """Return the one JSON of a run: REST, the command line and the simulation show this."""
    return {**run_facts(run), "steps": step_documents(run.pk)}


def _id_of(named: QuerySet[Workflow] | QuerySet[Environment]) -> UUID:
    """Return the id of the one row, or one that no row has.

    A value, not a subquery: so the planner knows how many runs it has, and takes the index
    (thing, id) for a rare one rather than reading all history for it.
    """
    return named.values_list("pk", flat=True).first() or UUID(int=0)


def _beginning_with(found: QuerySet[Run], prefix: str) -> QuerySet[Run]:
    """Narrow to ids between the prefix filled up with 0 and with f: a range of the key."""
    digits = prefix.replace("-", "").lower()
    if not digits or len(digits) > _LONGEST_ID or set(digits) - set("0123456789abcdef"):
        return found.none()
    first, last = UUID(digits.ljust(_LONGEST_ID, "0")), UUID(digits.ljust(_LONGEST_ID, "f"))
    return found.filter(pk__gte=first, pk__lte=last)
