"""No blind repeat: where nobody knows what an attempt did, a probe or a person is asked."""

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.builders import (
    Play,
    broken,
    done,
    error_of,
    interrupted,
    lost,
    plan_from,
    play,
    task,
)
from workflows.engine.events import (
    CancelRequested,
    Event,
    Failed,
    Loss,
    Repeat,
    Replayed,
    RetryDue,
)
from workflows.engine.simulate import simulate
from workflows.engine.states import Reason, RunState, StepState
from workflows.engine.stubs import Call, Result

PROBE, NEVER = Repeat.AFTER_PROBE, Repeat.NEVER
IN_DOUBT = [lost, interrupted]


def pay(**keys: Any) -> Play:
    """Begin a run of one step that is claimed."""
    retry = {"initial_delay": 5, "jitter": 0, "worker_lost_attempts": 3}
    return play(plan_from(task("pay", retry=retry, **keys))).claim("pay")


def asked(attempt: int = 1) -> Failed:
    """Say that a probe failed, and may be asked again."""
    return Failed("pay", attempt, error_of("probe.failed", "transient"), PROBE)


@pytest.mark.parametrize("event", IN_DOUBT)
def test_without_a_probe_a_person_is_asked(event: Any) -> None:
    run = pay().hear(event("pay", repeat=NEVER))

    (incident,) = run.incidents
    assert incident.error.error_class == "uncertain"
    assert "must not be repeated blindly" in incident.error.message
    assert (run.state, run.queued) == (RunState.FAILED, set())


def test_a_step_that_was_interrupted_keeps_its_error_of_time() -> None:
    run = pay().hear(interrupted("pay", repeat=NEVER))

    assert run.step("pay").error == error_of("task.timeout", "timeout")
    assert run.incidents[0].error.code == "task.timeout"


def test_a_lost_attempt_with_a_probe_is_followed_at_once_by_one_that_asks() -> None:
    run = pay().hear(lost("pay", repeat=PROBE))

    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.PROBE)
    assert run.claim("pay", 2).reason("pay") is Reason.PROBE


def test_an_interrupted_attempt_with_a_probe_is_followed_after_the_delay_by_one_that_asks() -> None:
    run = pay().hear(interrupted("pay", repeat=PROBE))

    assert run.step("pay").wake_at == run.now + timedelta(seconds=5)
    run.after(5).hear(RetryDue("pay", 1))
    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.PROBE)


def test_a_step_is_completed_by_the_attempt_that_asked() -> None:
    run = pay().hear(lost("pay", repeat=PROBE), done("pay", "receipt", 2))

    assert (run.state, run.rows["pay"].output) == (RunState.COMPLETED, "receipt")
    assert [record.end for record in run.attempts] == ["lost", "completed"]


def test_the_loss_of_an_attempt_that_asks_is_asked_about_too() -> None:
    run = pay().hear(lost("pay", repeat=PROBE), lost("pay", 2, repeat=PROBE))

    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.PROBE)
    assert run.step("pay").attempt == 3


def test_a_probe_that_fails_is_asked_again_later_and_later_and_then_a_person() -> None:
    run = pay().hear(lost("pay", repeat=PROBE), asked(2))

    for attempt, delay in ((2, 10), (3, 20), (4, 40), (5, 60)):
        assert run.step("pay").wake_at == run.now + timedelta(seconds=delay)
        run.after(delay).hear(RetryDue("pay", attempt), asked(attempt + 1))
    assert run.accused == ["pay"]
    assert run.incidents[0].error.error_class == "uncertain"
    assert "probe.failed happened" in run.incidents[0].error.message


def lost_for_good(event: Any = lost) -> Play:
    """Have every try that there is end in doubt; then the probe is asked for the last time."""
    run = pay()
    for attempt in (1, 2, 3):
        run.hear(event("pay", attempt, repeat=PROBE))
        run.after(60).hear(RetryDue("pay", attempt))
    return run


