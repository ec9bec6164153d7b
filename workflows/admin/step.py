"""Steps and the tries at them: one page says all there is to know about a step."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import DropdownFilter

from workflows.admin.base import (
    CreatedFilter,
    ReadOnlyAdmin,
    duration,
    of_run,
    short,
    step_url,
    uuid_or_404,
)
from workflows.admin.looks import loop_words, reason_words, state_badge, waiting_words
from workflows.admin.operations import buttons_of_incident
from workflows.engine.plan import Node
from workflows.engine.states import LIVE_STEPS, Reason, StepState
from workflows.language.words import Join, StepKind
from workflows.models import Approval, Attempt, Incident, Journal, Step
from workflows.selectors.guards import parked_sentences
from workflows.selectors.runs import child_runs, get_run
from workflows.services.callbacks import link_of
from workflows.services.plans import node_of_row

LINES_SHOWN = 100


JOINS: Mapping[Join, str] = {
    Join.NONE_FAILED: "what it needs is done and none of it has failed",
    Join.ALL_SUCCESS: "all that it needs has completed",
    Join.ALL_DONE: "all that it needs has ended, well or badly",
    Join.ALL_DONE_MIN_ONE_SUCCESS: "all that it needs has ended, and one step of it well",
    Join.ONE_SUCCESS: "one step that it needs has completed",
    Join.ONE_FAILED: "one step that it needs has failed",
    Join.ONE_DONE: "one step that it needs has completed or failed",
    Join.ALL_FAILED: "all that it needs has failed",
    Join.NONE_FAILED_MIN_ONE_SUCCESS: "none of what it needs has failed, and one has completed",
    Join.NONE_SKIPPED: "what it needs has ended and none of it was skipped",
    Join.ALL_SKIPPED: "all that it needs was skipped",
    Join.ALWAYS: "at once",
    Join.AT_LEAST: "{} of the steps that it needs have completed",
}
CARRIED_OUT = frozenset(
    {
        StepKind.TASK,
        StepKind.WORKFLOW,
        StepKind.APPROVAL,
        StepKind.CALLBACK,
        StepKind.EVENT,
        StepKind.WAIT,
    }
)
"""The kinds of steps that have attempts; the others hold steps, or are done at once."""


class UnderWayFilter(DropdownFilter):
    """Only the states that an index knows: a filter over the states of all history has none."""

    title = "under way"
    parameter_name = "now"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("queued", "Queued"), ("running", "Running"), ("retrying", "Waits for a retry")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Step]) -> QuerySet[Step]:
        match self.value():
            case "queued":
                return queryset.filter(state=StepState.QUEUED)
            case "running":
                return queryset.filter(state=StepState.RUNNING, wake_at__isnull=False)
            case "retrying":
                return queryset.filter(state=StepState.RETRYING, wake_at__isnull=False)
            case _:
                return queryset


def run_link(run_id: Any) -> SafeString:
    """Return a link to a run page."""
    url = reverse("admin:workflows_run_change", args=[run_id])
    return format_html('<a class="link" href="{}"><code>{}</code></a>', url, short(run_id))


def _link_of(step: Step, node: Node, request: HttpRequest) -> str:
    """Return where the callback of a live step is to be sent, to those who may see it."""
    may_see = request.user.has_perm("workflows.see_callback_url")
    if node.kind is not StepKind.CALLBACK or step.state not in LIVE_STEPS or not may_see:
        return ""
    return link_of(run_id=step.run_id, path=step.path).url


@admin.register(Step)
class StepAdmin(ReadOnlyAdmin):
    list_display = ("path", "badge", "why", "attempt", "run_of", "queue", "took")
    list_filter = (UnderWayFilter, CreatedFilter)
    nothing = "The steps of all runs, the newest first, once there is a run."
    search_fields = ("run_id",)
    search_help_text = "The beginning of a run's id."
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    page_template = "workflows/step.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Step]:
        return Step.objects.defer("output", "arguments")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Step], search_term: str
    ) -> tuple[QuerySet[Step], bool]:
        return of_run(queryset, search_term, "run_id"), False

    @admin.display(description="State")
    def badge(self, step: Step) -> SafeString:
        return state_badge(step.state, step.reason)

    @admin.display(description="Because")
    def why(self, step: Step) -> str:
        if step.error and step.state in {StepState.FAILED, StepState.RETRYING}:
            return Truncator(f"{step.error['code']}: {step.error['message']}").chars(100)
        return reason_words(step.reason) or "-"

    @admin.display(description="Run")
    def run_of(self, step: Step) -> SafeString:
        return run_link(step.run_id)

    @admin.display(description="Took")
    def took(self, step: Step) -> str:
        return duration(step.started_at, step.finished_at) or "-"

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        step = Step.objects.filter(pk=uuid_or_404(object_id)).first()
        if step is None:
            raise Http404(f"There is no step {object_id}.")
        run = get_run(step.run_id)
        node = node_of_row(run_id=run.pk, version_id=run.version_id, path=step.path)
        incidents = list(Incident.objects.filter(step=step).order_by("-id")[:LINES_SHOWN])
        opened = [incident for incident in incidents if not incident.resolution]
        journal = Journal.objects.filter(run=step.run_id, step=step).order_by("-id")
        return {
            "title": step.path,
            "original": step,
            "step": step,
            "run": run,
            "node": node,
            "join": JOINS[node.join].format(node.at_least),
            "is_block": node.kind not in CARRIED_OUT,
            "given": node.arguments if step.arguments is None else step.arguments,
            "badge": state_badge(step.state),
            "reason": {**waiting_words([step]), **parked_sentences([step])}.get(
                (step.run_id, step.path), loop_words(step) or reason_words(step.reason)
            ),
            "link": _link_of(step, node, request),
            "took": duration(step.started_at, step.finished_at),
            "attempts": list(step.attempts.order_by("-number")[:LINES_SHOWN]),
            "incidents": incidents,
            "asked": _request_of(step),
            "buttons": buttons_of_incident(opened[0], request.user) if opened else [],
            "journal": journal[:LINES_SHOWN],
            "children": list(child_runs(run.pk, paths=[step.path])[:LINES_SHOWN]),
        }


def _request_of(step: Step) -> Approval | None:
    """Return the request for a decision that the step waits for."""
    if step.state != StepState.WAITING or step.reason != Reason.APPROVAL:
        return None
    return Approval.objects.filter(step=step, closed_at__isnull=True).first()


@admin.register(Attempt)
class AttemptAdmin(ReadOnlyAdmin):
    list_display = ("number", "step_of", "run_of", "end", "error_code", "worker", "took")
    list_filter = (CreatedFilter,)
    nothing = "Each try at a step that has ended, with its worker and its error."
    search_fields = ("run_id",)
    search_help_text = "The beginning of a run's id."
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    fields = (
        "number",
        "step",
        "run",
        "end",
        "worker",
        "error",
        "late",
        "started_at",
        "finished_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Attempt]:
        # Not joined: of the rows before the page, only their keys are read.
        return Attempt.objects.prefetch_related(Prefetch("step", Step.objects.only("path")))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempt], search_term: str
    ) -> tuple[QuerySet[Attempt], bool]:
        return of_run(queryset, search_term, "step__run_id"), False

    @admin.display(description="Step")
    def step_of(self, attempt: Attempt) -> SafeString:
        url = step_url(attempt.step_id)
        return format_html('<a class="link" href="{}">{}</a>', url, attempt.step.path)

    @admin.display(description="Run")
    def run_of(self, attempt: Attempt) -> SafeString:
        return run_link(attempt.run_id)

    @admin.display(description="Error")
    def error_code(self, attempt: Attempt) -> str:
        return attempt.error["code"] if attempt.error else "-"

    @admin.display(description="Took")
    def took(self, attempt: Attempt) -> str:
        return duration(attempt.started_at, attempt.finished_at) or "-"
