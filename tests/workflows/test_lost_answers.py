"""A connection lost just after the commit: what was done is known again, and done once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from tests.support.approvals import a_person, a_request, say
from tests.support.proxy import Proxy, proxied_database
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    QUEUE,
    TAKER,
    a_run,
    a_version,
    any_claimed,
    claimed,
    ends,
    fail,
    finish,
    in_future,
    journal,
    open_incidents,
    state,
    states,
    step,
    task,
    work_off,
)
from workers.outage import outlast
from workflows import store
from workflows.dispatch import Segment
from workflows.models import Attempt, Incident, Run, Step, Vote
from workflows.services.claiming import claim_any_step, claim_step
from workflows.services.errors import StateRefusedError
from workflows.services.forking import fork_run
from workflows.services.incidents import (
    discard_incident,
    discard_many,
    replay_incident,
    replay_many,
    replay_run,
    skip_incident,
    skip_many,
)
from workflows.services.orders import Order
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import (
    cancel_run,
    compensate_run,
    pause_run,
    resume_run,
    start_run,
    start_runs,
)
from workflows.services.scopes import settle_scope
from workflows.services.timers import tick
from workflows.services.work import Taker

pytestmark = pytest.mark.usefixtures("committed")

OTHER = Taker("worker-2", TAKER.queue)
WIDE = {"id": "all", "parallel": [task(f"s{n}") for n in range(3)]}
OF_ANOTHER_SERVER = str(2**62)
IN_THE_FAN = replace(TAKER, fan="all")


@pytest.fixture
def network() -> Iterator[Proxy]:
    """The way to the database, which a test may break."""
    with proxied_database() as made:
        yield made


def test_a_claim_that_nobody_heard_of_is_the_workers_own(network: Proxy) -> None:
    run = a_run(task("only"))
    pin = pinned(run.pk)

    network.lose_an_answer()
    work = claim_step(pin=pin, path="only", attempt=1, taker=TAKER, now=timezone.now())

    assert network.lost == 1
    assert work is not None
    assert (work.path, work.attempt) == ("only", 1)
    assert journal(run, "only").count(("only", "QUEUED", "RUNNING")) == 1


def test_a_claim_that_an_earlier_call_made_unheard_is_the_workers_own() -> None:
    run = a_run(task("only"))
    claimed(run, "only")
    facts = {"pin": pinned(run.pk), "path": "only", "attempt": 1, "now": timezone.now()}

    assert claim_step(**facts, taker=TAKER) is None
    assert claim_step(**facts, taker=OTHER, again=True) is None
    work = claim_step(**facts, taker=TAKER, again=True)

    assert work is not None
    finish(work)
    assert ends(run, "only") == [(1, "completed")]


@pytest.mark.parametrize("after", range(18))
def test_a_decision_that_nobody_heard_of_is_one_vote_and_ends_the_step_once(
    network: Proxy, after: int
) -> None:
    request, ben = a_request(task("after")), a_person("ben", "finance")

    network.lose_an_answer(after=after)
    vote = say(request, ben)

    network.resume()
    assert [one.pk for one in Vote.objects.all()] == [vote.pk]
    assert states(request.run) == {"sign": "COMPLETED", "after": "QUEUED"}
    assert ends(request.run, "sign") == [(1, "completed")]


@pytest.mark.parametrize("after", range(4))
def test_a_taker_that_did_not_hear_of_its_claim_takes_no_second_step(
    network: Proxy, after: int
) -> None:
    run = a_run(WIDE)
    pin = pinned(run.pk)

    network.lose_an_answer(after=after)
    work = claim_any_step(pin=pin, taker=IN_THE_FAN, now=timezone.now())

    network.resume()
    assert work is not None
    assert [path for path, now in states(run).items() if now == "RUNNING"] == [work.path]


@pytest.mark.parametrize("seen", [True, False], ids=["ahead", "locked"])
@pytest.mark.parametrize("after", range(4))
def test_an_outcome_that_nobody_heard_of_is_recorded_once_and_the_worker_runs_on(
    network: Proxy, sent: Recorder, after: int, seen: bool
) -> None:
    run = a_run(task("first"), *(task(f"s{n}", needs=["first"]) for n in range(2)), task("last"))
    work = claimed(run, "first")
    work = work if seen else replace(work, seen=None)
    sent.forget()

    network.lose_an_answer(after=after)
    following = finish(work, {"n": 1}, run_on=True)

    network.resume()
    assert following is not None
    assert states(run)[following.path] == "RUNNING"
    assert ends(run, "first") == [(1, "completed")]
    assert not Attempt.objects.filter(run=run, late__isnull=False).exists()
    others = {"s0", "s1"} - {following.path}
    assert {one.path for one in sent.sent if isinstance(one, Segment)} == others


def test_the_first_answer_of_an_outcome_is_the_one_that_was_lost(network: Proxy) -> None:
    run = a_run(task("first"), task("second"))
    ahead = claimed(run, "first")

    network.lose_an_answer()
    second = finish(ahead, run_on=True)
    assert network.lost == 1
    assert second is not None
    network.lose_an_answer()
    finish(second)

    assert network.lost == 2
    assert state(run) == "COMPLETED"


def test_a_failure_that_nobody_heard_of_is_one_failure(network: Proxy) -> None:
    run = a_run(task("only", retry={"max_attempts": 5, "initial_delay": "10s"}))
    work = claimed(run, "only")

    network.lose_an_answer()
    fail(work, "transient")

    assert network.lost == 1
    assert ends(run, "only") == [(1, "failed")]
    assert (states(run)["only"], step(run, "only").failures) == ("RETRYING", 1)


def test_an_outcome_that_an_earlier_call_recorded_unheard_is_not_late() -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    finish(work, run_on=True)
    outcome = {"work": work, "outcome": succeeded(work), "now": timezone.now(), "run_on": True}

    following = record_outcome(**outcome, taker=TAKER, again=True)

    assert [work.path for work in following] == ["second"]
    assert step(run, "first").attempts.get().late is None


def test_an_outcome_of_an_attempt_that_was_given_up_is_late_even_at_the_second_call() -> None:
    run = a_run(task("only"))
    work = claimed(run, "only")
    give_up(run)
    outcome = {"work": work, "outcome": succeeded(work), "now": timezone.now(), "run_on": True}

    assert record_outcome(**outcome, taker=TAKER, again=True) == []

    attempt = step(run, "only").attempts.get()
    assert (attempt.end, attempt.late) == ("lost", {"output": None, "error": None})


@pytest.mark.parametrize("after", range(5))
def test_a_taker_that_did_not_hear_of_an_outcome_goes_on_with_one_step(
    network: Proxy, after: int
) -> None:
    run = a_run(WIDE)
    work = any_claimed(run, IN_THE_FAN)
    assert work is not None

    network.lose_an_answer(after=after)
    following = finish(work, run_on=True, taker=IN_THE_FAN)

    network.resume()
    assert following is not None
    assert [path for path, now in states(run).items() if now == "RUNNING"] == [following.path]
    assert ends(run, work.path) == [(1, "completed")]


@pytest.mark.parametrize("key", [None, "nightly-7"])
@pytest.mark.parametrize("after", range(4))
def test_a_start_that_nobody_heard_of_is_one_run(
    network: Proxy, sent: Recorder, key: str | None, after: int
) -> None:
    name = a_version(task("only")).workflow.name
    start_run(workflow=name, by=ANN)
    sent.forget()

    network.lose_an_answer(after=after)
    started = start_run(workflow=name, idempotency_key=key, by=ANN)

    network.resume()
    run = Run.objects.get(workflow__name=name, idempotency_key=key, pk__gt=first_of(name))
    assert (started.run.pk, started.created) == (run.pk, True)
    assert set(sent.sent) == {Segment(run.pk, run.version_id, "only", 1, QUEUE)}


@pytest.mark.parametrize("after", range(6))
def test_many_starts_that_nobody_heard_of_are_as_many_runs(network: Proxy, after: int) -> None:
    name = a_version(task("only")).workflow.name
    old = start_run(workflow=name, idempotency_key="old", by=ANN).run
    orders = [Order(name), Order(name, idempotency_key="old"), Order(name, idempotency_key="new")]

    network.lose_an_answer(after=after)
    started = start_runs(orders=orders, by=ANN)

    network.resume()
    assert [one.created for one in started] == [True, False, True]
    assert started[1].run.pk == old.pk
    assert Run.objects.filter(workflow__name=name).count() == 3


@pytest.mark.parametrize("few", [{}, {"concurrency": {"key": "all"}}], ids=["any", "few"])
@pytest.mark.parametrize("after", range(16))
def test_a_fork_that_nobody_heard_of_is_one_run(
    network: Proxy, sent: Recorder, after: int, few: dict[str, Any]
) -> None:
    run = a_run(task("a"), task("b"), **few)
    work_off(run)
    sent.forget()

    network.lose_an_answer(after=after)
    fork = fork_run(run_id=run.pk, from_path="b", by=ANN)

    network.resume()
    assert fork.created
    assert Run.objects.exclude(pk=run.pk).get().pk == fork.run.pk
    assert set(sent.sent) == {Segment(fork.run.pk, run.version_id, "b", 1, QUEUE)}


def test_what_a_settled_scope_made_ready_is_sent_although_nobody_heard_of_it(
    network: Proxy, sent: Recorder
) -> None:
    run = a_run(WIDE, task("after"))
    while (work := any_claimed(run, IN_THE_FAN)) is not None:
        finish(work, taker=IN_THE_FAN)
    pin = pinned(run.pk)
    sent.forget()

    network.lose_an_answer()
    settle_scope(pin=pin, scope="all", now=timezone.now())

    assert network.lost == 1
    assert sent.sent == [Segment(run.pk, run.version_id, "after", 1, QUEUE)]


@pytest.mark.parametrize("after", range(5))
def test_a_retry_that_was_queued_unheard_is_sent(
    network: Proxy, sent: Recorder, after: int
) -> None:
    run = a_run(task("only", retry={"max_attempts": 2, "initial_delay": "10s"}))
    fail(claimed(run, "only"), "transient")
    sent.forget()

    network.lose_an_answer(after=after)
    outlast(lambda _: tick(now=in_future(60)))

    network.resume()
    assert (states(run)["only"], step(run, "only").attempt) == ("QUEUED", 2)
    assert set(sent.sent) == {Segment(run.pk, run.version_id, "only", 2, QUEUE)}


def test_whichever_answer_is_lost_a_chain_is_carried_out_once(network: Proxy) -> None:
    for after in range(14):
        run = a_run(*(task(f"s{n}") for n in range(3)))
        pin = pinned(run.pk)
        network.lose_an_answer(after=after)

        work = claim_step(pin=pin, path="s0", attempt=1, taker=TAKER, now=timezone.now())
        while work is not None:
            work = finish(work, run_on=True)

        network.resume()
        assert state(run) == "COMPLETED", f"answer {after}: {states(run)}"
        assert {len(ends(run, path)) for path in states(run)} == {1}


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody does by hand to a run whose step `only` is queued, or has failed."""

    before: Callable[[Run], object]
    of: Callable[[Run], Callable[[], object]]
    states: str
    """What the run is, one after the other."""
    sends: str = ""
    """The step that is sent then."""


