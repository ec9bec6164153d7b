"""Runs: the list, the run page, and the buttons on both."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    DropdownFilter,
    RelatedDropdownFilter,
)

from workflows.admin.base import (
    CreatedFilter,
    ReadOnlyAdmin,
    demand,
    duration,
    found_by_id,
    found_or_404,
    is_uuid,
    short,
)
from workflows.admin.confirming import confirm_many, confirm_one
from workflows.admin.looks import run_badge, words_of
from workflows.admin.migrating import migrate_many
from workflows.admin.operations import RUN_OPERATIONS, Operation
from workflows.models import Incident, Run, Workflow
from workflows.selectors.runs import get_run, runs
from workflows.selectors.undoing import undo_preview

UNDOING = frozenset({"undo", "cancel_undo"})
"""The operations whose pages show beforehand what would be undone."""


class NeedsPersonFilter(DropdownFilter):
    """Runs with an open incident."""

    title = "open incidents"
    parameter_name = "incidents"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Has open incidents")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        if self.value() == "open":
            return queryset.filter(
                Exists(Incident.objects.filter(run=OuterRef("pk"), resolution=""))
            )
        return queryset


class LevelFilter(DropdownFilter):
    """Runs that people and triggers have started, or those that steps have."""

    title = "level"
    parameter_name = "level"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("top", "Top level only"), ("child", "Child runs only")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        if self.value() in {"top", "child"}:
            return queryset.filter(parent__isnull=self.value() == "top")
        return queryset


class ParentFilter(DropdownFilter):
    """The child runs of one run; chosen by the link on its page."""

    title = "child runs of"
    parameter_name = "parent"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        asked = request.GET.get("parent", "")
        return [(asked, f"The run {asked}")] if is_uuid(asked) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        asked = str(self.value() or "")
        return queryset.filter(parent=UUID(asked)) if is_uuid(asked) else queryset


def title_of(run: Run) -> str:
    """Return what a run is called in a sentence."""
    return f"{run.workflow.name} v{run.version.number}, run {short(run.pk)}"


def _where(request: HttpRequest, run: Run) -> str:
    """Return the step at which a fork is to begin unless the person says another: what failed."""
    failed = Incident.objects.filter(run=run.pk).order_by("id").values_list("path", flat=True)
    return request.GET.get("path") or failed.first() or ""


@admin.register(Run)
class RunAdmin(ReadOnlyAdmin):
    list_display = ("name", "badge", "environment", "created_at", "took", "person", "needs")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("workflow", RelatedDropdownFilter),
        ("environment", RelatedDropdownFilter),
        NeedsPersonFilter,
        LevelFilter,
        ParentFilter,
        CreatedFilter,
    )
    search_fields = ("id",)
    search_help_text = "The beginning or the end of a run's id, or a workflow's name."
    ordering = ("-id",)
    sortable_by = ()
    actions = ("pause", "resume", "cancel", "undo", "migrate")
    page_template = "workflows/run.html"
    list_before_template = "workflows/runs_head.html"
    greets = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return runs()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        if not search_term.strip():
            return queryset, False
        by_id = found_by_id(queryset, search_term)
        if by_id is not None:
            return by_id, False
        named = Workflow.objects.filter(name__icontains=search_term.strip())
        return queryset.filter(workflow__in=list(named.values_list("pk", flat=True))), False

    @admin.display(description="Run")
    def name(self, run: Run) -> SafeString:
        return format_html(
            '<span>{} <span class="soft">v{}</span> <code class="soft">{}</code>{}</span>',
            run.workflow.name,
            run.version.number,
            short(run.pk),
            format_html(' <span class="soft">{}</span>', "child run") if run.parent_id else "",
        )

    @admin.display(description="State")
    def badge(self, run: Run) -> SafeString:
        return run_badge(run)

    @admin.display(description="Took")
    def took(self, run: Run) -> str:
        return duration(run.started_at, run.finished_at) or "-"

    @admin.display(description="Started by")
    def person(self, run: Run) -> str:
        return run.started_by.removeprefix("person:")

    @admin.display(description="Open incidents")
    def needs(self, run: Run) -> SafeString | str:
        number: int = run.open_incidents  # type: ignore[attr-defined] # annotated by `runs`
        return format_html('<b class="bad">{}</b>', number) if number else "-"

    def has_pause_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.pause_run")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.cancel_run")

    @admin.action(permissions=["pause"], description="Pause the selected runs")
    def pause(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        return confirm_many(self, request, RUN_OPERATIONS["pause"], queryset)

    @admin.action(permissions=["pause"], description="Resume the selected runs")
    def resume(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        return confirm_many(self, request, RUN_OPERATIONS["resume"], queryset)

    @admin.action(permissions=["cancel"], description="Cancel the selected runs")
    def cancel(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        return confirm_many(self, request, RUN_OPERATIONS["cancel"], queryset)

    def has_undo_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.compensate_run")

    @admin.action(permissions=["undo"], description="Undo the selected runs")
    def undo(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        return confirm_many(self, request, RUN_OPERATIONS["undo"], queryset)

    def has_migrate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("workflows.migrate_run")

    @admin.action(permissions=["migrate"], description="Migrate the selected runs")
    def migrate(self, request: HttpRequest, queryset: QuerySet[Run]) -> HttpResponse | None:
        return migrate_many(self, request, queryset)

    def get_urls(self) -> list[URLPattern]:
        return [
            *(
                self.page(f"<str:object_id>/{operation.name}/", self.ask(operation), operation.name)
                for operation in RUN_OPERATIONS.values()
            ),
            *super().get_urls(),
        ]

    def ask(self, operation: Operation) -> Any:
        """Return the page that asks before `operation` is done to one run."""

        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            demand(request, operation.permission)
            if operation.name == "cancel_undo":
                demand(request, RUN_OPERATIONS["cancel"].permission)
            run = found_or_404(get_run, object_id)
            return confirm_one(
                self,
                request,
                operation,
                pk=run.pk,
                subject=title_of(run),
                back=reverse("admin:workflows_run_change", args=[run.pk]),
                more={"undo": undo_preview(run.pk)} if operation.name in UNDOING else None,
                initial={"path": _where(request, run), "input": run.input},
            )

        return view

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        run = found_or_404(get_run, object_id)
        return {"title": f"{run.workflow.name} {short(run.pk)}", "original": run, "run": run}

    def title_of(self, row: Run) -> str:
        return f"{title_of(row)}, {words_of(row.state).lower()}"
