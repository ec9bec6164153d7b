import pytest

from monitoring.advice import BY_CLASS, WAITS, Facts, advise
from workflows.engine.states import PARKED, RunState
from workflows.language.words import ErrorClass


def facts(state: str, **more: object) -> Facts:
    return Facts(**{"state": state, "counts": {}, "incidents": (), **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("state", RunState)
def test_every_state_says_what_is_the_matter_and_what_to_do(state: RunState) -> None:
    advice = advise(facts(state.value))

    assert advice.matter
    assert advice.next


@pytest.mark.parametrize("error_class", ErrorClass)
def test_every_class_of_error_says_what_to_do(error_class: ErrorClass) -> None:
    advice = advise(facts("FAILED", incidents=[("pay", error_class.value)]))

    assert advice.matter == "pay needs a person."
    assert advice.next == BY_CLASS[error_class]


def test_an_uncertain_effect_is_looked_into_before_it_is_repeated() -> None:
    advice = advise(facts("RUNNING", incidents=[("pay", "uncertain"), ("mail", "transient")]))

    assert advice.matter == "pay and 1 more need a person. Other steps go on meanwhile."
    assert "Look into the other system first" in advice.next


def test_a_cancelled_run_still_tells_of_an_effect_that_is_uncertain() -> None:
    advice = advise(facts("CANCELLED", incidents=[("pay", "uncertain")]))

    assert advice.matter == "The run was cancelled, and nobody knows whether pay took effect."
    assert "discard" in advice.next


def test_a_queue_that_nobody_serves_is_named() -> None:
    advice = advise(facts("RUNNING", oldest_queued=90.0, queue="env.lab.heavy"))

    assert "env.lab.heavy" in advice.next
    assert advice.tone == "care"


def test_a_queue_is_not_slow_while_a_worker_is_at_it() -> None:
    advice = advise(facts("RUNNING", oldest_queued=90.0, counts={"RUNNING": 1}))

    assert advice.next == "Nothing to do."


def test_a_retry_needs_nobody() -> None:
    advice = advise(facts("RUNNING", counts={"RETRYING": 1}))

    assert "tried again by itself" in advice.matter


def test_a_parked_run_says_that_it_waits_for_a_person() -> None:
    advice = advise(facts("RUNNING", reason="parked", incidents=[("pay", "permanent")]))

    assert advice.matter == (
        "pay needs a person. The run is parked: it goes on, or ends, when a person has decided."
    )


def test_a_run_that_waits_for_a_place_says_so() -> None:
    advice = advise(facts("PENDING", reason="queued"))

    assert "waits for a place" in advice.matter


@pytest.mark.parametrize("reason", WAITS)
def test_what_a_run_waits_for_is_said_with_what_to_do(reason: str) -> None:
    state = "RETRYING" if reason in PARKED else "WAITING"

    advice = advise(facts("RUNNING", counts={state: 1}, waits={reason: 1}))

    assert advice.matter == f"The run waits for {WAITS[reason][0]}."
    assert advice.next == WAITS[reason][1]


def test_a_parked_step_is_not_told_of_as_one_that_has_failed() -> None:
    advice = advise(facts("RUNNING", counts={"RETRYING": 1}, waits={"guard": 1}))

    assert "failed" not in advice.matter
    assert "Guards" in advice.next


def test_a_parked_step_is_told_of_also_while_others_go_on() -> None:
    advice = advise(
        facts("RUNNING", counts={"RETRYING": 2, "RUNNING": 1}, waits={"guard": 1, "retry": 1})
    )

    assert advice.matter == ("The run waits for a guard that is open; other steps go on meanwhile.")


def test_a_wait_is_no_matter_while_a_worker_is_at_something() -> None:
    advice = advise(facts("RUNNING", counts={"WAITING": 1, "RUNNING": 1}, waits={"event": 1}))

    assert advice.matter == "The run is under way."


def test_the_advice_counts_all_open_incidents_and_not_those_it_was_shown() -> None:
    facts = Facts("RUNNING", {}, [("a", "permanent"), ("b", "permanent")], open_incidents=49)

    assert advise(facts).matter.startswith("a and 48 more need a person.")


@pytest.mark.parametrize(
    ("seconds", "said"), [(90, "90 seconds"), (3600, "60 minutes"), (90_000, "25 hours")]
)
def test_how_long_nobody_came_is_said_in_a_unit_that_people_think_in(
    seconds: float, said: str
) -> None:
    facts = Facts("RUNNING", {"QUEUED": 1}, [], oldest_queued=seconds, queue="env.default.default")

    assert advise(facts).matter == f"No worker has taken the next step for {said}."
