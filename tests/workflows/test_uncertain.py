"""No blind repeat of a side effect, as it is stored: what asks a probe, and what asks a person."""

from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    claim,
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
)
from workflows.engine.events import Failed, Repeat, StepError
from workflows.language.words import ErrorClass
from workflows.models import Incident, Run
from workflows.services.claiming import claim_step
from workflows.services.errors import StateRefusedError
from workflows.services.incidents import discard_incident, replay_incident, skip_incident
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run
from workflows.services.timers import tick
from workflows.services.work import Work

pytestmark = pytest.mark.usefixtures("committed")

NO_PROBE = task("pay", "shell.run", **{"with": {"command": ["true"]}})
PROBED = task("pay", "bank.pay", **{"with": {"ledger": "/nowhere"}})


def lose(run: Run) -> None:
    """Have the lease of what runs expire."""
    recover(now=in_future(31))


def interrupt(work: Work, repeat: Repeat) -> Work | None:
    """Have the worker say that the step took too long and was interrupted."""
    error = StepError(ErrorClass.TIMEOUT, "task.timeout", "It took too long.")
    following = record_outcome(
        work=work,
        outcome=Failed(work.path, work.attempt, error, repeat),
        taker=TAKER,
        run_on=True,
        now=timezone.now(),
    )
    return next(iter(following), None)


def in_doubt(run: Run) -> Incident:
    """Return the one open incident, which is of an effect that is uncertain."""
    [incident] = open_incidents(run)
    assert (incident.path, incident.error_class) == ("pay", "uncertain")
    return incident


def test_a_lost_attempt_is_followed_by_one_that_asks_the_probe_first() -> None:
    run = a_run(PROBED)
    first = claimed(run, "pay")

    lose(run)

    second = claimed(run, "pay", 2)
    assert (first.probe_first, second.probe_first) == (False, True)
    assert ends(run, "pay") == [(1, "lost")]
    assert (states(run)["pay"], step(run, "pay").reason) == ("RUNNING", "probe")


def test_the_journal_says_that_the_probe_was_asked() -> None:
    run = a_run(PROBED)
    claimed(run, "pay")
    lose(run)

    finish(claimed(run, "pay", 2), "receipt")

    lines = run.journal.filter(path="pay", attempt=2).order_by("id")
    assert list(lines.values_list("after", "reason")) == [
        ("QUEUED", "probe"),
        ("RUNNING", "probe"),
        ("COMPLETED", ""),
    ]


def test_an_interrupted_attempt_is_followed_by_one_that_asks_when_its_delay_is_over() -> None:
    run = a_run({**PROBED, "retry": {"initial_delay": "10s", "jitter": 0}})
    interrupt(claimed(run, "pay"), Repeat.AFTER_PROBE)

    tick(now=in_future(11))

    assert claimed(run, "pay", 2).probe_first


def test_a_worker_that_runs_on_with_what_it_was_interrupted_in_asks_too() -> None:
    run = a_run({**PROBED, "retry": {"initial_delay": "0s"}})

    second = interrupt(claimed(run, "pay"), Repeat.AFTER_PROBE)

    assert second is not None
    assert (second.attempt, second.probe_first) == (2, True)


def asked_for_the_last_time() -> tuple[Run, Work]:
    """Lose every attempt that there may be, and have the one claimed that only asks."""
    run = a_run({**PROBED, "retry": {"worker_lost_attempts": 2}})
    for attempt in (1, 2):
        claimed(run, "pay", attempt)
        lose(run)
    return run, claimed(run, "pay", 3)


def test_the_probe_is_asked_about_the_last_attempt_before_a_person_is() -> None:
    run, last = asked_for_the_last_time()

    assert (last.probe_first, last.probe_only, open_incidents(run)) == (True, True, [])
    finish(last, "receipt")
    assert (state(run), step(run, "pay").error) == ("COMPLETED", None)


@pytest.mark.parametrize("seen", [True, False])
def test_a_last_attempt_without_effect_is_an_incident_of_a_lost_worker(seen: bool) -> None:
    run, last = asked_for_the_last_time()

    fail(last if seen else replace(last, seen=None), "worker_lost")

    [incident] = open_incidents(run)
    assert (incident.error_class, incident.code) == ("worker_lost", "worker.lost")
    assert "took no effect" in incident.message
    assert ends(run, "pay") == [(1, "lost"), (2, "lost"), (3, "failed")]


