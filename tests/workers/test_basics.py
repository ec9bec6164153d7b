"""`log`, `sleep` and `fail`."""

import time

import pytest
from structlog.testing import capture_logs

from tests.workers.builders import assignment, carry_out, error_of, output_of
from workers.executor import execute
from workers.registry import catalog
from workflows.language.words import ErrorClass


def test_a_line_is_logged_at_its_level_with_its_fields() -> None:
    with capture_logs() as lines:
        outcome = carry_out("log", message="Hello", level="warning", fields={"event": "x", "n": 1})

    assert output_of(outcome) == {"message": "Hello"}
    assert lines[0]["log_level"] == "warning"
    assert (lines[0]["event"], lines[0]["fields"]) == ("Hello", {"event": "x", "n": 1})


def test_a_level_that_does_not_exist_is_refused() -> None:
    error = error_of(carry_out("log", message="Hello", level="loud"))

    assert error.code == "task.parameters"


@pytest.mark.parametrize("seconds", [0.02, "20ms", "PT0.02S"])
def test_a_sleep_takes_numbers_and_durations(seconds: float | str) -> None:
    began = time.monotonic()

    outcome = carry_out("sleep", seconds=seconds)

    assert output_of(outcome) == {"slept": 0.02}
    assert time.monotonic() - began >= 0.02


@pytest.mark.parametrize("seconds", [-1, "soon", True, None])
def test_a_sleep_without_a_duration_is_refused(seconds: object) -> None:
    assert error_of(carry_out("sleep", seconds=seconds)).code == "task.parameters"


def test_a_drill_fails_as_it_is_told() -> None:
    told = {"class": "business", "code": "order.refused", "message": "No."}

    error = error_of(carry_out("fail", **told))

    assert error.error_class is ErrorClass.BUSINESS
    assert (error.code, error.message) == ("order.refused", "No.")


def test_a_drill_may_fail_only_the_first_attempts() -> None:
    outcomes = [
        execute(assignment("fail", {"times": 2}, attempt=attempt), registry=catalog)
        for attempt in (1, 2, 3)
    ]

    assert [error_of(outcome).code for outcome in outcomes[:2]] == ["drill.failed"] * 2
    assert output_of(outcomes[2]) == {"attempt": 3}
