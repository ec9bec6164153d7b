"""Bulk actions of the admin on a busy fleet: what they report of each row is true."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.admin.builders import PASSWORD, person
from tests.chaos.cutting import Cutter, cutter
from tests.e2e.builders import ANN, applied, log, sleep, until
from tests.support.platform import Platform
from tests.support.proxy import SOCKET_OF_POSTGRESQL
from workflows.models import Journal, Run
from workflows.services.orders import Order
from workflows.services.runs import start_runs

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LISTED = reverse("admin:workflows_run_changelist") + "?state__exact="
ACTOR = "person:operators-ben"
OVER, UNDER_WAY = 10, 50
"""Runs that end before somebody decides, and runs that do not: more than a page of the list."""


@pytest.fixture
def losing() -> Iterator[Cutter]:
    """A way of this process to the database that can lose the answers to commits."""
    facts = connection.settings_dict
    before = {name: facts[name] for name in ("HOST", "PORT")}
    with cutter(Path(facts["HOST"], SOCKET_OF_POSTGRESQL), mark=ACTOR.encode()) as way:
        connection.close()
        facts.update(HOST="127.0.0.1", PORT=str(way.port))
        try:
            yield way
        finally:
            facts.update(before)
            connection.close()


@pytest.fixture
def operator(losing: Cutter) -> Client:
    """Somebody who has logged in as people do."""
    client, form = Client(), {"username": person("operators", "operators-ben").username}
    client.post(reverse("admin:login"), {**form, "password": PASSWORD})
    return client


def decide(client: Client, url: str, action: str, meanwhile: Callable[[], None]) -> Counter[str]:
    """Select all rows of all pages, have something happen, say yes, and return what was said."""
    [first] = Run.objects.order_by("-id").values_list("pk", flat=True)[:1]
    every = {"action": action, "select_across": "1", "_selected_action": [str(first)]}
    chosen = [value for _, value in client.post(url, every).context["selected"]]
    meanwhile()
    answer = client.post(url, {"action": action, "decided": "1", "_selected_action": chosen})
    said = str(next(iter(get_messages(answer.wsgi_request))))
    found = re.match(r"\w+: (\d+) done(?:, (\d+) refused)?", said)
    assert found, said
    return Counter(chosen=len(chosen), done=int(found[1]), refused=int(found[2] or 0))


def done_by_hand(before: str, after: str) -> list[object]:
    """Return the runs of the transitions that the journal has somebody make."""
    lines = Journal.objects.filter(actor=ACTOR, path="", before=before, after=after)
    return list(lines.values_list("run_id", flat=True))


def test_bulk_actions_tell_the_truth_though_workers_die_and_commits_are_not_answered(
    hasty: Platform, operator: Client, losing: Cutter
) -> None:
    quick, slow = applied(log("only")), applied(sleep("one", 0.4), log("two"))
    orders = [*[Order(quick)] * OVER, *[Order(slow)] * UNDER_WAY]

    with hasty.worker() as worker:

        def lose() -> None:
            over = Run.objects.filter(workflow__name=quick, state="COMPLETED")
            until(lambda: over.count() == OVER, runs[0])
            os.killpg(worker.pid, signal.SIGKILL)
            losing.cut_commits(1000)

        runs = [one.run for one in start_runs(orders=orders, by=ANN)]
        paused = decide(operator, f"{LISTED}RUNNING", "pause", lose)
        losing.disarm()
        held = done_by_hand("RUNNING", "PAUSED")
        resumed = decide(operator, f"{LISTED}PAUSED", "resume", lambda: None)

    assert losing.cuts >= len(held) > 0
    assert len(held) == len(set(held)) == paused["done"]
    assert paused["refused"] == paused["chosen"] - len(held) >= 1
    assert set(done_by_hand("PAUSED", "RUNNING")) == set(held)
    assert (resumed["done"], resumed["refused"]) == (len(held), 0)
    for run in runs:
        assert hasty.finished(run).state == "COMPLETED"
