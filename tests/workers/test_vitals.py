"""When a queue is said to be wedged, and when it is not. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workers.vitals import Canary, Facts, Health, Periods, Worker, judge

NOW = datetime(2026, 1, 5, 3, tzinfo=UTC)
ENGINE, QUEUE = "orchestrator", "env.lab.default"
PERIODS = Periods(20)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def worker(name: str = "env-lab@a", queue: str = QUEUE, **facts: Any) -> Worker:
    usual = {"processes": 2, "seen_at": ago(5), "uptime": 3600.0, "broker_uptime": 3600.0}
    return Worker(name=name, queues=[queue], **(usual | facts))


def facts(*workers: Worker, canary: Canary | None = None, **more: Any) -> Facts:
    """Return facts in which the engine is well."""
    canaries = {ENGINE: Canary(None, ago(10))} | ({QUEUE: canary} if canary else {})
    usual = {"now": NOW, "periods": PERIODS, "engine": ENGINE, "canaries": canaries}
    return Facts(workers=workers, **(usual | more))


def health(known: Facts, queue: str = QUEUE) -> Health:
    return judge(queue, known).health


OWED = Canary(sent_at=ago(60), came_at=ago(80))
CAME = Canary(sent_at=ago(10), came_at=ago(9))


def test_a_queue_whose_canary_came_is_healthy() -> None:
    assert health(facts(worker(), canary=CAME)) is Health.HEALTHY


def test_a_queue_whose_canary_is_young_is_healthy() -> None:
    assert health(facts(worker(), canary=Canary(ago(35), ago(55)))) is Health.HEALTHY


def test_a_queue_of_which_nobody_takes_anything_is_wedged() -> None:
    verdict = judge(QUEUE, facts(worker(taken={QUEUE: 75.0}), canary=OWED))

    assert verdict.health is Health.WEDGED
    assert verdict.since == ago(60)
    assert "env-lab@a lives and takes nothing" in verdict.matter


def test_a_canary_behind_many_short_steps_alarms_nobody() -> None:
    assert health(facts(worker(taken={QUEUE: 0.2}), canary=OWED)) is Health.HEALTHY


def test_a_queue_all_of_whose_processes_are_at_live_steps_is_busy() -> None:
    known = facts(worker(), canary=OWED)

    assert health(replace(known, running={"env-lab@a": 2})) is Health.BUSY
    assert health(replace(known, running={"env-lab@a": 1})) is Health.WEDGED


def test_one_worker_that_takes_is_enough() -> None:
    stuck, well = worker("env-lab@a"), worker("env-lab@b", taken={QUEUE: 1.0})

    assert health(facts(stuck, well, canary=OWED)) is Health.HEALTHY


def test_a_queue_without_a_worker_is_unserved() -> None:
    verdict = judge(QUEUE, facts())

    assert verdict.health is Health.UNSERVED
    assert verdict.next == "Start one: python -m orchestrator worker lab"


def test_a_worker_that_fell_silent_without_a_word_is_wedged() -> None:
    known = facts(worker(seen_at=ago(31)), canary=CAME)

    assert health(known) is Health.WEDGED


def test_a_broker_out_of_reach_is_no_fault_of_a_queue() -> None:
    assert health(facts(worker(broker_uptime=None), canary=OWED)) is Health.AWAY


@pytest.mark.parametrize("young", ["uptime", "broker_uptime"])
def test_who_has_just_come_or_come_back_is_given_time(young: str) -> None:
    assert health(facts(worker(**{young: 10.0}), canary=OWED)) is Health.HEALTHY


def test_an_engine_that_takes_nothing_of_what_waits_is_wedged() -> None:
    engine = worker("engine@a", ENGINE, waiting={ENGINE: 70})
    known = facts(engine, canaries={ENGINE: Canary(None, ago(70))})

    assert health(known, ENGINE) is Health.WEDGED


def test_an_engine_that_is_sent_nothing_has_no_clock() -> None:
    engine = worker("engine@a", ENGINE, waiting={ENGINE: 0})
    known = facts(engine, worker(), canaries={ENGINE: Canary(None, ago(70))})

    assert health(known, ENGINE) is Health.STOPPED
    assert "beat" in judge(ENGINE, known).next
    assert health(known, QUEUE) is Health.UNKNOWN


@pytest.mark.parametrize("canary", [1, 20, 25])
def test_a_wedged_queue_is_told_within_two_minutes_at_any_setting(canary: float) -> None:
    assert Periods(canary).logged_within < 120


def test_the_bound_is_kept_whenever_the_wedge_begins() -> None:
    """A round a second before the wedge, the next one a period later: the worst that can be."""
    began = ago(PERIODS.reported_within)
    last_pulse = ago(PERIODS.pulse - 1)
    stuck = worker(seen_at=last_pulse, taken={QUEUE: (last_pulse - began).total_seconds()})
    owed = Canary(began + timedelta(seconds=PERIODS.canary), began)

    assert health(facts(stuck, canary=owed, now=NOW + timedelta(seconds=1))) is Health.WEDGED