def by_hand(how: Callable[..., object], **facts: Any) -> Callable[[Run], Callable[[], object]]:
    return lambda run: partial(how, run_id=run.pk, by=ANN, **facts)


def resolving(how: Callable[..., object], **facts: Any) -> Callable[[Run], Callable[[], object]]:
    return lambda run: partial(how, incident_id=Incident.objects.get(run=run).pk, by=ANN, **facts)


def queued(_: Run) -> None:
    """Leave it as it is."""


def held(run: Run) -> None:
    pause_run(run_id=run.pk, by=ANN)


def failed(run: Run) -> None:
    fail(claimed(run, "only"), "permanent")


COMMANDS = {
    "pause": Command(queued, by_hand(pause_run), "RUNNING PAUSED"),
    "resume": Command(held, by_hand(resume_run), "RUNNING PAUSED RUNNING", "only"),
    "cancel": Command(queued, by_hand(cancel_run), "RUNNING CANCELLING CANCELLED"),
    "undo": Command(
        failed, by_hand(compensate_run), "RUNNING FAILED COMPENSATING", "first.compensate"
    ),
    "replay": Command(failed, resolving(replay_incident), "RUNNING FAILED RUNNING", "only"),
    "replay all": Command(failed, by_hand(replay_run), "RUNNING FAILED RUNNING", "only"),
    "skip": Command(failed, resolving(skip_incident), "RUNNING FAILED RUNNING COMPLETED"),
    "discard": Command(failed, resolving(discard_incident, note="no use"), "RUNNING FAILED"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_nobody_heard_of_is_done_once_and_not_refused(
    network: Proxy, sent: Recorder, name: str
) -> None:
    command = COMMANDS[name]
    undo = {"uses": "log", "with": {"message": "undo"}}
    for after in count():
        run = a_run(task("first", compensate=undo), task("only"))
        finish(claimed(run, "first"))
        command.before(run)
        sent.forget()
        do, lost = command.of(run), network.lost
        network.lose_an_answer(after=after)

        answer = do()

        network.resume()
        assert not getattr(answer, "refused", ()), answer
        assert " ".join(states_of_run(run)) == command.states, f"answer {after}"
        assert {one.path for one in sent.sent if isinstance(one, Segment)} == {command.sends} - {""}
        if network.lost == lost:
            break


def test_the_server_knows_what_became_of_a_transaction() -> None:
    with transaction.atomic():
        kept = store.own_number()
    with transaction.atomic():
        dropped = store.own_number()
        transaction.set_rollback(True)

    assert store.has_committed(kept)
    assert not store.has_committed(dropped)
    assert not store.has_committed(OF_ANOTHER_SERVER)


def test_a_commit_that_is_under_way_is_neither_done_nor_to_be_tried_again() -> None:
    with psycopg.connect(**connection.get_connection_params()) as other:
        [under_way] = other.execute("SELECT pg_current_xact_id()::text").fetchone()

        with pytest.raises(OperationalError, match="neither committed nor aborted"):
            store.has_committed(under_way)

    assert store.has_committed(under_way)


@pytest.mark.parametrize("many", [replay_many, skip_many, partial(discard_many, note="gone")])
def test_what_is_resolved_unheard_is_reported_as_done(network: Proxy, many: Any) -> None:
    for after in count():
        run, lost = a_run(task("a")), network.lost
        fail(claimed(run, "a"))
        [incident] = open_incidents(run)
        network.lose_an_answer(after=after)

        report = many(incident_ids=[incident.pk], by=ANN)

        network.resume()
        assert (report.done, report.refused) == ((incident.pk,), ()), f"answer {after}"
        assert open_incidents(run) == []
        if network.lost == lost:
            break
    assert after > 5


def test_what_others_have_done_meanwhile_is_still_refused() -> None:
    run = a_run(task("a"))
    held(run)

    with pytest.raises(StateRefusedError, match="is PAUSED and cannot be paused"):
        held(run)


def succeeded(work: object) -> object:
    from workflows.engine.events import Succeeded

    return Succeeded(work.path, work.attempt)


def give_up(run: Run) -> None:
    from workflows.services.recovery import recover

    recover(now=in_future(31))
    assert Step.objects.get(run=run).attempt == 2


def states_of_run(run: Run) -> list[str]:
    return [after for _, _, after in journal(run, "")]


def first_of(name: str) -> object:
    return Run.objects.filter(workflow__name=name).order_by("id").first().pk
