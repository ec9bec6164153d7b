"""The parts of pages that are drawn here, for the templates of any door.

The theme loads every tag library while its own admin is still being imported, so what
needs the admin is imported when it is used.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

register = template.Library()

MOST_SHOWN = 50_000


@register.inclusion_tag("monitoring/run.html", takes_context=True)
def run_page(context: dict[str, Any], run: Any) -> dict[str, Any]:
    """Show the run page of `run`, as the live page shows it too."""
    from monitoring import run_page as pages

    request = context["request"]
    page = pages.run_page(
        run,
        request.user,
        now=timezone.now(),
        page=request.GET.get("page", "1"),
        state=request.GET.get("state", ""),
    )
    return {"page": page, "run": run, "request": request}


@register.inclusion_tag("monitoring/plan.html")
def plan_picture(plan: Any) -> dict[str, Any]:
    """Draw a plan by itself."""
    from monitoring.picture import plan_pictures

    return {"pictures": plan_pictures(plan)}


@register.inclusion_tag("monitoring/inbox.html", takes_context=True)
def inbox(context: dict[str, Any]) -> dict[str, str]:
    """Link to what waits for a decision of this person, if anything does."""
    from monitoring.navigation import approvals_to_decide

    number = approvals_to_decide(context["request"])
    return {"number": "" if number == "0" else number}


@register.filter
def ago(moment: datetime) -> str:
    """Say how long ago a moment was, in minutes or more; what is younger is just now."""
    is_young = timezone.now() - moment < timedelta(minutes=1)
    return "just now" if is_young else f"{timesince(moment)} ago"


@register.filter
def pretty(value: Any) -> str:
    """Return JSON as people read it, cut where it gets too long for a page."""
    from monitoring import run_page as pages

    return pages.cut(json.dumps(value, indent=2, ensure_ascii=False), MOST_SHOWN)


@register.simple_tag
def took(begin: Any, end: Any) -> str:
    """Return how long it took."""
    from workflows.admin.base import duration

    return duration(begin, end)


@register.filter
def state_badge(state: str) -> SafeString:
    """Return the badge of the state of a run or a step."""
    from workflows.admin import looks

    return looks.state_badge(state)


@register.filter
def environment_badge(state: str) -> SafeString:
    """Return the badge of the state of an environment."""
    from environments import badges

    return badges.environment_badge(state)


@register.filter
def reason_words(reason: str) -> str:
    """Return why a step is where it is."""
    from workflows.admin import looks

    return looks.reason_words(reason)


@register.filter
def next_step(incident: Any) -> str:
    """Return what to do about an open incident."""
    from monitoring.advice import advise_on

    return advise_on(incident.error_class, incident.run.state)


@register.filter
def compact(value: Any) -> str:
    """Return JSON on one line, a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@register.filter
def actor(text: str) -> str:
    """Return an actor without the word for persons."""
    return text.removeprefix("person:")
