"""The models of others, in the dress of this admin: people, roles, schedules, tokens, log-ins.

Their own modules are imported first, so that what they register is there to be replaced.
"""

import django.contrib.auth.admin
import django_celery_beat.admin as beat
import knox.admin
from django.contrib import admin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    SolarSchedule,
)
from knox.models import AuthToken
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

for model in (
    User,
    Group,
    PeriodicTask,
    IntervalSchedule,
    CrontabSchedule,
    SolarSchedule,
    ClockedSchedule,
    AuthToken,
):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(django.contrib.auth.admin.UserAdmin, ModelAdmin):
    """People."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(django.contrib.auth.admin.GroupAdmin, ModelAdmin):
    """Roles."""


class TaskSelect(UnfoldAdminSelectWidget, beat.TaskSelectWidget):
    """The registered tasks, in the dress of this admin."""


class PeriodicTaskForm(beat.PeriodicTaskForm):
    """The form of a periodic task, in the dress of this admin."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskSelect()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(beat.PeriodicTaskAdmin, ModelAdmin):
    """What beat does and when."""

    form = PeriodicTaskForm
    # Its own template has a script in it, which the content policy does not let run.
    change_form_template = None


@admin.register(IntervalSchedule)
class IntervalScheduleAdmin(ModelAdmin):
    """Every so often."""


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(beat.CrontabScheduleAdmin, ModelAdmin):
    """At times that a crontab says."""


@admin.register(SolarSchedule)
class SolarScheduleAdmin(ModelAdmin):
    """With the sun."""


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(beat.ClockedScheduleAdmin, ModelAdmin):
    """Once, at a time."""


@admin.register(AuthToken)
class AuthTokenAdmin(knox.admin.AuthTokenAdmin, ModelAdmin):
    """The tokens of programs: what one is is said once, when it has been made."""

    list_display = ("token_key", "user", "created", "expiry")
    readonly_fields = ("token_key", "created")
    search_fields = ("token_key", "user__username")
    search_help_text = "The beginning of a token, or of the name of its user."
    show_full_result_count = False
    nothing = "Programs that use the REST API send a token; it can do what its user may do."

    def get_fields(self, request: HttpRequest, obj: AuthToken | None = None) -> tuple[str, ...]:
        return ("user", "expiry") if obj is None else ("token_key", "user", "created", "expiry")

    def get_readonly_fields(
        self, request: HttpRequest, obj: AuthToken | None = None
    ) -> tuple[str, ...]:
        return () if obj is None else (*self.readonly_fields, "user")
