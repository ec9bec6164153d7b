from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from environments.models import Environment
from monitoring.dashboard import queues
from monitoring.roles import ROLES, ensure_roles
from tests.admin.builders import TWO_STEPS, completed, failed, person, started
from workers.models import CanaryMark, Pulse
from workers.vitals import Health

pytestmark = pytest.mark.django_db
BACKEND = "django.contrib.auth.backends.ModelBackend"


def seen_by(role: str) -> str:
    client = Client()
    client.force_login(person(role), backend=BACKEND)
    return client.get(reverse("admin:index")).content.decode()


def test_a_newcomer_is_told_what_to_do_first() -> None:
    seen = seen_by("authors")

    assert "No workflow yet" in seen
    assert reverse("admin:workflows_workflow_apply") in seen


def test_who_may_see_nothing_is_told_whom_to_ask() -> None:
    assert "You may not see runs." in seen_by("")


def test_open_incidents_stand_first_by_their_cause() -> None:
    failed()

    seen = seen_by("viewers")

    assert seen.index("Needs a person") < seen.index("Under way")
    assert "code=http.404" in seen


def test_the_overview_costs_as_many_queries_with_twenty_runs_as_with_one() -> None:
    def cost(client: Client) -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(reverse("admin:index"))
        return len(captured)

    client = Client()
    client.force_login(person("viewers"), backend=BACKEND)
    failed()
    started()
    cost(client)
    few = cost(client)
    for number in range(10):
        failed(TWO_STEPS.replace("two-steps", f"flow-{number}"))
        started()

    assert cost(client) == few


def test_a_queue_that_nobody_serves_is_slow() -> None:
    Pulse.objects.all().delete()
    CanaryMark.objects.all().delete()
    started()

    lines = queues(now=timezone.now() + timedelta(minutes=5))

    assert [(line.name, line.waiting, line.is_slow) for line in lines] == [
        ("env.default.default", "1", True),
        ("orchestrator", "0", False),
    ]
    assert {line.verdict.health for line in lines} == {Health.UNSERVED}


def test_the_overview_shows_environments_with_their_runs() -> None:
    started()
    completed()

    seen = seen_by("viewers")

    assert Environment.objects.count() == 1
    assert "1 run under way" in seen


def test_the_roles_are_there_and_a_permission_taken_away_comes_back() -> None:
    group = Group.objects.get(name="operators")
    group.permissions.clear()

    ensure_roles()

    given = {f"{p.content_type.app_label}.{p.codename}" for p in group.permissions.all()}
    assert given == ROLES["operators"]
    assert set(ROLES) <= set(Group.objects.values_list("name", flat=True))
