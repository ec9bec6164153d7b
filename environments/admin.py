"""Environments: their parts are edited, their state moves by buttons that ask first."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from environments.badges import environment_badge
from environments.errors import EnvironmentRefusedError, EnvironmentsError
from environments.models import Environment, EnvironmentJournal
from environments.services import check_parts, create_environment, move_environment
from environments.states import ENVIRONMENT_MOVES, EnvironmentState

CHANGE = "environments.change_environment"

MOVES = {
    EnvironmentState.ACTIVE: ("Activate", "play_arrow", "primary", "It takes new runs."),
    EnvironmentState.DRAINING: (
        "Drain",
        "water_drop",
        "plain",
        "It takes no new runs; those that are under way go on to their end.",
    ),
    EnvironmentState.SUSPENDED: (
        "Suspend",
        "pause",
        "danger",
        "Its workers stop. Runs that have not ended wait until it is active again.",
    ),
    EnvironmentState.RETIRED: (
        "Retire",
        "inventory_2",
        "danger",
        "It will never run anything again. This cannot be undone.",
    ),
}


class EnvironmentForm(forms.ModelForm):  # type: ignore[type-arg] # generic in the stubs alone
    """The parts of an environment, checked as its services check them."""

    class Meta:
        model = Environment
        fields = ("name", "description", "classes", "variables", "admits")
        widgets = {
            name: UnfoldAdminTextareaWidget(attrs={"rows": rows, "class": look})
            for name, rows, look in (
                ("description", 2, ""),
                ("classes", 2, "code"),
                ("variables", 6, "code"),
                ("admits", 2, "code"),
            )
        }
        help_texts = {
            "classes": "The queue classes that steps may ask for, as a JSON list.",
            "variables": "A JSON object; expressions read env.name. No secrets.",
            "admits": "The environments whose runs may send steps here, as a JSON list.",
        }

    def clean(self) -> dict[str, Any]:
        """Refuse classes and variables that no step could ask for."""
        cleaned = super().clean() or {}
        classes, variables = cleaned.get("classes"), cleaned.get("variables")
        admits = cleaned["admits"] = cleaned.get("admits") or []
        for name, wish in (
            ("classes", {"classes": classes, "variables": {}}),
            ("variables", {"classes": ["default"], "variables": variables}),
            ("admits", {"classes": ["default"], "variables": {}, "admits": admits}),
        ):
            if name not in self.errors:
                try:
                    check_parts(**wish)
                except EnvironmentRefusedError as error:
                    self.add_error(name, str(error))
        return cleaned


class MovingAdmin(ModelAdmin):
    """Rows whose state stands above their form, beside the buttons that move it."""

    change_form_outer_before_template = "environments/moves.html"

    def badge(self, row: Any) -> SafeString:
        """Return the badge of a row."""
        raise NotImplementedError

    def moves_of(self, row: Any, request: HttpRequest) -> Sequence[Any]:
        """Return the buttons for what the person may do."""
        raise NotImplementedError

    def said_of(self, row: Any) -> Sequence[str]:
        """Say where the row stands and what to do, in sentences, as far as its form does not."""
        return ()

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        found, more = self.get_object(request, unquote(object_id)), dict(extra_context or {})
        if found is not None:
            more |= {
                "state_badge": self.badge(found),
                "moves": self.moves_of(found, request),
                "said": self.said_of(found),
            }
        response: HttpResponse = super().change_view(request, object_id, form_url, more)
        return response


class JournalInline(TabularInline):
    """A journal below the row that it is of, for whoever has the permission `sees`."""

    ordering = ("-id",)
    per_page = 20
    extra = 0
    can_delete = False
    verbose_name_plural = "journal"
    sees = ""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(self.sees)

    @admin.display(description="By")
    def by(self, line: Any) -> str:
        return str(line.actor).removeprefix("person:")


class MovesInline(JournalInline):
    model = EnvironmentJournal
    fields = readonly_fields = ("at", "before", "after", "by")
    sees = "environments.view_environment"


@admin.register(Environment)
class EnvironmentAdmin(MovingAdmin):
    form = EnvironmentForm
    list_display = ("name", "badge", "description", "class_names", "created_at")
    search_fields = ("name", "description")
    nothing = "Places where steps run, each with queues and workers of its own."
    list_filter = ("state",)
    ordering = ("name",)
    actions = None
    show_full_result_count = False
    fields = ("name", "description", "classes", "variables", "admits")
    inlines = (MovesInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[Any, ...]:
        return self.inlines if obj else ()

    @admin.display(description="State")
    def badge(self, row: Environment) -> SafeString:
        return environment_badge(row.state)

    @admin.display(description="Queue classes")
    def class_names(self, environment: Environment) -> str:
        return ", ".join(environment.classes)

    def save_model(self, request: HttpRequest, obj: Environment, form: Any, change: Any) -> None:
        """Create through the service, which knows the actor; change all but the state."""
        if change:
            obj.save(update_fields=["description", "classes", "variables", "admits"])
            return
        made = create_environment(
            name=obj.name,
            classes=obj.classes,
            variables=obj.variables,
            admits=obj.admits,
            description=obj.description,
            by=_actor(request),
        )
        obj.pk = made.pk

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.move)
        name = "environments_environment_move"
        return [path("<uuid:object_id>/move/<slug:state>/", view, name=name), *super().get_urls()]

    def move(self, request: HttpRequest, object_id: Any, state: str) -> HttpResponse:
        """Ask, then move the environment to `state`."""
        if not request.user.has_perm(CHANGE):
            raise PermissionDenied
        environment = get_object_or_404(Environment, pk=object_id)
        if state not in MOVES:
            raise Http404(f"An environment cannot be moved to {state}.")
        label, icon, tone, meaning = MOVES[EnvironmentState(state)]
        back = reverse("admin:environments_environment_change", args=[environment.pk])
        if request.method == "POST":
            try:
                move_environment(name=environment.name, state=state, by=_actor(request))
            except EnvironmentsError as error:
                messages.error(request, str(error))
            else:
                messages.success(request, f"{environment.name} is {state.lower()} now.")
            return HttpResponseRedirect(back)
        page = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,  # noqa: SLF001 - public in Django's documentation
            "title": f"{label}: {environment.name}",
            "operation": {"label": label, "icon": icon, "tone": tone, "meaning": meaning},
            "subjects": [environment.name],
            "back": back,
        }
        return TemplateResponse(request, "workflows/confirm.html", page)

    def moves_of(self, row: Environment, request: HttpRequest) -> list[dict[str, str]]:
        return _buttons(row) if request.user.has_perm(CHANGE) else []


def _buttons(environment: Environment) -> list[dict[str, str]]:
    return [
        {
            "label": MOVES[state][0],
            "icon": MOVES[state][1],
            "tone": MOVES[state][2],
            "url": reverse(
                "admin:environments_environment_move", args=[environment.pk, state.value]
            ),
        }
        for state in ENVIRONMENT_MOVES[EnvironmentState(environment.state)]
    ]


def _actor(request: HttpRequest) -> str:
    return f"person:{request.user.get_username()}"
