"""Guards: a dependency in trouble parks steps, and takes them back one, a few, many at a time."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError
from django.utils import timezone

from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    any_claimed,
    at_once,
    claim,
    claimed,
    ends,
    fail,
    finish,
    journal,
    sql,
    state,
    states,
    step,
    task,
)
from workflows import store
from workflows.dispatch import Segment
from workflows.engine.events import Loss
from workflows.models import Breaker, BreakerJournal, Parking, Run
from workflows.services import guards
from workflows.services.claiming import claim_abreast, claim_steps
from workflows.services.errors import InputRefusedError, NotFoundError, StateRefusedError
from workflows.services.guards import close_guard, open_guard
from workflows.services.plans import pinned
from workflows.services.recovery import recover, release_worker
from workflows.services.runs import cancel_run, pause_run, resume_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

PATIENT = {"max_attempts": 50, "initial_delay": 0}


def guarded(name: str = "only", **keys: Any) -> dict[str, Any]:
    return task(name, guard="crm", retry=PATIENT, **keys)


def breaker() -> Breaker:
    return Breaker.objects.get(environment__name="default", name="crm")


def later(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)


def break_it(times: int = 5, *, now: datetime | None = None) -> Run:
    """Have steps of a run fail until the breaker has heard of so many failures."""
    run = a_run(guarded())
    for attempt in range(1, times + 1):
        fail(claimed(run, "only", attempt, now=now), "transient", now=now)
    return run


def parked(number: int) -> list[Run]:
    """Start runs whose step is parked before the open guard."""
    runs = [a_run(guarded()) for _ in range(number)]
    for run in runs:
        assert claim(run, "only") is None
    return runs


def queued(runs: list[Run]) -> list[Run]:
    return [run for run in runs if states(run)["only"] == "QUEUED"]


def test_failures_open_the_breaker_and_the_next_step_is_parked() -> None:
    break_it()

    [run] = parked(1)

    assert breaker().state == "OPEN"
    assert (step(run, "only").state, step(run, "only").reason) == ("RETRYING", "guard")
    assert Parking.objects.get(run=run, until=None).name == "crm"


def test_a_parked_step_uses_up_no_try_however_long_it_waits() -> None:
    break_it()
    [run] = parked(1)

    for hours in (2, 4, 6):
        open_guard(environment="default", guard="crm", why="down", by=ANN) if hours == 2 else None
        tick(now=later(hours * 3600))
        assert claim(run, "only", now=later(hours * 3600)) is None

    assert (step(run, "only").attempt, step(run, "only").failures) == (0, 0)
    assert ends(run, "only") == []


def test_the_step_whose_failure_opened_it_is_parked_too_and_keeps_its_tries() -> None:
    run = break_it()

    assert claim(run, "only", 6) is None

    assert (step(run, "only").attempt, step(run, "only").failures) == (5, 5)
    assert step(run, "only").error["code"] == "test.broken"


def test_failures_of_other_classes_open_nothing() -> None:
    for _ in range(6):
        fail(claimed(a_run(guarded()), "only"), "permanent")

    assert not Breaker.objects.exists()


def test_a_breaker_is_of_its_environment_and_its_guard_alone() -> None:
    break_it()

    other = a_run(task("only", guard="erp"))

    assert claim(other, "only") is not None


def test_once_it_has_cooled_down_exactly_one_parked_step_is_let_go(sent: Recorder) -> None:
    break_it()
    runs = parked(5)
    sent.forget()

    tick(now=later(31))

    assert queued(runs) == runs[:1]
    assert breaker().state == "HALF_OPEN"
    assert [one.run for one in sent.sent if isinstance(one, Segment)] == [runs[0].pk]


def test_many_ticks_at_once_let_one_step_go() -> None:
    break_it()
    runs = parked(5)
    now = later(31)

    at_once(*[lambda: tick(now=now)] * 6)

    assert len(queued(runs)) == 1


def test_of_many_workers_that_come_when_it_has_cooled_down_one_gets_through() -> None:
    break_it()
    runs = [a_run(guarded()) for _ in range(6)]
    now = later(31)

    works = at_once(*[lambda run=run: claim(run, "only", now=now) for run in runs])

    assert len([work for work in works if work is not None]) == 1
    assert sorted(states(run)["only"] for run in runs) == ["RETRYING"] * 5 + ["RUNNING"]


def test_a_trial_that_goes_well_closes_it_and_lets_a_few_go_and_then_more() -> None:
    break_it()
    runs = parked(12)
    tick(now=later(31))

    finish(claimed(runs[0], "only", now=later(32)), now=later(32))
    tick(now=later(33))

    assert breaker().state == "CLOSED"
    assert queued(runs) == runs[1:3]
    for run in runs[1:3]:
        finish(claimed(run, "only", now=later(34)), now=later(34))
    tick(now=later(35))
    assert queued(runs) == runs[3:7]


def test_what_was_let_go_holds_the_rest_back_until_it_is_through() -> None:
    break_it()
    runs = parked(12)
    tick(now=later(31))
    finish(claimed(runs[0], "only", now=later(32)), now=later(32))

    for seconds in (33, 35, 37):
        tick(now=later(seconds))

    assert queued(runs) == runs[1:3]


def test_new_steps_do_not_overtake_the_parked_ones_while_it_ramps_up() -> None:
    break_it()
    runs = parked(4)
    tick(now=later(31))
    finish(claimed(runs[0], "only", now=later(32)), now=later(32))

    newcomer = a_run(guarded())

    assert claim(newcomer, "only", now=later(32)) is None


def test_all_parked_steps_come_through_in_the_end_and_then_nothing_is_asked() -> None:
    break_it()
    runs = parked(9)
    for seconds in range(31, 60):
        tick(now=later(seconds))
        for run in queued(runs):
            finish(claimed(run, "only", now=later(seconds)), now=later(seconds))

    assert {state(run) for run in runs} == {"COMPLETED"}
    assert not guards.is_shut("default", "crm")
    assert breaker().wake_at is None
    assert not Parking.objects.filter(run__in=runs, until=None).exists()


def test_a_trial_that_fails_opens_it_again_for_longer() -> None:
    break_it()
    [run] = parked(1)
    now = later(31)
    tick(now=now)

    fail(claimed(run, "only", now=now), "transient", now=now)

    assert breaker().state == "OPEN"
    assert breaker().trial_at == now + timedelta(seconds=60)
    assert claim(run, "only", 2, now=now) is None


def test_a_trial_whose_worker_was_killed_makes_room_for_the_next() -> None:
    break_it()
    runs = parked(3)
    tick(now=later(31))
    claimed(runs[0], "only", now=later(31))

    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=later(32))
    tick(now=later(40))

    assert breaker().state == "HALF_OPEN"
    assert runs[1] in queued(runs)
    assert claim(runs[0], "only", 2, now=later(41)) is None
    assert claim(runs[1], "only", 1, now=later(41)) is not None


def test_the_end_of_a_trial_that_nobody_told_the_breaker_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_it()
    runs = parked(3)
    tick(now=later(31))
    monkeypatch.setattr(guards, "tell", lambda *_, **__: None)
    finish(claimed(runs[0], "only", now=later(32)), now=later(32))

    tick(now=later(40))

    assert breaker().state == "CLOSED"
    assert queued(runs) == runs[1:3]


def test_a_trial_that_was_cancelled_makes_room_for_the_next() -> None:
    break_it()
    runs = parked(2)
    tick(now=later(31))

    cancel_run(run_id=runs[0].pk, by=ANN)
    tick(now=later(40))

    assert queued(runs) == runs[1:]


def test_a_step_of_a_paused_run_is_not_chosen_to_try() -> None:
    break_it()
    runs = parked(2)
    pause_run(run_id=runs[0].pk, by=ANN)

    tick(now=later(31))

    assert queued(runs) == runs[1:]


def test_a_parked_step_of_a_run_that_was_paused_and_resumed_goes_on() -> None:
    break_it()
    [run] = parked(1)
    pause_run(run_id=run.pk, by=ANN)
    tick(now=later(31))
    resume_run(run_id=run.pk, by=ANN)

    tick(now=later(37))

    assert claim(run, "only", now=later(37)) is not None


def test_a_step_that_had_to_be_killed_for_its_time_counts_as_a_failure() -> None:
    run = a_run(guarded(timeout=1))
    for attempt in range(1, 6):
        claimed(run, "only", attempt)
        release_worker(worker=TAKER.worker, loss=Loss.OVERRAN, now=timezone.now())

    assert breaker().state == "OPEN"


def test_the_takers_of_a_fan_out_park_what_is_guarded_and_take_the_rest() -> None:
    break_it()
    steps = [*(guarded(f"g{n}") for n in range(3)), task("free")]
    run = a_run({"id": "all", "parallel": steps})

    work = any_claimed(run, replace(TAKER, fan="all"))

    assert work is not None
    assert work.path == "all.free"
    assert [states(run)[f"all.g{n}"] for n in range(3)] == ["RETRYING"] * 3


def test_a_worker_does_not_run_on_into_a_step_whose_guard_is_open() -> None:
    break_it()
    run = a_run(task("first"), guarded("second"))

    assert finish(claimed(run, "first"), run_on=True) is None

    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}
    assert claim(run, "second") is None


def test_a_worker_runs_on_into_a_step_whose_guard_is_closed() -> None:
    run = a_run(task("first"), guarded("second"))

    work = finish(claimed(run, "first"), run_on=True)

    assert work is not None
    assert work.path == "second"


def test_steps_with_a_guard_do_not_go_abreast() -> None:
    runs = [a_run(guarded()) for _ in range(2)]
    fan = a_run({"id": "all", "parallel": [guarded(f"s{n}") for n in range(3)]})

    abreast = claim_abreast(
        pin=pinned(fan.pk),
        taker=replace(TAKER, fan="all", quick=lambda _: True, width=3),
        now=timezone.now(),
    )
    bundled = claim_steps(
        fences=[(pinned(run.pk), "only") for run in runs], taker=TAKER, now=timezone.now()
    )

    assert (abreast, bundled) == ([], [])


def test_the_journal_says_that_a_step_was_out_of_the_queue() -> None:
    break_it()
    [run] = parked(1)

    tick(now=later(31))

    assert journal(run, "only")[1:] == [
        ("only", "QUEUED", "RETRYING"),
        ("only", "RETRYING", "QUEUED"),
    ]


def test_the_moves_of_a_breaker_are_written_down_with_actor_and_reason() -> None:
    break_it()
    close_guard(environment="default", guard="crm", why="The CRM is back", by=ANN)

    moves = list(BreakerJournal.objects.order_by("id").values_list("before", "after", "actor"))

    assert moves == [("CLOSED", "OPEN", "engine"), ("OPEN", "CLOSED", ANN)]
    assert "The CRM is back" in BreakerJournal.objects.latest("id").why


def test_a_breaker_moves_as_its_table_says_even_from_a_sql_console() -> None:
    break_it(1)

    with pytest.raises((DatabaseError, psycopg.Error), match="HALF_OPEN"):
        sql("UPDATE workflows_breaker SET state = 'HALF_OPEN'")


def test_what_a_person_opened_is_not_tried_until_a_person_closes_it() -> None:
    open_guard(environment="default", guard="crm", why="The CRM is being moved", by=ANN)
    runs = parked(2)

    tick(now=later(3000))
    assert queued(runs) == []

    close_guard(environment="default", guard="crm", why="It has been moved", by=ANN)
    tick(now=timezone.now() + timedelta(seconds=2))
    assert queued(runs) == runs


def test_a_breaker_is_opened_and_closed_by_hand_with_a_reason_and_once() -> None:
    with pytest.raises(InputRefusedError, match="Say why"):
        open_guard(environment="default", guard="crm", why=" ", by=ANN)
    with pytest.raises(NotFoundError, match="nowhere"):
        open_guard(environment="nowhere", guard="crm", why="down", by=ANN)
    open_guard(environment="default", guard="crm", why="down", by=ANN)
    with pytest.raises(StateRefusedError, match="open"):
        open_guard(environment="default", guard="crm", why="down", by=ANN)


def test_the_settings_of_a_guard_are_its_rows() -> None:
    store.gates.make_breaker("default", "crm")
    Breaker.objects.update(threshold=1, cool_down=7)
    now = timezone.now()

    break_it(1, now=now)

    assert (breaker().state, breaker().trial_at) == ("OPEN", now + timedelta(seconds=7))


def test_failures_at_the_same_time_are_all_counted() -> None:
    works = [claimed(a_run(guarded()), "only") for _ in range(5)]

    at_once(*[lambda work=work: fail(work, "transient") for work in works])

    assert breaker().state == "OPEN"


def test_beat_hears_that_a_breaker_is_due() -> None:
    break_it()
    parked(1)

    assert not store.any_due(now=later(20))
    assert store.any_due(now=later(31))
    assert store.is_overdue(later(31))


def test_a_parked_step_that_its_gate_forgot_comes_back_by_itself() -> None:
    break_it()
    [run] = parked(1)
    sql("DELETE FROM workflows_breakerjournal")
    sql("DELETE FROM workflows_breaker")

    recover(now=later(3601))

    assert claim(run, "only", now=later(3601)) is not None


def in_a_block(**block: Any) -> Run:
    return a_run({"id": "block", "steps": [guarded()], **block})


def test_the_time_of_a_block_stands_still_while_a_step_in_it_is_parked() -> None:
    break_it()
    run = in_a_block(timeout=100)
    assert claim(run, "block.only") is None
    open_guard(environment="default", guard="crm", why="down", by=ANN)

    tick(now=later(101))

    assert states(run) == {"block": "WAITING", "block.only": "RETRYING"}


def test_a_block_has_as_much_time_left_as_when_its_step_was_parked() -> None:
    break_it()
    run = in_a_block(timeout=100)
    claim(run, "block.only", now=later(10))
    tick(now=later(90))
    claimed(run, "block.only", now=later(90))

    tick(now=later(101))
    assert states(run)["block"] == "WAITING"
    tick(now=later(179))
    assert states(run)["block.only"] == "RUNNING"
    tick(now=later(181))
    assert step(run, "block").error["code"] == "scope.timeout"


def test_steps_that_are_parked_at_the_same_time_stop_the_clock_once() -> None:
    break_it()
    run = a_run({"id": "block", "parallel": [guarded(f"s{n}") for n in range(2)], "timeout": 100})
    for n in range(2):
        claim(run, f"block.s{n}", now=later(10))
    close_guard(environment="default", guard="crm", why="It is back", by=ANN)
    tick(now=later(50))

    _, stopped, is_open = store.gates.clock_of(run.pk, "block", now=later(60)) or (0, 0, True)

    assert math.isclose(stopped, 40, abs_tol=2)
    assert not is_open


def test_the_time_for_retries_stands_still_while_a_step_is_parked() -> None:
    short = {"max_attempts": 9, "initial_delay": 0, "max_duration": "100s"}
    run = a_run(task("only", guard="crm", retry=short))
    for attempt in range(1, 6):
        fail(claimed(run, "only", attempt), "transient")
    assert claim(run, "only", 6) is None

    tick(now=later(3000))
    fail(claimed(run, "only", 6, now=later(3001)), "transient", now=later(3002))

    assert states(run)["only"] == "QUEUED"


def test_the_time_of_a_run_stands_still_too() -> None:
    break_it()
    run = a_run(guarded(), timeout=100)
    claim(run, "only", now=later(10))
    tick(now=later(90))
    claimed(run, "only", now=later(90))

    tick(now=later(101))
    assert state(run) == "RUNNING"
    assert Run.objects.get(pk=run.pk).deadline_at > later(170)


def test_the_time_of_a_block_whose_parked_step_was_cancelled_goes_on() -> None:
    break_it()
    race = {"id": "one", "join": "one_success", "losers": "cancel", "needs": ["slow", "fast"]}
    block = {"id": "block", "timeout": 100}
    body = [guarded("slow", needs=[]), task("fast", needs=[]), task(name="one") | race]
    run = a_run({**block, "steps": body})
    claim(run, "block.slow")
    finish(claimed(run, "block.fast"))
    claimed(run, "block.one")

    tick(now=later(101))

    assert step(run, "block").error["code"] == "scope.timeout"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    said: list[str] = []
    execute = psycopg.Cursor.execute

    def counted(cursor: psycopg.Cursor, query: str, *values: object, **keys: object) -> object:
        said.append(str(query))
        return execute(cursor, query, *values, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)
    return said


def cost(statements: list[str], **keys: Any) -> int:
    """Return how many statements the claim and the outcomes of a chain of three take."""
    run = a_run(*(task(f"s{n}", **keys) for n in range(3)))
    pinned(run.pk)
    statements.clear()
    work = claim(run, "s0")
    while work is not None:
        work = finish(work, run_on=True)
    assert state(run) == "COMPLETED"
    return len(statements)


def test_a_closed_guard_costs_a_step_one_statement_and_no_guard_costs_nothing(
    statements: list[str],
) -> None:
    free, guarded = cost(statements), cost(statements, guard="crm")

    assert guarded - free == 3
