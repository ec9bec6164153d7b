"""How long the steps of a workflow usually take."""

from collections.abc import Mapping

from django.db.models import Aggregate, DurationField, F, Func, TextField, Value

from workflows.engine.decision import AttemptEnd
from workflows.engine.plan import NUMBERED
from workflows.engine.states import RunState
from workflows.models import Run, Step

RECENT_RUNS = 50
"""The runs that are looked at, the newest that were completed."""


class _Median(Aggregate):
    function = "percentile_cont"
    template = "%(function)s(0.5) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = DurationField()


def usual_durations(workflow: str) -> Mapping[str, float]:
    """Return the median seconds of a completed attempt at each step, by the path of all items."""
    recent = Run.objects.filter(workflow__name=workflow, state=RunState.COMPLETED)
    steps = Step.objects.filter(
        run__in=list(recent.order_by("-id").values_list("pk", flat=True)[:RECENT_RUNS]),
        attempts__end=AttemptEnd.COMPLETED,
        attempts__started_at__isnull=False,
    )
    template = Func(
        F("path"),
        Value(NUMBERED.pattern),
        Value("[]"),
        Value("g"),
        function="regexp_replace",
        output_field=TextField(),
    )
    took = F("attempts__finished_at") - F("attempts__started_at")
    medians = steps.order_by().annotate(template=template).values_list("template")
    rows = medians.annotate(median=_Median(took))
    return {path: round(median.total_seconds(), 3) for path, median in rows}
