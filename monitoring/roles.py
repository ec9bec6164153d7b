"""Who may do what: four groups, made with the database and brought up to date with every migration.

A permission that a person takes from a group by hand is given back by the next migration; groups
of other names are left alone.
"""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.db.models import Q

SEEN = (
    "workflows.view_workflow",
    "workflows.view_version",
    "workflows.view_run",
    "workflows.view_step",
    "workflows.view_attempt",
    "workflows.view_incident",
    "workflows.view_approval",
    "workflows.view_vote",
    "workflows.view_delegation",
    "workflows.view_journal",
    "workflows.view_pruning",
    "workflows.view_breaker",
    "workflows.view_receivedevent",
    "environments.view_profilepool",
    "environments.view_profile",
    "environments.view_environment",
    "environments.view_environmentjournal",
    "django_celery_beat.view_periodictask",
)
OPERATED = (
    "workflows.start_workflow",
    "workflows.pause_run",
    "workflows.cancel_run",
    "workflows.compensate_run",
    "workflows.migrate_run",
    "workflows.replay_incident",
    "workflows.skip_incident",
    "workflows.discard_incident",
    "workflows.operate_breaker",
    "workflows.publish_event",
    "workflows.see_callback_url",
    "environments.operate_profile",
)
WRITTEN = ("workflows.add_version", "workflows.start_workflow")
MANAGED = (
    "environments.add_environment",
    "environments.change_environment",
    "environments.add_profilepool",
    "environments.change_profilepool",
    "environments.add_profile",
    "environments.change_profile",
    "workflows.add_breaker",
    "workflows.change_breaker",
    "django_celery_beat.add_periodictask",
    "django_celery_beat.change_periodictask",
    "django_celery_beat.delete_periodictask",
    *(
        f"django_celery_beat.{verb}_{model}"
        for verb in ("view", "add", "change")
        for model in ("intervalschedule", "crontabschedule", "clockedschedule")
    ),
)

ROLES: Mapping[str, frozenset[str]] = {
    "viewers": frozenset(SEEN),
    "operators": frozenset(SEEN + OPERATED),
    "authors": frozenset(SEEN + WRITTEN),
    "managers": frozenset(SEEN + OPERATED + WRITTEN + MANAGED),
}


def ensure_roles() -> None:
    """Create the groups that are missing, and give each the permissions of its role."""
    for label in {permission.partition(".")[0] for one in ROLES.values() for permission in one}:
        create_permissions(apps.get_app_config(label), verbosity=0)
    for name, permissions in ROLES.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*Permission.objects.filter(_any_of(permissions)))


def after_migration(**_: Any) -> None:
    """Have the roles in every database, that of a test too."""
    ensure_roles()


def _any_of(permissions: frozenset[str]) -> Q:
    wanted = Q(pk__in=[])
    for permission in permissions:
        label, _, codename = permission.partition(".")
        wanted |= Q(content_type__app_label=label, codename=codename)
    return wanted