@pytest.mark.parametrize("event", IN_DOUBT)
def test_the_probe_is_asked_about_the_last_try_too_before_a_person_is(event: Any) -> None:
    run = lost_for_good(event)

    assert (run.queued, run.incidents) == ({"pay"}, [])
    assert run.claim("pay", 4).reason("pay") is Reason.LAST_PROBE


def test_a_last_try_that_took_effect_completes_the_step() -> None:
    run = lost_for_good().hear(done("pay", "receipt", 4))

    assert (run.state, run.rows["pay"].output) == (RunState.COMPLETED, "receipt")
    assert run.incidents == []


@pytest.mark.parametrize(
    ("event", "code", "kind"),
    [(lost, "worker.lost", "worker_lost"), (interrupted, "task.timeout", "timeout")],
)
def test_a_last_try_without_effect_fails_as_it_was_lost_and_is_not_uncertain(
    event: Any, code: str, kind: str
) -> None:
    run = lost_for_good(event).hear(broken("pay", "probe.not_happened", "worker_lost", 4))

    [incident] = run.incidents
    assert (run.state, run.queued) == (RunState.FAILED, set())
    assert (incident.error.error_class, incident.error.code) == (kind, code)
    assert "took no effect, as its probe says" in incident.error.message


def test_a_last_question_that_is_lost_is_put_again_and_not_without_end() -> None:
    run = lost_for_good()

    for attempt in (4, 5, 6):
        assert run.reason("pay") is Reason.LAST_PROBE
        run.hear(lost("pay", attempt, repeat=PROBE))

    assert run.queued == set()
    assert [one.error.error_class for one in run.incidents] == ["uncertain"]


def test_a_last_question_is_not_used_up_by_the_stop_of_its_worker() -> None:
    run = lost_for_good()

    for attempt in range(4, 12):
        run.hear(lost("pay", attempt, repeat=PROBE, loss=Loss.STOPPED))

    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.LAST_PROBE)


def test_a_person_who_replays_behind_the_last_question_begins_with_all_tries() -> None:
    run = lost_for_good().hear(broken("pay", "probe.not_happened", "worker_lost", 4))

    run.hear(Replayed("pay"), lost("pay", 5, repeat=PROBE))

    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.PROBE)


def test_what_failed_behind_the_answer_of_a_probe_is_an_ordinary_failure() -> None:
    run = pay().hear(lost("pay", repeat=PROBE), broken("pay", "x", "transient", 2))

    assert (run.reason("pay"), run.step("pay").failures) == (Reason.RETRY, 1)
    assert run.after(5).hear(RetryDue("pay", 2)).claim("pay", 3).reason("pay") is None


def test_an_idempotent_step_is_tried_again_when_it_was_interrupted() -> None:
    run = pay().hear(interrupted("pay", repeat=Repeat.FREELY))

    assert (run.reason("pay"), run.incidents) == (Reason.RETRY, [])


@pytest.mark.parametrize("on", [["uncertain"], ["timeout"], []])
def test_a_fallback_path_may_answer_the_doubt(on: list[str]) -> None:
    run = pay(catch=[{"on": on, "steps": [task("ask_bank")]}])

    run.hear(interrupted("pay", repeat=NEVER), done("pay.catch[0].ask_bank", "paid"))

    assert (run.state, run.incidents) == (RunState.COMPLETED, [])


@pytest.mark.parametrize("repeat", [PROBE, NEVER])
@pytest.mark.parametrize("event", IN_DOUBT)
def test_a_cancelled_run_still_says_which_effect_is_uncertain(event: Any, repeat: Repeat) -> None:
    run = pay().hear(CancelRequested(), event("pay", repeat=repeat))

    assert run.state is RunState.CANCELLED
    assert run.step("pay").state is StepState.FAILED
    assert [one.error.error_class for one in run.incidents] == ["uncertain"]


