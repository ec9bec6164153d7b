"""Environments with the work that is in them now."""

from django.db.models import OuterRef, QuerySet

from environments.models import Environment
from workflows.engine.states import LIVE_RUNS
from workflows.models import Incident, Run
from workflows.selectors.counts import number_of
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import PAGE, Order, Page, page_of
from workflows.selectors.shapes import EnvironmentDocument, json_time

BY_NAME = Order(("name",))


def environments() -> QuerySet[Environment]:
    """Return the environments; rows carry `live_runs` and `open_incidents`, their numbers."""
    live = Run.objects.filter(environment=OuterRef("pk"), state__in=[s.value for s in LIVE_RUNS])
    open_ones = Incident.objects.filter(run__environment=OuterRef("pk"), resolution="")
    return Environment.objects.annotate(
        live_runs=number_of(live, "environment"),
        open_incidents=number_of(open_ones, "run__environment"),
    )


def list_environments(*, after: str | None = None, limit: int = PAGE) -> Page[EnvironmentDocument]:
    """Return a page of environments by name."""
    return page_of(environments(), BY_NAME, after=after, limit=limit).of(environment_document)


def get_environment(name: str) -> Environment:
    """Return the environment. Raises `MissingError`."""
    try:
        return environments().get(name=name)
    except Environment.DoesNotExist:
        raise MissingError("environment", name) from None


def environment_document(environment: Environment) -> EnvironmentDocument:
    """Return an environment of `environments` as JSON."""
    return {
        "name": environment.name,
        "description": environment.description,
        "state": environment.state,
        "classes": environment.classes,
        "queues": [environment.queue(one) for one in environment.classes],
        "variables": environment.variables,
        "live_runs": environment.live_runs,  # type: ignore[attr-defined] # annotated by `environments`
        "open_incidents": environment.open_incidents,  # type: ignore[attr-defined] # as above
        "created_at": json_time(environment.created_at),
    }
