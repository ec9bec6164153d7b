"""What probes ask: does the process answer, does it reach the database, does work flow.

None of it speaks to the broker: how that is, the workers have said. So no probe waits for it.
"""

from collections import Counter
from http import HTTPStatus
from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from workers.canaries import verdicts
from workers.vitals import Health, Verdict


@require_safe
@never_cache
def alive(_: HttpRequest) -> JsonResponse:
    """Answer, and nothing else: for a probe that restarts this process when it does not."""
    return JsonResponse({"status": "alive"})


@require_safe
@never_cache
def ready(_: HttpRequest) -> JsonResponse:
    """Say whether pages can be served: for whoever sends people here."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return _without_database()
    return JsonResponse({"status": "ready"})


@require_safe
@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """Say whether work flows: for monitoring, not for a probe that restarts or removes anything.

    Names are told to those who may see runs; others hear how many queues are how.
    """
    try:
        said = verdicts()
        may_see = request.user.has_perm("workflows.view_run")
    except DatabaseError:
        return _without_database()
    is_well = all(verdict.is_good for verdict in said)
    answer: dict[str, Any] = {
        "status": "ok" if is_well else "trouble",
        "database": "ok",
        "broker": "away" if any(one.health is Health.AWAY for one in said) else "ok",
        "queues": dict(Counter(verdict.health.value for verdict in said)),
    }
    if may_see:
        answer["details"] = [_told(verdict) for verdict in said]
    return JsonResponse(answer, status=HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)


def _told(verdict: Verdict) -> dict[str, Any]:
    return {
        "queue": verdict.queue,
        "health": verdict.health.value,
        "since": verdict.since,
        "matter": verdict.matter,
        "next": verdict.next,
    }


def _without_database() -> JsonResponse:
    answer = {"status": "trouble", "database": "away"}
    return JsonResponse(answer, status=HTTPStatus.SERVICE_UNAVAILABLE)