def test_a_worker_that_did_not_hear_of_its_claim_asks_too() -> None:
    run = a_run(PROBED)
    claimed(run, "pay")
    lose(run)
    claimed(run, "pay", 2)

    facts = {"pin": pinned(run.pk), "path": "pay", "attempt": 2, "now": timezone.now()}
    second = claim_step(**facts, taker=TAKER, again=True)

    assert second is not None
    assert second.probe_first


def test_an_ordinary_retry_asks_nothing() -> None:
    run = a_run({**PROBED, "retry": {"initial_delay": "0s"}})

    second = fail(claimed(run, "pay"), "transient", run_on=True)

    assert second is not None
    assert not second.probe_first


def test_what_was_interrupted_and_has_no_probe_is_left_to_a_person() -> None:
    run = a_run(NO_PROBE)

    interrupt(claimed(run, "pay"), Repeat.NEVER)

    assert "must not be repeated blindly" in in_doubt(run).message
    assert (state(run), step(run, "pay").error["class"]) == ("FAILED", "timeout")


def test_a_person_who_replays_has_decided() -> None:
    run = a_run(NO_PROBE)
    claimed(run, "pay")
    lose(run)

    replay_incident(incident_id=in_doubt(run).pk, by=ANN)

    assert not claimed(run, "pay", 2).probe_first


def cancelled_while_running(step_of_it: dict[str, Any]) -> Run:
    run = a_run(step_of_it, task("after"))
    claimed(run, "pay")
    cancel_run(run_id=run.pk, by=ANN)
    lose(run)
    return run


def cancelled_before_it_was_asked(step_of_it: dict[str, Any]) -> Run:
    run = a_run(step_of_it, task("after"))
    claimed(run, "pay")
    lose(run)
    cancel_run(run_id=run.pk, by=ANN)
    return run


def cancelled_when_it_was_known(step_of_it: dict[str, Any]) -> Run:
    run = a_run(step_of_it, task("after"), task("other", needs=[]))
    interrupt(claimed(run, "pay"), Repeat.NEVER)
    cancel_run(run_id=run.pk, by=ANN)
    return run


@pytest.mark.parametrize(
    ("cancelled", "step_of_it"),
    [
        (cancelled_while_running, NO_PROBE),
        (cancelled_while_running, PROBED),
        (cancelled_before_it_was_asked, PROBED),
        (cancelled_when_it_was_known, NO_PROBE),
    ],
)
def test_a_cancelled_run_has_an_open_incident_for_what_is_uncertain(
    cancelled: Any, step_of_it: dict[str, Any]
) -> None:
    run = cancelled(step_of_it)

    assert (state(run), states(run)["pay"]) == ("CANCELLED", "FAILED")
    in_doubt(run)


def test_of_a_cancelled_run_what_is_uncertain_can_only_be_discarded() -> None:
    run = cancelled_while_running(NO_PROBE)
    incident = in_doubt(run)

    for resolve in (replay_incident, skip_incident):
        with pytest.raises(StateRefusedError, match="is CANCELLED, cannot be"):
            resolve(incident_id=incident.pk, by=ANN)
    discard_incident(incident_id=incident.pk, note="Seen at the bank: not paid.", by=ANN)

    assert open_incidents(run) == []
    assert state(run) == "CANCELLED"


def test_a_step_that_is_cancelled_before_it_is_asked_moves_by_the_law() -> None:
    run = cancelled_before_it_was_asked(PROBED)

    assert [after for _, _, after in journal(run, "pay")][-2:] == ["RUNNING", "FAILED"]
    assert claim(run, "pay", 2) is None


def test_a_probe_that_was_never_asked_is_an_attempt_of_its_own_that_was_cancelled() -> None:
    run = cancelled_before_it_was_asked(PROBED)

    assert ends(run, "pay") == [(1, "lost"), (2, "cancelled")]
    taken = run.journal.filter(path="pay", before="QUEUED", after="RUNNING").order_by("id")
    assert [line.attempt for line in taken] == [1, 2]


def test_the_probe_of_a_paused_run_waits_for_the_run() -> None:
    run = a_run(PROBED)
    claimed(run, "pay")
    pause_run(run_id=run.pk, by=ANN)
    lose(run)

    assert claim(run, "pay", 2) is None
    assert (states(run)["pay"], step(run, "pay").reason) == ("QUEUED", "probe")
