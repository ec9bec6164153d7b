"""Numbers for dashboards. Each is one grouped query over an index."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, IntegerField, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from workflows.engine.states import LIVE_RUNS
from workflows.models import Incident, Run, Step
from workflows.models.ids import APART, first_id_of


def live_runs_by_state() -> Mapping[str, int]:
    """Count the runs that have not ended; a state without runs is left out."""
    return _by("state", Run.objects.filter(state__in=[state.value for state in LIVE_RUNS]))


def runs_by_state(*, since: datetime) -> Mapping[str, int]:
    """Count the runs created at or after `since`, each in the state it has now."""
    return _by(
        "state", Run.objects.filter(created_at__gte=since, pk__gte=first_id_of(since - APART))
    )


def open_incidents_by_class() -> Mapping[str, int]:
    """Count the open incidents by the class of their error."""
    return _by("error_class", Incident.objects.filter(resolution=""))


def open_incidents_by_code() -> Mapping[str, int]:
    """Count the open incidents by their code, so that one cause is seen as one."""
    return _by("code", Incident.objects.filter(resolution=""))


def steps_by_state(run_ids: Iterable[UUID]) -> Mapping[UUID, Mapping[str, int]]:
    """Count the steps of each run by state, for progress bars: one query for all the runs."""
    wanted = list(run_ids)
    counts: dict[UUID, dict[str, int]] = {run_id: {} for run_id in wanted}
    rows = Step.objects.filter(run__in=wanted).order_by().values_list("run", "state")
    for run_id, state, number in rows.annotate(number=Count("pk")):
        counts[run_id][state] = number
    return counts


def number_of(rows: QuerySet[Any], column: str) -> Coalesce:
    """Count correlated rows beside the row they belong to by `column`, without grouping it."""
    number = rows.order_by().values(column).annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(number), Value(0), output_field=IntegerField())


def _by(column: str, rows: QuerySet[Run] | QuerySet[Incident]) -> dict[str, int]:
    counted = rows.order_by().values_list(column).annotate(number=Count("pk"))
    return dict(counted.values_list(column, "number"))
