"""Guards: where each breaker stands and what is parked before it; opened and closed by hand."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from environments.admin import JournalInline
from environments.badges import Look, badge
from workflows.admin.base import ReadOnlyAdmin, short
from workflows.admin.confirming import confirm_one
from workflows.admin.operations import Button, Operation, ReasonForm
from workflows.engine.breaker import BreakerState
from workflows.models import Breaker, BreakerJournal
from workflows.models.breaker import Gate
from workflows.selectors.guards import guards, open_parkings, parked_before, standing
from workflows.services.guards import close_guard, open_guard

SETTINGS = ("threshold", "window", "cool_down", "longest_cool_down")
OPERATE = "workflows.operate_breaker"
PARKED_SHOWN = 20

LOOKS = {
    BreakerState.CLOSED: Look("ok", "check_circle"),
    BreakerState.OPEN: Look("bad", "error"),
    BreakerState.HALF_OPEN: Look("care", "autorenew"),
}


class WhyForm(ReasonForm):
    """Why a guard is opened or closed by hand."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["note"].help_text = "Kept in the journal of the guard, with your name."


OPEN = Operation(
    name="open",
    label="Open",
    icon="front_hand",
    tone="danger",
    permission=OPERATE,
    meaning="Steps with this guard are parked when their turn comes: they hold no worker, use up "
    "no try, and the time of the blocks around them stands still. Those that are under way go on. "
    "It stays open until somebody closes it.",
    done="The guard is open until somebody closes it.",
    do=lambda *_: None,
    form=WhyForm,
)
CLOSE = Operation(
    name="close",
    label="Close",
    icon="play_arrow",
    tone="primary",
    permission=OPERATE,
    meaning="Parked steps are let go, a few at first and twice as many each time that those get "
    "through. Failures count anew.",
    done="The guard is closed; what is parked is let go a few at a time.",
    do=lambda *_: None,
    form=WhyForm,
)
BY_NAME = {one.name: one for one in (OPEN, CLOSE)}
DO = {"open": open_guard, "close": close_guard}


class MovesInline(JournalInline):
    model = BreakerJournal
    fields = readonly_fields = ("at", "before", "after", "why", "actor")
    sees = "workflows.view_breaker"


@admin.register(Breaker)
class BreakerAdmin(ReadOnlyAdmin):
    list_display = ("name", "place", "badge", "stands", "why", "failed", "parked")
    list_filter = ("environment", "state")
    search_fields = ("name",)
    search_help_text = "A part of the name."
    ordering = ("environment__name", "name")
    sortable_by = ()
    actions = None
    readonly_fields = ("stands", "why", "failed", "parked", "parked_steps")
    inlines = (MovesInline,)
    change_form_outer_before_template = "environments/moves.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Breaker]:
        return guards()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(ModelAdmin.has_add_permission(self, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_change_permission(self, request, obj))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        known = ("environment", "name", *SETTINGS)
        return (*known, *self.readonly_fields) if obj else known

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("environment", "name", *self.readonly_fields) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[Any, ...]:
        return self.inlines if obj else ()

    def save_model(self, request: HttpRequest, obj: Breaker, form: Any, change: bool) -> None:
        """Store the settings alone: where the breaker stands may have changed meanwhile."""
        obj.save(**({"update_fields": SETTINGS} if change else {"force_insert": True}))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Count what is parked before the guards of the page at once."""
        changelist = super().get_changelist_instance(request)
        rows = changelist.result_list = list(changelist.result_list)
        counted = parked_before(rows)
        for row in rows:
            row.parked_steps_now = counted.get(row.pk, 0)
        return changelist

    @admin.display(description="Environment")
    def place(self, breaker: Breaker) -> str:
        return breaker.environment.name

    @admin.display(description="State")
    def badge(self, breaker: Breaker) -> SafeString:
        return guard_badge(breaker)

    @admin.display(description="Stands")
    def stands(self, breaker: Breaker) -> str:
        return standing(breaker)

    @admin.display(description="Recent failures")
    def failed(self, breaker: Breaker) -> str:
        return f"{len(breaker.failures)} of {breaker.threshold}"

    @admin.display(description="Parked steps")
    def parked(self, breaker: Breaker) -> int:
        known = getattr(breaker, "parked_steps_now", None)
        return parked_before([breaker]).get(breaker.pk, 0) if known is None else int(known)

    @admin.display(description="First in line")
    def parked_steps(self, breaker: Breaker) -> SafeString | str:
        found = open_parkings(Gate.GUARD).filter(
            environment=breaker.environment_id, name=breaker.name
        )[:PARKED_SHOWN]
        lines = [
            (reverse("admin:workflows_run_change", args=[one.run_id]), one.path, short(one.run_id))
            for one in found
        ]
        listed = format_html_join("", '<li><a class="link" href="{}">{}</a> in {}</li>', lines)
        return format_html("<ol>{}</ol>", listed) if lines else "-"

    def get_urls(self) -> list[URLPattern]:
        operate = self.page("<int:pk>/operate/<slug:name>/", self.operate, "operate")
        return [operate, *super().get_urls()]

    def operate(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """Ask, then open or close the guard."""
        breaker = guards().filter(pk=pk).first()
        if breaker is None or name not in BY_NAME:
            raise Http404(f"There is no guard {pk}, or nothing called {name} to do to it.")
        environment, guard = breaker.environment.name, breaker.name

        def do(_: UUID, given: Any, by: str) -> None:
            DO[name](environment=environment, guard=guard, why=given["note"], by=by)

        return confirm_one(
            self,
            request,
            replace(BY_NAME[name], do=do),
            pk=UUID(int=pk),
            subject=f"{guard} in {environment}: {standing(breaker)}",
            back=reverse("admin:workflows_breaker_change", args=[pk]),
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        found = guards().filter(pk=object_id).first() if object_id.isdigit() else None
        more = dict(extra_context or {})
        if found is not None:
            more["state_badge"] = guard_badge(found)
            more["moves"] = _buttons(found) if request.user.has_perm(OPERATE) else []
        response: HttpResponse = super().change_view(request, object_id, form_url, more)
        return response


def guard_badge(breaker: Breaker) -> SafeString:
    """Return the badge of a breaker; where it stands shows when it is pointed at."""
    words = breaker.state.replace("_", "-").capitalize()
    return badge(words, LOOKS[BreakerState(breaker.state)], title=standing(breaker))


def _buttons(breaker: Breaker) -> list[Button]:
    offered = [OPEN] if not breaker.held else []
    if breaker.state != BreakerState.CLOSED:
        offered.append(CLOSE)
    return [
        Button(
            one.label,
            reverse("admin:workflows_breaker_operate", args=[breaker.pk, one.name]),
            one.icon,
            one.tone,
        )
        for one in offered
    ]
