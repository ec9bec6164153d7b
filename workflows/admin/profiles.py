"""Profiles and their pools: who has them. What is in one can be given anew, and is never shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from environments.admin import JournalInline
from environments.badges import Look, badge
from environments.models import Profile, ProfileJournal, ProfilePool
from environments.states import ProfileState
from workflows.admin.base import actor_of
from workflows.admin.operating import Act, OperatedAdmin
from workflows.admin.operations import JsonField, Operation, ReasonForm
from workflows.admin.step import run_link
from workflows.selectors.profiles import folder_of, profiles, who_has
from workflows.services.profiles import (
    clear_profile,
    create_profile,
    disable_profile,
    empty_folder,
    enable_profile,
    replace_context,
)

CHANGE = "environments.change_profile"
OPERATE = "environments.operate_profile"

LOOKS = {
    ProfileState.FREE: Look("ok", "check_circle"),
    ProfileState.LEASED: Look("busy", "lock"),
    ProfileState.TAINTED: Look("bad", "report"),
    ProfileState.DISABLED: Look("quiet", "block"),
}


def _content(*, required: bool) -> JsonField:
    return JsonField(
        label="Context",
        required=required,
        rows=8,
        help_text="A JSON object, such as cookies and logins. It is kept sealed, given to the "
        "steps that lease the profile, and never shown again.",
    )


def _object(given: Any) -> Any:
    """What is in a profile has names, so it is an object."""
    if not isinstance(given, dict):
        raise forms.ValidationError('Give an object, such as {"user": "bot-1"}.')
    return given


class WhyForm(ReasonForm):
    """Why something is done to a profile."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["note"].help_text = "Kept in the journal of the profile, with your name."


class ContextForm(forms.Form):
    """What is in a profile, to be given anew."""

    content = _content(required=True)

    def clean_content(self) -> Any:
        """Refuse what is no object."""
        return _object(self.cleaned_data["content"])


def _operation(  # noqa: PLR0913, PLR0917 - the facts of a button
    name: str, label: str, icon: str, tone: str, meaning: str, done: str
) -> Operation:
    return Operation(
        name=name,
        label=label,
        icon=icon,
        tone=tone,
        permission=OPERATE,
        meaning=meaning,
        done=done,
        do=lambda *_: None,
        form=WhyForm,
    )


CLEAR = _operation(
    "clear",
    "Clear",
    "cleaning_services",
    "primary",
    "A step ended in the middle of using it. Look whether it is well: logged in as it should be, "
    "nothing half done. Then steps lease it again, with the context that it had before that step, "
    "and with its folder as that step left it, unless you empty it first.",
    "Steps lease the profile again.",
)
DISABLE = _operation(
    "disable",
    "Disable",
    "block",
    "danger",
    "No step leases it until somebody enables it.",
    "No step leases the profile any more.",
)
ENABLE = _operation(
    "enable",
    "Enable",
    "play_arrow",
    "primary",
    "Steps lease it again.",
    "Steps lease the profile again.",
)
RENEW = replace(
    _operation(
        "renew",
        "Give it another context",
        "key",
        "plain",
        "What it has is replaced by what you give it, such as a new login. One that is tainted "
        "stays so until it is cleared.",
        "The profile has another context.",
    ),
    permission=CHANGE,
    form=ContextForm,
)
EMPTY = replace(
    _operation(
        "empty",
        "Empty its folder",
        "folder_off",
        "danger",
        "The step that leases it next begins with an empty working folder. What is in the present "
        "one is removed then. One that is tainted stays so until it is cleared.",
        "The step that leases the profile next finds its working folder empty.",
    ),
    form=forms.Form,
)
OFFERED = {
    ProfileState.FREE: (DISABLE, RENEW, EMPTY),
    ProfileState.LEASED: (),
    ProfileState.TAINTED: (CLEAR, DISABLE, RENEW, EMPTY),
    ProfileState.DISABLED: (ENABLE, RENEW, EMPTY),
}


def _with_reason(do: Callable[..., object]) -> Act:
    return lambda profile, given, by: do(profile=profile.pk, why=given["note"], by=by)


def _renew(profile: Profile, given: Mapping[str, Any], by: str) -> None:
    replace_context(profile=profile.pk, context=given["content"], by=by)


def _empty(profile: Profile, _: Mapping[str, Any], by: str) -> None:
    empty_folder(profile=profile.pk, by=by)


