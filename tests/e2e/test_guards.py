"""A dependency goes down and comes back under real workers: no try is wasted, all get through."""

import pytest

from environments.models import Environment
from tests.e2e.builders import applied, ends, started, until
from tests.support.platform import Platform
from workflows.models import Breaker, BreakerJournal
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_steps_wait_out_an_outage_before_their_guard_and_all_get_through(
    platform: Platform,
) -> None:
    Breaker.objects.create(environment=Environment.objects.get(), name="crm", cool_down=2)
    outage = {"class": "transient", "times": 5}
    retry = {"max_attempts": 6, "initial_delay": 0}
    first = started({"id": "ask", "uses": "fail", "guard": "crm", "with": outage, "retry": retry})
    until(lambda: Breaker.objects.get().state == "OPEN", first)
    name = applied({"id": "ask", "uses": "log", "guard": "crm", "with": {"message": "hello"}})

    others = [start_run(workflow=name, by="person:ann").run for _ in range(12)]

    for run in (first, *others):
        assert platform.finished(run).state == "COMPLETED"
    assert ends(first)["ask"] == ["failed"] * 5 + ["completed"]
    assert [ends(run)["ask"] for run in others] == [["completed"]] * 12
    moves = list(BreakerJournal.objects.order_by("id").values_list("after", flat=True))
    assert moves == ["OPEN", "HALF_OPEN", "CLOSED"]
