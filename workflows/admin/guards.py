"""Guards: where each breaker stands and what is parked before it; opened and closed by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from environments.admin import JournalInline
from environments.badges import Look, badge
from workflows.admin.base import short
from workflows.admin.operating import Act, OperatedAdmin
from workflows.admin.operations import Operation, ReasonForm
from workflows.engine.breaker import BreakerState
from workflows.models import Breaker, BreakerJournal, Parking
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


def _act(do: Callable[..., object]) -> Act:
    return lambda breaker, given, by: do(
        environment=breaker.environment.name, guard=breaker.name, why=given["note"], by=by
    )


class MovesInline(JournalInline):
    model = BreakerJournal
    fields = readonly_fields = ("at", "before", "after", "because", "by")
    sees = "workflows.view_breaker"

    @admin.display(description="Why")
    def because(self, line: BreakerJournal) -> str:
        return said_why(line)


@admin.register(Breaker)
class BreakerAdmin(OperatedAdmin):
    acts = {"open": (OPEN, _act(open_guard)), "close": (CLOSE, _act(close_guard))}
    list_display = ("name", "place", "badge", "stands", "because", "failed", "parked")
    list_filter = ("environment", "state")
    search_fields = ("name",)
    search_help_text = "A part of the name."
    ordering = ("environment__name", "name")
    sortable_by = ()
    actions = None
    nothing = "A guard is here once a step that names it has failed, or when you add one."
    readonly_fields = ("failed", "parked_steps")
    inlines = (MovesInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Breaker]:
        return guards()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(ModelAdmin.has_add_permission(self, request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_change_permission(self, request, obj))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show where it stands before what may be set."""
        if obj is None:
            return [(None, {"fields": ("environment", "name", *SETTINGS)})]
        stands = {"fields": ("environment", "name", *self.readonly_fields)}
        return [(None, stands), ("Settings", {"fields": SETTINGS})]

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
    def badge(self, row: Breaker) -> SafeString:
        return guard_badge(row)

    @admin.display(description="Stands")
    def stands(self, breaker: Breaker) -> str:
        return standing(breaker)

    @admin.display(description="Why")
    def because(self, breaker: Breaker) -> str:
        return said_why(breaker) or "-"

    @admin.display(description="Recent failures")
    def failed(self, breaker: Breaker) -> str:
        return f"{len(breaker.failures)} of {breaker.threshold}"

    @admin.display(description="Parked steps")
    def parked(self, breaker: Breaker) -> int:
        known = getattr(breaker, "parked_steps_now", None)
        return parked_before([breaker]).get(breaker.pk, 0) if known is None else int(known)

    @admin.display(description="First in line")
    def parked_steps(self, breaker: Breaker) -> SafeString | str:
        found = self._first_in_line(breaker)
        lines = [
            (reverse("admin:workflows_run_change", args=[one.run_id]), one.path, short(one.run_id))
            for one in found
        ]
        listed = format_html_join("", '<li><a class="link" href="{}">{}</a> in {}</li>', lines)
        return format_html("<ol>{}</ol>", listed) if lines else "-"

    def _first_in_line(self, breaker: Any) -> list[Parking]:
        """Return the first steps that are parked; the theme asks for a field several times."""
        if not hasattr(breaker, "first_in_line"):
            before = {"environment": breaker.environment_id, "name": breaker.name}
            found = open_parkings(Gate.GUARD).filter(**before)
            breaker.first_in_line = list(found[:PARKED_SHOWN])
        first: list[Parking] = breaker.first_in_line
        return first

    def title_of(self, row: Breaker) -> str:
        return f"{row.name} in {row.environment.name}: {standing(row)}"

    def said_of(self, row: Breaker) -> list[str]:
        if row.state == BreakerState.CLOSED and row.ramp is None:
            return ["Steps with this guard pass."]
        why = f"It is {standing(row)}: {said_why(row)}" if row.why else f"It is {standing(row)}."
        hint = "Look whether what it guards is well again; then close it." if row.held else ""
        return [why, f"{parked_said(self.parked(row))} {hint}".strip()]

    def offered(self, row: Breaker) -> list[Operation]:
        tripped = row.state == BreakerState.OPEN
        offered = [] if row.held else [replace(OPEN, label="Keep open") if tripped else OPEN]
        return offered if row.state == BreakerState.CLOSED else [*offered, CLOSE]


def said_why(row: Breaker | BreakerJournal) -> str:
    """Return why a guard stands where it does, with people by their names."""
    return row.why.replace("(person:", "(")


def parked_said(number: int) -> str:
    """Say how many steps are parked before a guard."""
    return "1 step is parked before it." if number == 1 else f"{number} steps are parked before it."


def guard_badge(breaker: Breaker) -> SafeString:
    """Return the badge of a breaker; where it stands shows when it is pointed at."""
    words = breaker.state.replace("_", "-").capitalize()
    return badge(words, LOOKS[BreakerState(breaker.state)], title=standing(breaker))
