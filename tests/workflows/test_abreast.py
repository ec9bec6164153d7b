"""Quick steps abreast: claimed together, recorded together, and still each one's own."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from tests.support.publisher import Recorder
from tests.workflows import builders
from tests.workflows.builders import (
    ANN,
    QUEUE,
    a_run,
    a_version,
    claim,
    claimed,
    ends,
    journal,
    state,
    states,
    step,
    task,
)
from workers.abreast import Row, claim_of_fan, claim_of_runs
from workers.leases import Held, keeper
from workers.pace import QUICK, Pace, pace
from workers.segment import run_on
from workers.tasks import take_queued
from workflows.dispatch import ABREAST, FanOut
from workflows.engine.events import Succeeded
from workflows.models import Run
from workflows.services import recording
from workflows.services.claiming import claim_abreast
from workflows.services.plans import Pinned, pinned, pinned_to
from workflows.services.recording import record_outcome, record_outcomes
from workflows.services.runs import cancel_run, pause_run
from workflows.services.work import Taker, Work

pytestmark = pytest.mark.usefixtures("committed")

CHAIN = [task(f"s{n}") for n in range(3)]
TAKER = replace(builders.TAKER, quick=pace.is_quick, width=ABREAST)
IN_THE_FAN = replace(TAKER, fan="all")
IN_THE_LOOP = replace(TAKER, fan="each", settles=True)


@pytest.fixture(autouse=True)
def _log_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `log` be quick, and stay so however busy the machine of the tests is."""
    monkeypatch.setattr(pace, "_seconds", {"log": 0.0})
    monkeypatch.setattr(pace, "note", lambda *_: None)


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lose the answer to the first outcomes; return how many steps each call claimed."""
    calls: list[int] = []

    def first_unheard(**facts: object) -> list[Work]:
        claimed = record_outcomes(**facts)  # type: ignore[arg-type]
        calls.append(len(claimed))
        if len(calls) == 1:
            raise psycopg.OperationalError("the connection is lost")
        return claimed

    monkeypatch.setattr(recording, "record_outcomes", first_unheard)
    return calls


def chains(count: int) -> list[Run]:
    return [a_run(*CHAIN) for _ in range(count)]


def fences(runs: Sequence[Run]) -> list[tuple[Pinned, str]]:
    return [(pinned_to(run.pk, run.version_id), "s0") for run in runs]


def a_fan(width: int) -> Run:
    return a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(width)]})


def a_loop(items: int, *body: dict[str, Any], window: int = 10) -> Run:
    steps = list(body) or [task("one")]
    return a_run({"id": "each", "foreach": items, "max_parallel": window, "steps": steps})


def record(works: Sequence[Work]) -> list[Work]:
    done = [(work, Succeeded(work.path, work.attempt, None)) for work in works]
    return record_outcomes(done=done, taker=TAKER, run_on=True, now=timezone.now())


def finish_all(work: Work, taker: Taker = TAKER, *, again: bool = False) -> list[Work]:
    """Record that one step ended well; return all that was claimed behind it."""
    facts = {"taker": taker, "run_on": True, "now": timezone.now(), "again": again}
    return record_outcome(work=work, outcome=Succeeded(work.path, 1, None), **facts)  # type: ignore[arg-type]


def test_a_run_does_not_end_because_its_neighbour_knows_a_step_of_the_same_name() -> None:
    branches = [task("a", needs=[]), task("b", needs=[])]
    one, other = a_run(*branches), a_run(*branches)
    pins = [(pinned_to(one.pk, one.version_id), "a"), (pinned_to(other.pk, other.version_id), "b")]

    run_on(claim_of_runs(pins, TAKER), TAKER, began=float("-inf"))

    assert (state(one), states(one)) == ("RUNNING", {"a": "COMPLETED", "b": "QUEUED"})
    assert (state(other), states(other)) == ("RUNNING", {"a": "QUEUED", "b": "COMPLETED"})


def test_an_end_in_a_run_that_is_paused_does_not_end_it_while_its_neighbours_end() -> None:
    held, other = a_run(task("only")), a_run(task("only"))
    pins = [(pinned_to(run.pk, run.version_id), "only") for run in (held, other)]
    works = claim_of_runs(pins, TAKER)
    pause_run(run_id=held.pk, by=ANN)

    record(works)

    assert (state(held), states(held)) == ("PAUSED", {"only": "COMPLETED"})
    assert state(other) == "COMPLETED"


def test_steps_of_many_runs_go_abreast_to_the_end_of_each() -> None:
    runs = chains(5)

    run_on(claim_of_runs(fences(runs), TAKER), TAKER, began=float("inf"))

    assert [state(run) for run in runs] == ["COMPLETED"] * 5
    assert all(ends(run, f"s{n}") == [(1, "completed")] for run in runs for n in range(3))


def test_a_step_that_somebody_else_has_stays_with_him() -> None:
    mine, his = chains(2)
    claimed(his, "s0", taker=replace(TAKER, worker="worker-2"))

    works = claim_of_runs(fences([mine, his]), TAKER)

    assert [work.run for work in works] == [mine.pk]


def test_an_outcome_that_meets_somebody_is_recorded_all_the_same_and_nothing_follows() -> None:
    free, met = chains(2)
    works = claim_of_runs(fences([free, met]), TAKER)
    cancel_run(run_id=met.pk, by="person:ann")

    following = record(works)

    assert [(work.run, work.path) for work in following] == [(free.pk, "s1")]
    assert (state(met), states(met)["s0"]) == ("CANCELLED", "COMPLETED")


def test_a_commit_of_which_nobody_heard_is_known_again(unheard: list[int]) -> None:
    runs = chains(3)

    run_on(claim_of_runs(fences(runs), TAKER), TAKER, began=float("inf"))

    assert unheard[0] == 3
    for run in runs:
        assert [ends(run, f"s{n}") for n in range(2)] == [[(1, "completed")]] * 2
        assert journal(run, "s1").count(("s1", "QUEUED", "RUNNING")) == 1
        assert state(run) == "COMPLETED"


def test_what_becomes_ready_together_goes_abreast_also_where_it_joins() -> None:
    spread = [task(f"b{n}", needs=["first"]) for n in range(6)]
    knots = [task(f"c{n}", needs=[f"b{n}", f"b{n + 1}"]) for n in range(5)]
    run = a_run(task("first"), *spread, *knots)

    together = finish_all(claimed(run, "first", taker=TAKER))
    run_on(together, TAKER, began=float("inf"))

    assert [work.path for work in together] == [f"b{n}" for n in range(6)]
    assert (state(run), set(states(run).values())) == ("COMPLETED", {"COMPLETED"})
    assert all(ends(run, f"c{n}") == [(1, "completed")] for n in range(5))


def test_steps_of_one_run_that_were_claimed_unheard_are_known_again() -> None:
    run = a_run(task("first"), *(task(f"b{n}", needs=["first"]) for n in range(4)))
    work = claimed(run, "first", taker=TAKER)
    unheard = finish_all(work)

    again = finish_all(work, again=True)

    assert [one.path for one in again] == [one.path for one in unheard]
    assert step(run, "first").attempts.get().late is None


def test_what_is_not_quick_is_left_to_others_but_for_one() -> None:
    run = a_run(task("first"), *(task(f"b{n}", needs=["first"]) for n in range(4)))
    slow = replace(TAKER, quick=lambda _: False)

    alone = finish_all(claimed(run, "first", taker=slow), slow)

    assert [work.path for work in alone] == ["b0"]
    assert [states(run)[f"b{n}"] for n in range(4)] == ["RUNNING", *["QUEUED"] * 3]


def test_items_of_a_loop_go_abreast_and_the_next_ones_behind_them() -> None:
    run = a_loop(34)

    works = claim_of_fan(pinned(run.pk), IN_THE_LOOP)
    run_on(works, IN_THE_LOOP, began=float("inf"))

    assert (len(works), state(run)) == (10, "COMPLETED")
    assert all(ends(run, f"each[{n}].one") == [(1, "completed")] for n in range(34))


def test_bodies_of_many_steps_run_on() -> None:
    run = a_loop(12, task("one"), task("two"), window=6)
    pin = pinned_to(run.pk, run.version_id)

    works = claim_of_runs([(pin, f"each[{n}].one") for n in range(6)], TAKER)
    run_on(works, TAKER, began=float("inf"))

    assert (len(works), state(run)) == (6, "COMPLETED")
    assert all(ends(run, f"each[{n}].two") == [(1, "completed")] for n in range(12))


def test_items_that_were_claimed_unheard_are_known_again(unheard: list[int]) -> None:
    run = a_loop(20)

    run_on(claim_of_fan(pinned(run.pk), IN_THE_LOOP), IN_THE_LOOP, began=float("inf"))

    assert (unheard, state(run)) == ([10, 0], "COMPLETED")
    assert all(ends(run, f"each[{n}].one") == [(1, "completed")] for n in range(20))


def test_a_taker_that_finds_more_than_its_item_calls_another_one_before_it_begins(
    sent: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_seconds", {"log": 60.0})
    run = a_loop(5)
    sent.sent.clear()
    place = {"run": str(run.pk), "version": str(run.version_id), "scope": "each"}

    take_queued.apply(kwargs=place, routing_key=QUEUE, throw=True)

    assert sent.sent == [FanOut(run.pk, run.version_id, QUEUE, 1, "each", is_loop=True)]
    assert state(run) == "COMPLETED"


def test_a_taker_of_the_last_item_calls_nobody(
    sent: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_seconds", {"log": 60.0})
    run = a_loop(1)
    sent.sent.clear()
    place = {"run": str(run.pk), "version": str(run.version_id), "scope": "each"}

    take_queued.apply(kwargs=place, routing_key=QUEUE, throw=True)

    assert (sent.sent, state(run)) == ([], "COMPLETED")


def test_children_of_a_fan_out_go_abreast_and_none_twice() -> None:
    run = a_fan(ABREAST + 4)

    first = claim_of_fan(pinned(run.pk), IN_THE_FAN)
    second = claim_of_fan(pinned(run.pk), replace(IN_THE_FAN, worker="worker-2"))
    run_on(first, IN_THE_FAN, began=float("inf"))

    assert (len(first), len(second)) == (ABREAST, 4)
    assert not {work.path for work in first} & {work.path for work in second}
    assert all(ends(run, work.path) == [(1, "completed")] for work in first)
    assert all(states(run)[work.path] == "RUNNING" for work in second)


def test_children_that_do_not_fit_are_left_to_go_alone() -> None:
    run = a_fan(5)
    pin = pinned(run.pk)

    taker = replace(IN_THE_FAN, quick=lambda _: False)

    works = claim_abreast(pin=pin, taker=taker, now=timezone.now())

    assert works == []
    assert set(states(run).values()) == {"WAITING", "QUEUED"}


def test_claims_of_which_nobody_heard_are_all_known_again() -> None:
    run = a_fan(4)
    facts = {"pin": pinned(run.pk), "taker": IN_THE_FAN}
    unheard = claim_abreast(**facts, now=timezone.now())  # type: ignore[arg-type]

    again = claim_abreast(**facts, now=timezone.now(), again=True)  # type: ignore[arg-type]

    assert [work.path for work in again] == [work.path for work in unheard]


def test_a_step_that_takes_long_lets_its_neighbours_go() -> None:
    before, long, behind = chains(3)
    works = claim_of_runs(fences([before, long, behind]), TAKER)

    with keeper.hold(*works) as held:
        row = Row(held, TAKER)
        first, second = row.next(), row.next()
        assert first is not None
        assert second is not None
        row.note((first.work, Succeeded("s0", 1, None)))
        row.give_back()

    assert (states(before)["s0"], states(before)["s1"]) == ("COMPLETED", "QUEUED")
    assert states(long)["s0"] == "RUNNING"
    assert states(behind)["s0"] == "QUEUED"
    assert claim(behind, "s0", 2) is not None
    assert row.next() is None
    assert row.finish() == []


def test_the_keeper_lets_them_go_by_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | {"LEASE_SECONDS": 0.3}
    monkeypatch.setattr("workers.leases.look", lambda *_, **__: None)
    given_back = threading.Event()
    monkeypatch.setattr(Row, "give_back", lambda _: given_back.set())
    held: list[Held] = []

    with keeper.hold(claimed(a_run(task("long")), "long")), keeper.minding(Row(held, TAKER)):
        came = given_back.wait(timeout=10)

    assert came


def node_of(**keys: object) -> object:
    return a_run_plan(task("only", **keys)).node("only")


def a_run_plan(*definition: dict[str, object]) -> object:
    version = a_version(*definition)
    return pinned_to(version.pk, version.pk).plan


def test_a_type_is_quick_only_when_it_has_proven_so() -> None:
    known, node = Pace(), node_of()

    assert not known.is_quick(node)
    known.note("log", QUICK / 2)
    assert known.is_quick(node)


def test_one_delay_among_quick_steps_is_no_matter() -> None:
    known = Pace()
    known.note("log", QUICK / 10)

    known.note("log", 4 * QUICK)

    assert known.is_quick(node_of())


def test_steps_that_take_long_are_quick_no_more_until_they_are_again() -> None:
    known, node = Pace(), node_of()
    known.note("log", QUICK / 10)

    known.note("log", 100 * QUICK)
    slow = known.is_quick(node)
    for _ in range(30):
        known.note("log", QUICK / 10)

    assert not slow
    assert known.is_quick(node)


def test_what_must_not_be_repeated_never_goes_abreast() -> None:
    known = Pace()
    known.note("shell.run", 0.0)
    known.note("log", 0.0)

    assert not known.is_quick(node_of(uses="shell.run", **{"with": {"command": ["true"]}}))
    assert not known.is_quick(node_of(idempotent=False))


def test_a_step_whose_time_is_short_never_goes_abreast() -> None:
    known = Pace()
    known.note("log", 0.0)

    assert not known.is_quick(node_of(timeout="1s"))
    assert known.is_quick(node_of(timeout="1m"))