@pytest.mark.parametrize("event", IN_DOUBT)
def test_a_run_cancelled_before_the_probe_was_asked_says_what_is_uncertain(event: Any) -> None:
    run = pay().hear(event("pay", repeat=PROBE), CancelRequested())

    assert run.state is RunState.CANCELLED
    assert run.step("pay").state is StepState.FAILED
    assert "probe was not asked" in run.incidents[0].error.message


@pytest.mark.parametrize("last", [lost("s.pay", repeat=NEVER), lost("s.pay", repeat=PROBE)])
def test_a_replay_of_another_step_repeats_no_effect_that_is_uncertain(last: Event) -> None:
    block = {"id": "s", "parallel": [task("pay"), task("other")], "fail_fast": True}
    run = play(plan_from(block)).claim("s.pay").hear(broken("s.other"), last)
    assert sorted(run.accused) == ["s.other", "s.pay"]

    run.hear(Replayed("s.other"))

    assert run.queued == {"s.other"}
    assert run.step("s.pay").state is StepState.FAILED


def stopped(path: str, repeat: Repeat) -> Failed:
    """Say that an attempt heeded the request to end, in the middle of what it did."""
    return Failed(path, 1, error_of("task.cancelled", "cancelled"), repeat)


def test_what_heeded_the_end_of_its_run_is_cancelled_and_nobody_is_asked() -> None:
    run = pay().hear(CancelRequested(), stopped("pay", NEVER))

    assert (run.step("pay").state, run.incidents) == (StepState.CANCELLED, [])


@pytest.mark.parametrize("repeat", [PROBE, NEVER])
def test_what_was_ended_in_the_middle_by_the_failure_of_another_is_not_begun_again(
    repeat: Repeat,
) -> None:
    block = {"id": "s", "parallel": [task("pay"), task("other")], "fail_fast": True}
    run = play(plan_from(block)).claim("s.pay").hear(broken("s.other"), stopped("s.pay", repeat))
    assert sorted(run.accused) == ["s.other", "s.pay"]

    run.hear(Replayed("s.other"))

    assert run.queued == {"s.other"}
    assert run.step("s.pay").state is StepState.FAILED


def test_what_may_be_repeated_is_begun_again_with_what_had_ended_it() -> None:
    block = {"id": "s", "parallel": [task("pay"), task("other")], "fail_fast": True}
    run = play(plan_from(block)).claim("s.pay")
    run.hear(broken("s.other"), stopped("s.pay", Repeat.FREELY))

    run.hear(Replayed("s.other"))

    assert run.queued == {"s.other", "s.pay"}


def test_a_person_who_replays_has_decided_and_no_probe_is_asked() -> None:
    run = pay().hear(lost("pay", repeat=NEVER), Replayed("pay"))

    assert (run.queued, run.reason("pay")) == ({"pay"}, Reason.REPLAYED)


def test_an_optional_step_in_doubt_needs_no_person() -> None:
    run = pay(optional=True).hear(CancelRequested(), lost("pay", repeat=NEVER))

    assert (run.state, run.incidents) == (RunState.CANCELLED, [])


def test_the_simulation_asks_the_probe_of_a_lost_attempt() -> None:
    calls: list[Call] = []

    def stub(call: Call) -> Result:
        calls.append(call)
        return Result(error=error_of("x", "worker_lost")) if call.attempt == 1 else Result("paid")

    run = simulate(plan_from(task("pay")), stub=stub, repeat=lambda _: PROBE)

    assert (run.state, run.rows["pay"].output) == (RunState.COMPLETED, "paid")
    assert [call.probe_first for call in calls] == [False, True]


def test_the_simulation_never_repeats_what_took_too_long_and_may_have_happened() -> None:
    plan = plan_from(task("pay", timeout=60))

    run = simulate(plan, stub=lambda _: Result(seconds=61), repeat=lambda _: NEVER)

    assert (run.state, run.rows["pay"].view.attempt) == (RunState.FAILED, 1)
