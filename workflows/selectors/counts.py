"""Numbers for lists and pages, counted for all their rows at once."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Count, IntegerField, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from workflows.models import Step


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
