"""One attempt: whatever a task does, an outcome comes out of it, and no secret."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from tests.workers.builders import (
    assignment,
    carry_out,
    error_of,
    everything_said,
    outcome_of,
    output_of,
)
from workers.context import TaskContext
from workers.errors import BusinessError, PermanentError, TaskError, TransientError
from workers.executor import execute
from workers.registry import Registry
from workflows.engine.events import Failed, Succeeded
from workflows.language.limits import LARGEST_VALUE, too_large
from workflows.language.words import ErrorClass

SECRET = "hunter2 'quoted' & more"
TOLD = f"Told {SECRET}"


def echo(value: Any) -> Any:
    return value


def raising(error: BaseException) -> Callable[[], None]:
    def fails() -> None:
        raise error

    return fails


def test_an_attempt_that_goes_well_gives_its_output() -> None:
    outcome = outcome_of(echo, {"value": {"a": [1]}}, path="ship[3].pack", attempt=2)

    assert outcome == Succeeded("ship[3].pack", 2, {"a": [1]})


def test_expressions_are_resolved_before_the_call() -> None:
    outcome = outcome_of(echo, {"value": "${{ input.count + 1 }}"})

    assert output_of(outcome) == 4


def test_a_missing_value_is_a_permanent_error_and_nothing_is_called() -> None:
    error = error_of(outcome_of(echo, {"value": "${{ input.cuont }}"}))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "expression.error")
    assert "input.cuont" in error.message


def test_parameters_are_checked_after_they_are_resolved() -> None:
    def count(number: int, other: str) -> None:
        del number, other

    error = error_of(outcome_of(count, {"number": "${{ string(input.count) }}"}))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "task.parameters")
    assert error.details["problems"] == [
        "`number`: input should be a valid integer",
        "`other`: field required",
    ]


def test_too_little_memory_has_a_code_of_its_own_and_says_what_to_do() -> None:
    error = error_of(outcome_of(raising(MemoryError())))

    assert (error.error_class, error.code) == (ErrorClass.TRANSIENT, "task.memory")
    assert "WORKER_MEMORY_MIB" in error.message


def test_an_unknown_task_type_is_a_permanent_error() -> None:
    error = error_of(carry_out("shel.run", command=["true"]))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "task.unknown")
    assert "shell.run" in error.message


def test_a_task_sees_its_attempt() -> None:
    def tell(context: TaskContext) -> dict[str, Any]:
        return {
            "facts": [context.run_id, context.workflow, context.environment, context.path],
            "attempt": context.attempt,
            "key": context.idempotency_key,
            "hurry": 0 < context.remaining() <= 60,
            "cancelled": context.cancelled(),
        }

    outcome = outcome_of(tell, path="a.b", attempt=3, timeout=60.0)

    assert output_of(outcome) == {
        "facts": ["run-1", "nightly", "default", "a.b"],
        "attempt": 3,
        "key": "run-1:a.b",
        "hurry": True,
        "cancelled": False,
    }


def test_the_idempotency_key_is_the_same_for_every_attempt() -> None:
    first, second = assignment("x", attempt=1), assignment("x", attempt=2)

    assert first.idempotency_key == second.idempotency_key == "run-1:step"


def test_the_working_folder_is_gone_after_the_attempt() -> None:
    def work(context: TaskContext) -> str:
        (context.workdir / "deep").mkdir()
        (context.workdir / "deep" / "file").write_text("x")
        return str(context.workdir)

    folder = Path(output_of(outcome_of(work)))

    assert folder.is_absolute()
    assert not folder.exists()


def test_the_working_folder_is_gone_after_a_failure_too() -> None:
    def fails(context: TaskContext) -> None:
        raise PermanentError(str(context.workdir), code="a.b")

    folder = error_of(outcome_of(fails)).message

    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (TransientError("Away.", code="erp.away"), ErrorClass.TRANSIENT),
        (PermanentError("Gone.", code="erp.gone"), ErrorClass.PERMANENT),
        (BusinessError("No.", code="erp.no"), ErrorClass.BUSINESS),
        (TaskError("Full.", code="erp.full"), ErrorClass.BUSINESS),
        (TaskError("Odd.", code="erp.odd"), ErrorClass.TRANSIENT),
        (TaskError("?", code="a", error_class=ErrorClass.UNCERTAIN), ErrorClass.UNCERTAIN),
    ],
)
def test_an_error_of_a_task_says_its_class_or_its_code_does(
    error: TaskError, error_class: ErrorClass
) -> None:
    codes = {"erp.full": ErrorClass.BUSINESS, "erp.gone": ErrorClass.TRANSIENT}

    found = error_of(outcome_of(raising(error), codes_of_type=codes))

    assert (found.error_class, found.code, found.message) == (error_class, error.code, str(error))


def test_an_assignment_may_overrule_the_class_of_a_code() -> None:
    declared = {"erp.full": ErrorClass.TRANSIENT}
    fails = raising(TaskError("Full.", code="erp.full"))

    outcome = outcome_of(fails, codes_of_type=declared, codes={"erp.full": ErrorClass.BUSINESS})

    assert error_of(outcome).error_class is ErrorClass.BUSINESS


def test_a_class_may_be_given_by_its_name() -> None:
    fails = raising(TaskError("No.", code="erp.no", error_class="business"))

    assert error_of(outcome_of(fails)).error_class is ErrorClass.BUSINESS


def test_a_class_that_does_not_exist_is_an_error_of_the_task() -> None:
    def fails() -> None:
        raise TaskError("No.", code="erp.no", error_class="severe")

    assert error_of(outcome_of(fails)).code == "exception.value_error"


def test_a_code_is_text_whatever_a_task_gives() -> None:
    status: Any = 404

    assert error_of(outcome_of(raising(TaskError("No.", code=status)))).code == "404"


@pytest.mark.parametrize(("asked", "granted"), [(7.5, 7.5), (-1, 0.0), (1e9, 86_400.0)])
def test_a_retry_is_never_asked_for_after_more_than_a_day(asked: float, granted: float) -> None:
    fails = raising(TransientError("Later.", code="erp.busy", retry_after=asked))

    assert error_of(outcome_of(fails)).retry_after == granted


def test_an_exception_nobody_classified_is_transient_and_says_so() -> None:
    class HTTPBrokenError(Exception):
        pass

    error = error_of(outcome_of(raising(HTTPBrokenError("It broke"))))

    assert error.error_class is ErrorClass.TRANSIENT
    assert error.code == "exception.http_broken_error"
    assert "HTTPBrokenError: It broke. Nobody classified this exception" in error.message


def test_an_exception_whose_code_is_declared_is_classified() -> None:
    codes = {"exception.key_error": ErrorClass.PERMANENT}

    error = error_of(outcome_of(raising(KeyError("x")), codes_of_type=codes))

    assert error.error_class is ErrorClass.PERMANENT
    assert "Nobody" not in error.message


def test_the_traceback_shows_the_tasks_own_code_and_is_bounded() -> None:
    def deeper(left: int) -> None:
        if not left:
            raise ValueError("x" * 100_000)
        deeper(left - 1)

    def deep() -> None:
        deeper(50)

    error = error_of(outcome_of(deep))

    assert "deeper(left - 1)" in error.details["traceback"]
    assert "workers/executor.py" not in error.details["traceback"]
    assert len(error.details["traceback"]) <= 4_000
    assert len(error.message) <= 2_000


def test_an_exception_without_a_text_of_its_own_is_still_told() -> None:
    class ShyError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "ShyError" in error_of(outcome_of(raising(ShyError()))).message


def test_a_task_that_takes_too_long_is_interrupted() -> None:
    def sleeps() -> None:
        time.sleep(60)

    began = time.monotonic()
    error = error_of(outcome_of(sleeps, timeout=0.05))

    assert time.monotonic() - began < 5
    assert (error.error_class, error.code) == (ErrorClass.TIMEOUT, "task.timeout")
    assert "`under.test` did not end within 0.05 s" in error.message


def test_a_task_that_eats_the_interruption_has_timed_out_all_the_same() -> None:
    def eats() -> str:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - what a careless task does
            return "all is well"
        return ""

    assert error_of(outcome_of(eats, timeout=0.05)).code == "task.timeout"


def test_a_task_is_interrupted_outside_of_the_main_thread_too() -> None:
    def spins() -> None:
        while True:
            time.sleep(0.001)

    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(outcome_of(spins, timeout=0.05)))
    thread.start()
    thread.join(10)

    assert [error_of(outcome).code for outcome in outcomes] == ["task.timeout"]


@pytest.mark.parametrize("code", [None, 0, 1, "bye"])
def test_a_task_cannot_end_its_worker(code: Any) -> None:
    error = error_of(outcome_of(raising(SystemExit(code))))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "task.exit")


def test_the_workers_own_end_passes_through() -> None:
    class WorkerShutdown(SystemExit):
        pass

    with pytest.raises(WorkerShutdown):
        outcome_of(raising(WorkerShutdown(0)))
    with pytest.raises(SystemExit):
        outcome_of(raising(SystemExit(-(256 - signal.SIGTERM))))


def test_a_persons_interrupt_passes_through() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            outcome_of(raising(KeyboardInterrupt()))
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_where_none_can_come_from_a_person_is_the_tasks_own() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        outcome = outcome_of(raising(KeyboardInterrupt()))
    finally:
        signal.signal(signal.SIGINT, before)

    assert error_of(outcome).code == "task.exit"


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), [float("inf")], b"x", object(), {1: 2}])
def test_an_output_that_json_cannot_hold_is_refused(value: Any) -> None:
    def gives() -> Any:
        return {"here": value}

    error = error_of(outcome_of(gives))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "value.not_json")
    assert "output.here" in error.message


def test_an_output_too_large_is_refused_with_its_size_and_advice() -> None:
    def gives(size: int) -> str:
        return "x" * (size - 2)

    fits = outcome_of(gives, {"size": LARGEST_VALUE})
    error = error_of(outcome_of(gives, {"size": LARGEST_VALUE + 1}))

    assert len(output_of(fits)) == LARGEST_VALUE - 2
    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "value.too_large")
    assert "262,145 bytes" in error.message
    assert "artifact" in error.message


def test_a_worker_refuses_what_is_too_large_in_the_words_of_the_engine() -> None:
    text = "ä" * LARGEST_VALUE

    error = error_of(outcome_of(lambda: text))

    said = too_large("the output", text)
    assert said is not None
    assert error.message.lower() == f"{said}.".lower()
    assert error.details == {"bytes": 2 * LARGEST_VALUE + 2, "limit": LARGEST_VALUE}


def test_details_that_cannot_be_kept_do_not_hide_the_error() -> None:
    fails = raising(PermanentError("Wrong.", code="a.b", details={"all": {1, 2}}))

    error = error_of(outcome_of(fails))

    assert error.message == "Wrong."
    assert "details.all" in error.details["dropped"]


def leaks_output(secret: str) -> Any:
    return {"plain": secret, secret: [f"in {secret}!"], "quoted": repr(secret)}


def leaks_error(secret: str) -> None:
    raise PermanentError(secret, code="a.b", details={"url": [f"x/{secret}"]})


def leaks_exception(secret: str) -> None:
    raise ValueError(secret)


def leaks_set(secret: str) -> Any:
    return {secret: {1}}


def leaks_json(secret: str) -> str:
    return structlog.processors.json.dumps({"secret": secret})


@pytest.mark.parametrize(
    "leak", [leaks_output, leaks_error, leaks_exception, leaks_set, leaks_json]
)
def test_no_secret_leaves_the_worker(leak: Callable[..., Any]) -> None:
    names = {"secrets": {"password": SECRET}}
    arguments = {"secret": "${{ secrets.password }}"}

    outcome = outcome_of(leak, arguments, names=names, secrets={SECRET, "other"})

    assert "***" in everything_said(outcome)
    assert "hunter2" not in everything_said(outcome)


def test_no_secret_is_shown_by_an_assignment() -> None:
    told = assignment("x", secrets={SECRET}, names={"secrets": {"password": SECRET}})

    assert "hunter2" not in repr(told)


def test_no_secret_is_logged(lines: LogCapture) -> None:
    def leaks(context: TaskContext) -> None:
        try:
            leaks_exception(SECRET)
        except ValueError as error:
            context.log.exception(TOLD, a={"b": [SECRET]}, error=error)

    outcome_of(leaks, secrets={SECRET})

    assert lines.entries[0]["event"] == "Told ***"
    assert "hunter2" not in str(lines.entries)


def test_a_line_of_a_task_says_where_it_comes_from(lines: LogCapture) -> None:
    def logs(context: TaskContext) -> None:
        context.log.info("Hello.")

    outcome_of(logs, path="greet", attempt=2)

    assert lines.entries[0] | {"event": "Hello.", "path": "greet", "attempt": 2} == lines.entries[0]


def test_a_cancelled_attempt_ends_as_cancelled() -> None:
    registry = Registry()

    @registry.task("long")
    def long(context: TaskContext) -> None:
        context.stop_if_cancelled()

    outcome = execute(assignment("long"), registry=registry, cancelled=lambda: True)

    assert error_of(outcome).error_class is ErrorClass.CANCELLED


@pytest.mark.timeout(0)  # it uses the same timer
def test_an_attempt_leaves_no_timer_and_no_handler_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)

    outcome_of(echo, {"value": 1}, timeout=30.0)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_assignment_without_time_fails_at_once() -> None:
    called: list[int] = []

    def notes() -> None:
        called.append(os.getpid())

    outcome = outcome_of(notes, timeout=0.0)

    assert isinstance(outcome, Failed)
    assert (outcome.error.code, called) == ("task.timeout", [])


@pytest.fixture
def lines() -> Iterator[LogCapture]:
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(**before)
