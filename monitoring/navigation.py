"""The side bar: what operators need first, then what is behind it."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse_lazy
from django.utils import timezone

from workflows.engine.states import Reason
from workflows.models import Approval, Incident
from workflows.selectors.approvals import may_have_any, to_decide

MOST_COUNTED = 99


def sidebar(_: HttpRequest) -> list[dict[str, Any]]:
    """Return the groups of links; each is shown to those who may open it."""
    return [
        {
            "title": "Operations",
            "items": [
                _link("Overview", "admin:index", "dashboard", "workflows.view_run"),
                {
                    **_model("Incidents", "workflows_incident", "error", "workflows.view_incident"),
                    "badge": "monitoring.navigation.open_incidents",
                },
                {
                    "title": "Approvals",
                    "icon": "how_to_vote",
                    "link": reverse_lazy("admin:workflows_approval_changelist"),
                    "permission": may_have_approvals,
                    "badge": "monitoring.navigation.approvals_to_decide",
                },
                _model("Runs", "workflows_run", "play_circle", "workflows.view_run"),
                _model(
                    "Workflows", "workflows_workflow", "account_tree", "workflows.view_workflow"
                ),
                _model(
                    "Environments",
                    "environments_environment",
                    "dns",
                    "environments.view_environment",
                ),
                _model("Guards", "workflows_breaker", "shield", "workflows.view_breaker"),
                _model("Profiles", "environments_profile", "badge", "environments.view_profile"),
                _link("Workers (Flower)", "flower", "local_florist", "workflows.view_run"),
            ],
        },
        {
            "title": "Records",
            "separator": True,
            "collapsible": True,
            "items": [
                _model(
                    "Events",
                    "workflows_receivedevent",
                    "notifications",
                    "workflows.view_receivedevent",
                ),
                _model("Steps", "workflows_step", "steps", "workflows.view_step"),
                _model("Attempts", "workflows_attempt", "repeat", "workflows.view_attempt"),
                _model("Journal", "workflows_journal", "history", "workflows.view_journal"),
                _model("Versions", "workflows_version", "commit", "workflows.view_version"),
                {
                    **_model(
                        "Delegations",
                        "workflows_delegation",
                        "forward_to_inbox",
                        "workflows.view_delegation",
                    ),
                    "permission": may_have_approvals,
                },
                _model(
                    "Profile pools",
                    "environments_profilepool",
                    "groups",
                    "environments.view_profilepool",
                ),
                _model("Prunings", "workflows_pruning", "auto_delete", "workflows.view_pruning"),
            ],
        },
        {
            "title": "Time",
            "separator": True,
            "collapsible": True,
            "items": [
                _beat("Periodic tasks", "periodictask", "schedule"),
                _beat("Intervals", "intervalschedule", "timer"),
                _beat("Crontabs", "crontabschedule", "calendar_month"),
                _beat("Clocked", "clockedschedule", "alarm"),
                _beat("Solar events", "solarschedule", "sunny"),
            ],
        },
        {
            "title": "Access",
            "separator": True,
            "collapsible": True,
            "items": [
                _model("People", "auth_user", "person", "auth.view_user"),
                _model("Roles", "auth_group", "group", "auth.view_group"),
                _model("API tokens", "knox_authtoken", "key", "knox.view_authtoken"),
                _link("API", "docs", "api", "workflows.view_run"),
            ],
        },
    ]


def open_incidents(request: HttpRequest) -> str:
    """Return how many incidents are open, for the badge beside the link."""
    if not request.user.has_perm("workflows.view_incident"):
        return ""
    number = Incident.objects.filter(resolution="").order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if number > MOST_COUNTED else str(number)


def may_have_approvals(request: HttpRequest) -> bool:
    """Say whether this person may see approvals, or may be asked for one."""
    user = request.user
    if user.has_perm("workflows.view_approval"):
        return True
    return isinstance(user, User) and may_have_any(user, now=timezone.now())


def approvals_to_decide(request: HttpRequest) -> str:
    """Return how many requests this person can decide on: beside the link, and in the header."""
    known = getattr(request, "approvals_to_decide", None)
    if known is None:
        known = _approvals_to_decide(request.user)
        request.approvals_to_decide = known  # type: ignore[attr-defined] # looked up once a page
    return str(known)


def _approvals_to_decide(user: object) -> str:
    if not isinstance(user, User):
        return ""
    wanted = to_decide(user, now=timezone.now())
    found = Approval.objects.filter(wanted, kind=Reason.APPROVAL.value).order_by()
    number = found[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED}+" if number > MOST_COUNTED else str(number)


def _link(title: str, name: str, icon: str, permission: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(name),
        "permission": lambda request: request.user.has_perm(permission),
    }


def _model(title: str, model: str, icon: str, permission: str) -> dict[str, Any]:
    return _link(title, f"admin:{model}_changelist", icon, permission)


def _beat(title: str, model: str, icon: str) -> dict[str, Any]:
    name = f"django_celery_beat_{model}"
    return _model(title, name, icon, f"django_celery_beat.view_{model}")
