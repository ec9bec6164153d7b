"""Events from outside: what came, and what each did: woke, started, or was refused to start."""

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, FieldTextFilter

from environments.badges import Look
from environments.badges import badge as badge_of
from workflows.admin.base import CreatedFilter, ReadOnlyAdmin, demand, found_by_id, found_or_404
from workflows.admin.confirming import confirm_one
from workflows.admin.operations import Button, Operation
from workflows.models import EffectKind, EventEffect, ReceivedEvent
from workflows.selectors.events import effects, get_event
from workflows.services.events import start_again

EFFECTS_SHOWN = 200

LOOKS: Mapping[str, tuple[str, Look]] = {
    "woke": ("Woke steps", Look("ok", "notifications_active")),
    "started": ("Started runs", Look("ok", "play_circle")),
    "refused": ("Refused to start", Look("bad", "error")),
    "nobody": ("Nobody waited", Look("quiet", "notifications_off")),
    "under_way": ("Being handed out", Look("busy", "hourglass_top")),
}

START_AGAIN = Operation(
    name="start_again",
    label="Start again",
    icon="play_arrow",
    tone="primary",
    permission="workflows.start_workflow",
    meaning="The runs that this event should have started and that were refused are started, as "
    "the newest versions of their workflows say. What is still refused says why.",
    done="What was refused has been started.",
    do=lambda one, _, by: start_again(event_id=one, by=by),
)


def badges_of(event: ReceivedEvent) -> SafeString:
    """Return what an event did, as badges."""
    did = [kind.value for kind in EffectKind if getattr(event, kind.value)]
    shown = did or ["under_way" if event.wake_at else "nobody"]
    return format_html_join(" ", "{}", ((badge_of(*LOOKS[one]),) for one in shown))


def with_effects(rows: QuerySet[ReceivedEvent]) -> QuerySet[ReceivedEvent]:
    """Have rows say what kinds of things an event did."""
    return rows.annotate(
        **{
            kind.value: Exists(EventEffect.objects.filter(event=OuterRef("pk"), kind=kind.value))
            for kind in EffectKind
        }
    )


class RefusedFilter(DropdownFilter):
    """Events by which runs should have been started."""

    title = "starts"
    parameter_name = "starts"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("refused", "Refused")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[ReceivedEvent]
    ) -> QuerySet[ReceivedEvent]:
        if self.value() != "refused":
            return queryset
        refused = EventEffect.objects.filter(kind=EffectKind.REFUSED.value)
        return queryset.filter(pk__in=refused.values("event"))


@admin.register(ReceivedEvent)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("type", "did", "given_id", "source", "subject", "received_at")
    list_filter = (
        RefusedFilter,
        ("type", FieldTextFilter),
        ("source", FieldTextFilter),
        CreatedFilter,
    )
    search_fields = ("id",)
    nothing = "Events that other systems send to POST /api/v1/events/, with what each one did."
    search_help_text = "The id that its source gave it, whole, or the beginning of the id here."
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    page_template = "workflows/event.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ReceivedEvent]:
        return with_effects(ReceivedEvent.objects.defer("envelope"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ReceivedEvent], search_term: str
    ) -> tuple[QuerySet[ReceivedEvent], bool]:
        wanted = search_term.strip()
        if not wanted:
            return queryset, False
        given, own = queryset.filter(given_id=wanted), found_by_id(queryset, wanted)
        return (given if own is None else given | own), False

    @admin.display(description="Did")
    def did(self, event: ReceivedEvent) -> SafeString:
        return badges_of(event)

    def get_urls(self) -> list[URLPattern]:
        again = self.page(f"<str:object_id>/{START_AGAIN.name}/", self.ask, START_AGAIN.name)
        return [again, *super().get_urls()]

    def ask(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page that asks before what was refused is started again."""
        demand(request, START_AGAIN.permission)
        event = found_or_404(get_event, object_id)
        back = reverse("admin:workflows_receivedevent_change", args=[event.pk])
        return confirm_one(self, request, START_AGAIN, pk=event.pk, subject=str(event), back=back)

    def page_of(self, request: HttpRequest, object_id: str) -> dict[str, Any]:
        event = found_or_404(get_event, object_id)
        found = list(effects(event.pk).order_by("kind", "id")[: EFFECTS_SHOWN + 1])
        shown = with_effects(ReceivedEvent.objects.only("wake_at")).get(pk=event.pk)
        return {
            "title": str(event),
            "original": event,
            "event": event,
            "badges": badges_of(shown),
            "effects": [(LOOKS[one.kind][0], one) for one in found[:EFFECTS_SHOWN]],
            "has_more": len(found) > EFFECTS_SHOWN,
            "buttons": self.buttons(request, shown),
        }

    def buttons(self, request: HttpRequest, event: ReceivedEvent) -> list[Button]:
        """Return the way to start what was refused, if there is any and the person may."""
        is_refused = getattr(event, EffectKind.REFUSED.value)
        if not (is_refused and request.user.has_perm(START_AGAIN.permission)):
            return []
        url = reverse("admin:workflows_receivedevent_start_again", args=[event.pk])
        return [Button(START_AGAIN.label, url, START_AGAIN.icon, START_AGAIN.tone)]
