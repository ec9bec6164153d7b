"""Environments with the work that is in them now."""

from collections.abc import Iterable

from django.db.models import Count

from environments.models import Environment
from workflows.engine.states import LIVE_RUNS
from workflows.models import Incident, Run
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import PAGE, Order, Page, page_of
from workflows.selectors.shapes import EnvironmentDocument, json_time

BY_NAME = Order(("name",))


def list_environments(*, after: str | None = None, limit: int = PAGE) -> Page[EnvironmentDocument]:
    """Return a page of environments by name."""
    page = page_of(Environment.objects.all(), BY_NAME, after=after, limit=limit)
    return Page(tuple(environment_documents(page.rows)), page.next)


def get_environment(name: str) -> EnvironmentDocument:
    """Return the environment. Raises `MissingError`."""
    for document in environment_documents(Environment.objects.filter(name=name)):
        return document
    raise MissingError("environment", name)


def environment_documents(found: Iterable[Environment]) -> list[EnvironmentDocument]:
    """Return environments as JSON: two more queries, however many they are."""
    rows = list(found)
    ids = [row.pk for row in rows]
    live = Run.objects.filter(environment__in=ids, state__in=[s.value for s in LIVE_RUNS])
    runs = dict(live.order_by().values_list("environment").annotate(number=Count("pk")))
    opened = Incident.objects.filter(run__environment__in=ids, resolution="")
    incidents = dict(opened.order_by().values_list("run__environment").annotate(number=Count("pk")))
    return [_document(row, runs.get(row.pk, 0), incidents.get(row.pk, 0)) for row in rows]


def _document(environment: Environment, runs: int, incidents: int) -> EnvironmentDocument:
    return {
        "name": environment.name,
        "description": environment.description,
        "state": environment.state,
        "classes": environment.classes,
        "queues": [environment.queue(one) for one in environment.classes],
        "variables": environment.variables,
        "admits": environment.admits,
        "live_runs": runs,
        "open_incidents": incidents,
        "created_at": json_time(environment.created_at),
    }
