"""What a page reads does not grow with history: the rows that its statements touch are counted.

On a small history of thousands, with the bound of counts lowered to match: what reads a
table, or an index of it, from end to end is seen here as it would be felt with millions.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from benchmarks import history
from environments.models import Environment
from environments.services import ensure_default
from monitoring import dashboard
from tests.workflows.builders import a_run, a_version, task
from workflows import store
from workflows.admin import base
from workflows.models import Incident, Run, Step, Workflow
from workflows.services.orders import Order
from workflows.services.runs import start_runs
from workflows.store import loading, rows

RUNS = 2_500
COUNTED = 100
READ = 600
"""Rows of one table that a statement may touch: far fewer than there are of any of these."""

BIG = {"workflows_run", "workflows_step", "workflows_attempt", "workflows_journal"}


@pytest.fixture(autouse=True)
def _history(db: None) -> None:
    ensure_default()
    history.load(RUNS, until=timezone.now())


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Client:
    """Somebody who may see everything; lists are counted no further than `COUNTED`."""
    monkeypatch.setattr(base, "MOST_COUNTED", COUNTED)
    monkeypatch.setattr(dashboard, "MOST_COUNTED", COUNTED)
    client = Client()
    root = get_user_model().objects.create_superuser("root", password="a long enough one")
    client.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
    return client


def touched(statement: str, values: Any) -> dict[str, int]:
    """Return how many rows of each big table the statement touches, the most of any scan."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", values)
        [plan] = cursor.fetchone()
    found: dict[str, int] = {}
    scans = [(plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"]]
    while scans:
        node = scans.pop()
        scans += node.get("Plans", [])
        table = node.get("Relation Name")
        if table in BIG:
            seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            found[table] = max(found.get(table, 0), round(seen * node["Actual Loops"]))
    return found


def reads_of(work: Callable[[], Any]) -> list[tuple[str, dict[str, int]]]:
    """Do the work, and return what each of its queries touched."""
    asked: list[tuple[str, Any]] = []

    def remember(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(remember):
        work()
    return [(sql, touched(sql, params)) for sql, params in asked if sql.startswith("SELECT")]


def too_much(reads: list[tuple[str, dict[str, int]]]) -> list[tuple[str, dict[str, int]]]:
    return [(sql, found) for sql, found in reads if max(found.values(), default=0) > READ]


def a_workflow() -> UUID:
    return Workflow.objects.get(name="history-orders").pk


def an_environment() -> UUID:
    return Environment.objects.get(name="history-north").pk


def a_failed_run() -> Run:
    return Run.objects.filter(state="FAILED").latest("pk")


ADMIN: dict[str, Callable[[], str]] = {
    "index": str,
    "workflows_run_changelist": str,
    "runs, page 3": lambda: "p=3",
    "runs that failed": lambda: "state__exact=FAILED",
    "runs that run": lambda: "state__exact=RUNNING",
    "runs of a workflow": lambda: f"workflow__id__exact={a_workflow()}",
    "runs of an environment": lambda: f"environment__id__exact={an_environment()}",
    "runs of a workflow that failed": lambda: (
        f"workflow__id__exact={a_workflow()}&state__exact=FAILED"
    ),
    "runs of a workflow and an environment that were cancelled": lambda: (
        f"workflow__id__exact={a_workflow()}&environment__id__exact={an_environment()}"
        "&state__exact=CANCELLED"
    ),
    "runs with incidents": lambda: "incidents=open",
    "runs of a day": lambda: "age=day",
    "runs that are old": lambda: "age=older",
    "runs by id": lambda: f"q={a_failed_run().pk}",
    "runs by name": lambda: "q=orders",
    "runs by a name that none has": lambda: "q=zzz",
    "workflows_incident_changelist": str,
    "incidents of a workflow": lambda: f"run__workflow__id__exact={a_workflow()}",
    "incidents by run": lambda: f"show=all&q={a_failed_run().pk}",
    "workflows_step_changelist": str,
    "steps that are queued": lambda: "now=queued",
    "steps that run": lambda: "now=running",
    "steps of a run": lambda: f"q={a_failed_run().pk}",
    "workflows_attempt_changelist": str,
    "attempts of a run": lambda: f"q={a_failed_run().pk}",
    "workflows_journal_changelist": str,
    "journal of a run": lambda: f"q={a_failed_run().pk}",
    "journal of a person": lambda: "q=person:nobody",
    "workflows_workflow_changelist": str,
}
"""Pages of the admin: a name of an address, or the plural of a list and what is asked of it."""

LISTS = {"runs": "run", "incidents": "incident", "steps": "step", "attempts": "attempt"}


def address_of(page: str) -> str:
    name = page
    if " " in page:
        word = page.partition(" ")[0].strip(",")
        name = f"workflows_{LISTS.get(word, word)}_changelist"
    return f"{reverse(f'admin:{name}')}?{ADMIN[page]()}"


def test_the_pages_of_the_admin_read_no_more_than_they_show(door: Client) -> None:
    addresses = {page: address_of(page) for page in ADMIN}

    reads = {page: reads_of(partial(door.get, address)) for page, address in addresses.items()}

    assert all(len(found) > 3 for found in reads.values())
    assert not {page: bad for page, found in reads.items() if (bad := too_much(found))}


def days_ago(days: float) -> str:
    return f"{timezone.now() - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


API: dict[str, Callable[[], str]] = {
    "runs/": str,
    "runs/ FAILED": lambda: "state=FAILED",
    "runs/ of a workflow": lambda: "workflow=history-orders",
    "runs/ of a workflow that is not there": lambda: "workflow=nothing",
    "runs/ of a workflow that failed": lambda: "workflow=history-orders&state=FAILED",
    "runs/ of an environment": lambda: "environment=history-north",
    "runs/ of an old day": lambda: f"created_after={days_ago(301)}&created_before={days_ago(300)}",
    "runs/ before an old day": lambda: f"created_before={days_ago(300)}",
    "incidents/": str,
    "incidents/ of a workflow": lambda: "workflow=history-orders",
    "workflows/": str,
    "environments/": str,
}


def test_the_pages_of_the_api_read_no_more_than_they_show(door: Client) -> None:
    addresses = {page: f"/api/v1/{page.partition(' ')[0]}?{API[page]()}" for page in API}

    reads = {page: reads_of(partial(door.get, address)) for page, address in addresses.items()}

    assert all(reads.values())
    assert not {page: bad for page, found in reads.items() if (bad := too_much(found))}


def test_the_last_page_of_the_api_reads_as_little_as_the_first(door: Client) -> None:
    address = f"/api/v1/runs/?limit=10&created_before={days_ago(361)}"
    while (following := door.get(address).json()["next"]) is not None:
        address = following

    assert "cursor=" in address
    assert not too_much(reads_of(lambda: door.get(address)))


def test_the_page_of_one_run_reads_its_own_rows(door: Client) -> None:
    run = a_failed_run()
    step = Step.objects.filter(run=run).earliest("node")

    for name, thing in (("run", run), ("step", step)):
        address = reverse(f"admin:workflows_{name}_change", args=[thing.pk])
        reads = reads_of(partial(door.get, address))
        assert all(max(found.values(), default=0) < 50 for _, found in reads)


LIVE = 40


def sweeps(now: datetime) -> dict[str, tuple[str, tuple[Any, ...]]]:
    later = now + timedelta(hours=1)
    return {
        "leases": (rows.DUE_STEPS, (later, ["RUNNING"], 200)),
        "timers": (rows.DUE_STEPS, (later, ["RETRYING", "WAITING"], 200)),
        "deadlines": (rows.DUE_RUNS, (later, 200)),
        "messages": (rows.POSTPONE_QUEUED, (later, later, 200)),
        "scopes": (rows.UNJOINED_SCOPES, (later, 200)),
        "runs": (rows.UNFINISHED_RUNS, (later, 200)),
    }


def test_sweeps_read_what_lives_also_when_statistics_know_of_nothing_that_lives() -> None:
    version = a_version(*(task(f"s{number}") for number in range(5)))
    start_runs(orders=[Order(version.workflow.name)] * LIVE, by="person:ann")
    seen = {}

    for sweep, (statement, values) in sweeps(timezone.now()).items():
        plan = store.cursor().execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values)
        seen[sweep] = _most_seen(plan.fetchone()[0][0]["Plan"])

    assert seen["messages"] >= LIVE
    assert not {sweep: number for sweep, number in seen.items() if number > LIVE * 5}


def test_the_end_of_a_scope_reads_what_ended_badly_in_it_however_wide_the_run_is() -> None:
    run = a_run({"id": "all", "parallel": [task(f"s{number}") for number in range(300)]})

    failed = touched(loading.FAILED_INSIDE, (["all"], run.pk))
    alive = touched(loading.HAVE_LIVE, (["all"], run.pk))

    assert failed == {"workflows_step": 0}
    assert alive["workflows_step"] <= 1


def _most_seen(node: dict[str, Any]) -> int:
    seen = 0
    if node.get("Relation Name") in BIG:
        seen = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return max([round(seen), *map(_most_seen, node.get("Plans", []))])


def test_the_history_is_what_the_measurements_say_it_is() -> None:
    found = {state: Run.objects.filter(state=state).count() for state in ("COMPLETED", "FAILED")}

    assert history.loaded() == RUNS
    assert found["COMPLETED"] > 0.9 * RUNS
    assert found["FAILED"] > 0.03 * RUNS
    assert Incident.objects.filter(resolution="").exists()
