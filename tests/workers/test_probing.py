"""The probe: what it answers decides whether the task is called, and nothing else does."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.workers.builders import Outcome, assignment, error_of
from workers import executor
from workers.context import TaskContext
from workers.errors import PermanentError, StepTimeout, TaskError
from workers.executor import execute
from workers.probing import Answer, Happened, NotHappened, Unknown
from workers.registry import Registry
from workflows.engine.events import Failed, Repeat, Succeeded
from workflows.language.words import ErrorClass

PROBE, NEVER, FREELY = Repeat.AFTER_PROBE, Repeat.NEVER, Repeat.FREELY


class Bank:
    """A task type with its probe, and how often each was asked."""

    def __init__(self, probe: Callable[[], Any], pay: Callable[[], Any] = lambda: "paid") -> None:
        self.paid = 0
        self.registry = Registry()

        def do(account: str) -> Any:
            self.paid += 1
            return pay()

        def look(account: str, context: TaskContext) -> Answer:
            return probe()  # type: ignore[no-any-return] # what a probe returns may be anything

        self.registry.task("pay", idempotent=False, probe=look)(do)

    def outcome(self, **facts: Any) -> Outcome:
        """Carry out the attempt after one that was lost."""
        usual = {"attempt": 2, "probe_first": True}
        return execute(assignment("pay", {"account": "a"}, **usual | facts), registry=self.registry)


def raising(error: BaseException) -> Callable[[], Any]:
    def fails() -> None:
        raise error

    return fails


def test_what_has_happened_is_done_and_not_called() -> None:
    bank = Bank(lambda: Happened({"receipt": 7}))

    assert bank.outcome() == Succeeded("step", 2, {"receipt": 7})
    assert bank.paid == 0


def test_what_has_not_happened_is_called() -> None:
    bank = Bank(NotHappened)

    assert bank.outcome() == Succeeded("step", 2, "paid")
    assert bank.paid == 1


def test_when_no_try_is_left_the_probe_is_asked_and_nothing_called() -> None:
    bank = Bank(NotHappened)

    outcome = bank.outcome(probe_only=True)

    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.repeat, bank.paid) == ("probe.not_happened", FREELY, 0)
    assert outcome.error.error_class is ErrorClass.WORKER_LOST


def test_a_step_that_says_it_may_be_repeated_is_not_asked_about() -> None:
    bank = Bank(raising(AssertionError("asked")))

    assert bank.outcome(idempotent=True) == Succeeded("step", 2, "paid")


def test_what_has_happened_is_done_also_when_no_try_is_left() -> None:
    bank = Bank(lambda: Happened("paid"))

    assert bank.outcome(probe_only=True) == Succeeded("step", 2, "paid")


def test_a_probe_is_not_asked_where_nothing_was_lost() -> None:
    bank = Bank(raising(AssertionError("asked")))

    assert bank.outcome(probe_first=False) == Succeeded("step", 2, "paid")


@pytest.mark.parametrize(
    ("probe", "code", "repeat"),
    [
        (lambda: Unknown("the ledger is closed"), "probe.unknown", NEVER),
        (lambda: None, "probe.unknown", NEVER),
        (lambda: True, "probe.unknown", NEVER),
        (raising(ConnectionError("away")), "probe.failed", PROBE),
        (raising(TaskError("?", code="a", error_class=ErrorClass.TIMEOUT)), "probe.failed", PROBE),
        (raising(PermanentError("no", code="a")), "probe.failed", NEVER),
    ],
)
def test_without_an_answer_nothing_is_called(probe: Any, code: str, repeat: Repeat) -> None:
    bank = Bank(probe)

    outcome = bank.outcome()

    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.repeat, bank.paid) == (code, repeat, 0)


def test_what_the_probe_says_is_told_without_secrets() -> None:
    bank = Bank(lambda: Unknown("the ledger of hunter2 is closed"))

    error = error_of(bank.outcome(secrets={"hunter2"}))

    assert error.message == "The probe of `pay` cannot tell: the ledger of *** is closed."
    assert error.error_class is ErrorClass.UNCERTAIN


def test_a_probe_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "PROBE_WITHIN", 0.1)
    bank = Bank(lambda: time.sleep(20))

    outcome = bank.outcome(timeout=60)

    assert isinstance(outcome, Failed)
    assert "did not answer within 0.1 s" in outcome.error.message
    assert (outcome.repeat, bank.paid) == (PROBE, 0)


def test_an_output_that_cannot_be_kept_is_no_reason_to_do_it_again() -> None:
    bank = Bank(lambda: Happened({1, 2}))

    outcome = bank.outcome()

    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.repeat) == ("value.not_json", NEVER)


def test_an_attempt_that_never_gets_to_its_probe_leaves_the_doubt() -> None:
    outcome = execute(assignment("gone", probe_first=True), registry=Registry())

    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.repeat) == ("task.unknown", NEVER)


@pytest.mark.parametrize(
    ("raised", "repeat"),
    [
        (StepTimeout(1), PROBE),
        (TaskError("?", code="a", error_class=ErrorClass.UNCERTAIN), PROBE),
        (TaskError("?", code="a", error_class=ErrorClass.TIMEOUT), FREELY),
        (ConnectionError("away"), FREELY),
    ],
)
def test_a_call_that_was_interrupted_may_have_taken_effect(
    raised: BaseException, repeat: Repeat
) -> None:
    outcome = Bank(NotHappened, raising(raised)).outcome(timeout=60)

    assert isinstance(outcome, Failed)
    assert outcome.repeat is repeat


def test_an_idempotent_call_that_was_interrupted_may_be_repeated() -> None:
    registry = Registry()
    registry.task("read")(raising(StepTimeout(1)))

    outcome = execute(assignment("read", timeout=1), registry=registry)

    assert isinstance(outcome, Failed)
    assert (outcome.error.error_class, outcome.repeat) == (ErrorClass.TIMEOUT, FREELY)
