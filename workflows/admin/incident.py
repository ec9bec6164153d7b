"""Incidents: the dead-letter queue, by what they have in common, and what to do about each."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    FieldTextFilter,
    RelatedDropdownFilter,
)

from environments.badges import Look
from environments.badges import badge as badge_of
from workflows.admin.base import (
    CreatedFilter,
    ReadOnlyAdmin,
    demand,
    found_by_id,
    found_or_404,
    newest_of,
    short,
)
from workflows.admin.confirming import confirm_many, confirm_one
from workflows.admin.operations import (
    INCIDENT_OPERATIONS,
    Operation,
    buttons_of_incident,
    calls_a_task,
)
from workflows.models import Incident
from workflows.selectors.incidents import IncidentFilter, get_incident, incidents
from workflows.selectors.runs import child_runs
from workflows.services.plans import node_of_row

GROUPS_SHOWN = 12
ATTEMPTS_SHOWN = 10
RESOLUTION_LOOKS = {
    "": Look("bad", "error"),
    "replayed": Look("ok", "replay"),
    "skipped": Look("quiet", "redo"),
    "discarded": Look("quiet", "delete"),
    "cancelled": Look("quiet", "block"),
    "compensated": Look("quiet", "undo"),
}


def incident_badge(incident: Incident) -> SafeString:
    """Return the badge of an incident: open, or what was done about it."""
    words = incident.resolution.capitalize() or "Open"
    return badge_of(words, RESOLUTION_LOOKS[incident.resolution])


def causes() -> list[dict[str, Any]]:
    """Return the open incidents by workflow, step and code, the most frequent first."""
    found = newest_of(Incident.objects.filter(resolution="")).order_by()
    counted = found.values("run__workflow", "run__workflow__name", "code", "error_class")
    shown = counted.annotate(number=Count("pk")).order_by("-number", "code")[:GROUPS_SHOWN]
    return [dict(cause) for cause in shown]


class OpenFilter(DropdownFilter):
    """Open incidents unless others are asked for."""

    title = "resolution"
    parameter_name = "show"
    all_option = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Open"), ("resolved", "Resolved"), ("all", "Open and resolved")]

    def value(self) -> str:
        return str(super().value() or "open")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        match self.value():
            case "all":
                return queryset
            case "resolved":
                return queryset.exclude(resolution="")
            case _:
                return queryset.filter(resolution="")


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin):
    list_display = ("what", "badge", "why", "workflow", "run_link", "opened_at")
    list_filter = (
        OpenFilter,
        ("run__workflow", RelatedDropdownFilter),
        ("code", FieldTextFilter),
        ("error_class", ChoicesDropdownFilter),
        ("run__environment", RelatedDropdownFilter),
        CreatedFilter,
    )
    search_fields = ("id",)
    search_help_text = "The beginning of the id of an incident or a run, or a part of a code."
    ordering = ("-id",)
    sortable_by = ()
    actions = ("replay", "skip", "discard")
    page_template = "workflows/incident.html"
    list_before_template = "workflows/incidents_head.html"
    greets = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        return incidents(IncidentFilter(open=None))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Incident], search_term: str
    ) -> tuple[QuerySet[Incident], bool]:
        if not search_term.strip():
            return queryset, False
        own = found_by_id(queryset, search_term)
        if own is not None:
            return own | found_by_id(queryset, search_term, "run_id"), False  # type: ignore[operator] # an id as the first
        return queryset.filter(code__icontains=search_term.strip()), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        return super().changelist_view(request, {**(extra_context or {}), "causes": causes()})

    @admin.display(description="Step")
    def what(self, incident: Incident) -> str:
        return incident.path

    @admin.display(description="State")
    def badge(self, incident: Incident) -> SafeString:
        return incident_badge(incident)

    @admin.display(description="Error")
    def why(self, incident: Incident) -> SafeString:
        return format_html(
            '<span><code>{}</code> <span class="soft">{}</span><br>{}</span>',
            incident.code,
            incident.get_error_class_display(),
            Truncator(incident.message).chars(140),
        )

    @admin.display(description="Workflow")
    def workflow(self, incident: Incident) -> str:
        return incident.run.workflow.name

    @admin.display(description="Run")
    def run_link(self, incident: Incident) -> SafeString:
        url = reverse("admin:workflows_run_change", args=[incident.run_id])
        return format_html(
            '<a class="link" href="{}"><code>{}</code></a>', url, short(incident.run_id)
        )

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.replay_incident")

    def has_skip_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.skip_incident")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.discard_incident")

    @admin.action(permissions=["replay"], description="Replay the selected incidents")
    def replay(self, request: HttpRequest, queryset: QuerySet[Incident]) -> HttpResponse | None:
        return confirm_many(self, request, INCIDENT_OPERATIONS["replay"], queryset)

    @admin.action(permissions=["skip"], description="Skip the selected steps")
    def skip(self, request: HttpRequest, queryset: QuerySet[Incident]) -> HttpResponse | None:
        return confirm_many(self, request, INCIDENT_OPERATIONS["skip"], queryset)

    @admin.action(permissions=["discard"], description="Discard the selected incidents")
    def discard(self, request: HttpRequest, queryset: QuerySet[Incident]) -> HttpResponse | None:
        return confirm_many(self, request, INCIDENT_OPERATIONS["discard"], queryset)

    def get_urls(self) -> list[URLPattern]:
        return [
            *(
                self.page(f"<str:object_id>/{operation.name}/", self.ask(operation), operation.name)
                for operation in INCIDENT_OPERATIONS.values()
            ),
            *super().get_urls(),
        ]

    def ask(self, operation: Operation) -> Any:
        """Return the page that asks before `operation` is done to one incident."""

        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            demand(request, operation.permission)
            incident = found_or_404(get_incident, object_id)
            return confirm_one(
                self,
                request,
                operation,
                pk=incident.pk,
                subject=self.title_of(incident),
                back=reverse("admin:workflows_run_change", args=[incident.run_id]),
                initial={"arguments": arguments_of(incident)}
                if operation.name == "correct"
                else {},
                more={"incident": incident},
            )

        return view

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        incident = found_or_404(get_incident, object_id)
        sees = request.user.has_perm("workflows.view_step") and calls_a_task(incident)
        return {
            "title": f"{incident.path}: {incident.code}",
            "original": incident,
            "incident": incident,
            "badge": incident_badge(incident),
            "buttons": buttons_of_incident(incident, request.user),
            "child": child_runs(incident.run_id, paths=[incident.path]).first(),
            "given": arguments_of(incident) if sees else {},
            "attempts": incident.step.attempts.order_by("-number")[:ATTEMPTS_SHOWN] if sees else (),
        }

    def title_of(self, row: Incident) -> str:
        return f"{row.path} of {row.run.workflow.name}, run {short(row.run_id)}: {row.code}"


def arguments_of(incident: Incident) -> dict[str, Any]:
    """Return what the step was given: a correction of before, or the definition's template."""
    corrected: dict[str, Any] | None = incident.step.arguments
    if corrected is not None:
        return corrected
    run, path = incident.run, incident.step.path
    return dict(node_of_row(run_id=run.pk, version_id=run.version_id, path=path).arguments)