ACTS: Mapping[str, tuple[Operation, Act]] = {
    operation.name: (operation, act)
    for operation, act in (
        (CLEAR, _with_reason(clear_profile)),
        (DISABLE, _with_reason(disable_profile)),
        (ENABLE, _with_reason(enable_profile)),
        (RENEW, _renew),
        (EMPTY, _empty),
    )
}


class NewProfileForm(forms.ModelForm):  # type: ignore[type-arg] # generic in the stubs alone
    """A new profile, with what is in it."""

    content = _content(required=False)

    class Meta:
        model = Profile
        fields = ("pool", "name")

    def clean_content(self) -> Any:
        """Refuse what is no object; nothing is an empty one."""
        given = self.cleaned_data["content"]
        return {} if given is None else _object(given)


class MovesInline(JournalInline):
    model = ProfileJournal
    fields = readonly_fields = (
        "at",
        "before",
        "after",
        "run_id",
        "path",
        "attempt",
        "why",
        "by",
    )
    sees = "environments.view_profile"


@admin.register(ProfilePool)
class PoolAdmin(ModelAdmin):
    list_display = ("name", "environment", "folders", "description")
    list_filter = ("environment",)
    list_select_related = ("environment",)
    search_fields = ("name",)
    actions = None
    nothing = "A pool is what steps name in their profile; make one before its profiles."
    show_full_result_count = False
    fields = ("environment", "name", "folders", "description")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("environment", "name") if obj else ()


@admin.register(Profile)
class ProfileAdmin(OperatedAdmin):
    acts = ACTS
    list_display = ("name", "pool", "place", "badge", "held", "run_of", "why", "saved_at")
    list_filter = ("pool__environment", "pool", "state")
    search_fields = ("name",)
    search_help_text = "A part of the name."
    ordering = ("pool__environment__name", "pool__name", "name")
    sortable_by = ()
    actions = None
    nothing = "Profiles are what only one step may use at a time; steps lease those of a pool."
    inlines = (MovesInline,)
    shown = ("pool", "name", "held", "run_of", "why", "leased_at", "saved_at", "folder")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Profile]:
        return profiles()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(ModelAdmin.has_add_permission(self, request))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.shown if obj else ("pool", "name", "content")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.shown if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any) -> tuple[Any, ...]:
        return self.inlines if obj else ()

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        more = {} if obj else {"form": NewProfileForm}
        return super().get_form(request, obj, **(kwargs | more))

    def save_model(self, request: HttpRequest, obj: Profile, form: Any, change: bool) -> None:
        """Make the profile; those that there are change by buttons alone."""
        if not change:
            given, by = form.cleaned_data["content"], actor_of(request)
            obj.pk = create_profile(pool=obj.pool_id, name=obj.name, context=given, by=by)

    @admin.display(description="Environment")
    def place(self, profile: Profile) -> str:
        return profile.pool.environment.name

    @admin.display(description="State")
    def badge(self, row: Profile) -> SafeString:
        return profile_badge(row)

    @admin.display(description="Who has it")
    def held(self, profile: Profile) -> str:
        return who_has(profile) or "-"

    @admin.display(description="Run")
    def run_of(self, profile: Profile) -> SafeString | str:
        return run_link(profile.run_id) if profile.run_id else "-"

    @admin.display(description="Working folder, below PROFILE_DIR of its workers")
    def folder(self, profile: Profile) -> str:
        return folder_of(profile)

    def title_of(self, row: Profile) -> str:
        return f"{row.name} of {row.pool.name}, {row.state.lower()}"

    def said_of(self, row: Profile) -> list[str]:
        match ProfileState(row.state):
            case ProfileState.TAINTED:
                hint = "Look whether it is well, and clear it; until then no step leases it."
                return [f"Tainted: {row.why}." if row.why else "Tainted.", hint]
            case ProfileState.LEASED:
                return [f"It is {who_has(row)}."]
            case ProfileState.DISABLED:
                return ["No step leases it until somebody enables it."]
            case ProfileState.FREE:
                return []

    def offered(self, row: Profile) -> Sequence[Operation]:
        return OFFERED[ProfileState(row.state)]

    def response_add(
        self, request: HttpRequest, obj: Profile, post_url_continue: str | None = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:environments_profile_change", args=[obj.pk]))


def profile_badge(profile: Profile) -> SafeString:
    """Return the badge of a profile; who has it shows when it is pointed at."""
    look = LOOKS[ProfileState(profile.state)]
    return badge(profile.state.capitalize(), look, title=who_has(profile) or profile.why)
