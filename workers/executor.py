"""One attempt, from a template of arguments to an outcome. Knows neither Django nor Celery.

A pipeline of small functions over one record: resolve -> ask -> start -> perform -> normalise
-> report. `ask` is for the probe, where nobody knows whether the attempt before took effect.
Whatever the task does, an outcome comes out of it; only what ends the worker itself (Celery's
shutdown, a person's Ctrl-C) passes through. No secret leaves: not in an output, an error or a log.
"""

import re
import signal
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from workers import registry as registry_module
from workers import sandbox
from workers.context import LeasedProfile, TaskContext, never, unmasked
from workers.errors import (
    ParametersError,
    RegistryError,
    StepTimeout,
    TaskError,
    ValueRefusedError,
)
from workers.probing import PROBE_WITHIN, Happened, NotHappened, Unknown
from workers.registry import Registry, TaskType, catalog
from workers.sandbox import Workdir, run_within
from workers.values import check_size, plain, redactor, texts_of
from workflows.engine.events import Failed, Repeat, StepError, Succeeded, repeat_of
from workflows.language import expressions
from workflows.language.words import ErrorClass

MAX_MESSAGE = 2_000
MAX_TRACEBACK_FRAMES = 8
MAX_TRACEBACK = 4_000
LONGEST_RETRY_AFTER = 86_400.0

ASKED_AGAIN = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMEOUT})
"""The classes with which a probe may fail and still be asked again."""

IN_DOUBT = frozenset({ErrorClass.UNCERTAIN, ErrorClass.CANCELLED})
"""The classes of errors with which a call ends that may have taken effect."""

_OUR_FILES = {module.__file__ for module in (registry_module, sandbox)} | {__file__}
EXIT_OF_SIGNAL = range(-256 + 1, -256 + signal.NSIG)
"""What Celery's process pool exits with when it is told to stop: signal minus 256."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker was told to do. `arguments` is a template still; `names` is what it may name.

    `timeout` is in seconds. `codes` overrules the classes that the task type declares, and
    `idempotent`, unless it is None, what the type says of itself.
    `probe_first`: nobody knows whether the attempt before took effect. `probe_only`: and no try
    is left, so the probe is asked and the task not called.
    """

    run_id: str
    path: str
    attempt: int
    workflow: str
    environment: str
    uses: str
    arguments: Mapping[str, Any]
    names: Mapping[str, Any] = field(repr=False)
    timeout: float | None = None
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    codes: Mapping[str, ErrorClass] = field(default_factory=dict)
    idempotent: bool | None = None
    probe_first: bool = False
    probe_only: bool = False
    profile: LeasedProfile | None = field(default=None, repr=False)

    @property
    def idempotency_key(self) -> str:
        """Name this step of this run, whichever the attempt."""
        return f"{self.run_id}:{self.path}"


@dataclass(slots=True)
class Attempt:
    """The record that goes down the pipeline, filled on the way; an error ends the way."""

    assignment: Assignment
    registry: Registry
    cancelled: Callable[[], bool] = never
    mask: Callable[[Any], Any] = unmasked
    task: TaskType | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    context: TaskContext | None = None
    happened: bool = False
    """The probe said that the attempt before took effect: the task is not called."""
    repeat: Repeat = Repeat.FREELY
    """Whether another attempt may follow if this one fails as it stands."""
    result: Any = field(default=None, repr=False)
    raised: BaseException | None = None
    error: StepError | None = None

    def having(self, **found: Any) -> "Attempt":
        """Fill in what a stage has found."""
        for name, value in found.items():
            setattr(self, name, value)
        return self


def execute(
    assignment: Assignment,
    *,
    registry: Registry = catalog,
    cancelled: Callable[[], bool] = never,
) -> Succeeded | Failed:
    """Carry out one attempt and say how it ended. Never raises what a task raised."""
    attempt = Attempt(
        assignment,
        registry,
        cancelled,
        _mask_of(assignment),
        repeat=Repeat.NEVER if assignment.probe_first else Repeat.FREELY,
    )
    try:
        for stage in (resolve, ask, start, perform, normalise):
            attempt = stage(attempt)
            if attempt.error is not None:
                break
    except Exception as error:  # noqa: BLE001 - an outcome, not a crash of the worker
        attempt = attempt.having(error=_step_error(attempt, error))
    finally:
        if attempt.context is not None:
            attempt.context.scratch.remove()
    return report(attempt)


def _mask_of(assignment: Assignment) -> Callable[[Any], Any]:
    """Return what masks the secrets, and the texts of the profile: as it was, and as it is."""
    profile = assignment.profile
    if profile is None:
        return redactor(assignment.secrets)
    before = assignment.secrets | texts_of(profile.context)

    def mask(value: Any) -> Any:
        return redactor(before | texts_of(profile.context))(value)

    return mask


def resolve(attempt: Attempt) -> Attempt:
    """Find the task type, render the template, and read the parameters by the type's schema."""
    assignment = attempt.assignment
    try:
        task = attempt.registry.get(assignment.uses)
        rendered = expressions.render(assignment.arguments, assignment.names)
        arguments = task.validate(plain(rendered, "with"))
    except RegistryError as error:
        return _stopped(attempt, "task.unknown", str(error))
    except expressions.ExpressionError as error:
        return _stopped(attempt, "expression.error", str(error))
    except ValueRefusedError as error:
        return _stopped(attempt, error.code, error.message, error.details)
    except ParametersError as error:
        return _stopped(attempt, "task.parameters", str(error), {"problems": list(error.problems)})
    return attempt.having(task=task, arguments=arguments)


def ask(attempt: Attempt) -> Attempt:
    """Have the probe tell whether the attempt before took effect, if that is not known."""
    task = attempt.task
    assert task is not None  # noqa: S101 - by the order of the pipeline
    if not attempt.assignment.probe_first:
        return attempt
    if _repeat_in_doubt(attempt) is Repeat.FREELY:
        return _allowed(attempt)
    if task.probe is None:
        return _unanswered(attempt, "is not there any more")
    context = _context(attempt, PROBE_WITHIN)
    try:
        answer = run_within(PROBE_WITHIN, lambda: task.ask_probe(attempt.arguments, context))
    except BaseException as error:
        if _ends_the_worker(error):
            raise
        return _probe_failed(attempt, error)
    finally:
        context.scratch.remove()
    context.log.info("probe.answered", answer=type(answer).__name__)
    return _answered(attempt, answer)


def _repeat_in_doubt(attempt: Attempt) -> Repeat:
    """Return whether another attempt may follow if nobody knows whether this took effect."""
    assert attempt.task is not None  # noqa: S101 - by the order of the pipeline
    return repeat_of(attempt.task.repeat, attempt.assignment.idempotent)


def _answered(attempt: Attempt, answer: object) -> Attempt:
    match answer:
        case Happened(output):
            return attempt.having(happened=True, result=output)
        case NotHappened():
            return _allowed(attempt)
        case Unknown(why):
            return _unanswered(attempt, f"cannot tell{f': {why}' if why else ''}")
    kind = type(answer).__name__
    return _unanswered(attempt, f"returned a {kind}, not Happened, NotHappened or Unknown")


def _allowed(attempt: Attempt) -> Attempt:
    """Let the task be called, for it took no effect before; if a try is left."""
    if not attempt.assignment.probe_only:
        return attempt.having(repeat=Repeat.FREELY)
    message = f"`{attempt.assignment.uses}` took no effect, and no try is left."
    error = StepError(ErrorClass.WORKER_LOST, "probe.not_happened", message)
    return attempt.having(error=error, repeat=Repeat.FREELY)


def _unanswered(attempt: Attempt, what: str) -> Attempt:
    """End the attempt without a call, for good: a person is to be asked."""
    message = f"The probe of `{attempt.assignment.uses}` {what}."
    error = StepError(ErrorClass.UNCERTAIN, "probe.unknown", message)
    return attempt.having(error=error, repeat=Repeat.NEVER)


def _probe_failed(attempt: Attempt, raised: BaseException) -> Attempt:
    """End the attempt without a call; a probe that failed for the moment is asked again."""
    if isinstance(raised, StepTimeout):
        again, said = True, f"did not answer within {PROBE_WITHIN:g} s"
    else:
        cause = _step_error(attempt, raised)
        again, said = cause.error_class in ASKED_AGAIN, f"failed with {_text(raised)}"
    error = StepError(
        ErrorClass.TRANSIENT if again else ErrorClass.UNCERTAIN,
        "probe.failed",
        f"The probe of `{attempt.assignment.uses}` {said}",
        details={"traceback": _traceback_tail(raised)},
    )
    return attempt.having(error=error, repeat=Repeat.AFTER_PROBE if again else Repeat.NEVER)


def start(attempt: Attempt) -> Attempt:
    """Make what the task may know about its attempt, and start its clock."""
    return attempt.having(context=_context(attempt, attempt.assignment.timeout))


def _context(attempt: Attempt, seconds: float | None) -> TaskContext:
    assignment = attempt.assignment
    facts: dict[str, Any] = {
        "run_id": assignment.run_id,
        "workflow": assignment.workflow,
        "environment": assignment.environment,
        "path": assignment.path,
        "attempt": assignment.attempt,
    }
    deadline = None if seconds is None else time.monotonic() + seconds
    return TaskContext(
        **facts,
        idempotency_key=assignment.idempotency_key,
        idempotent=_repeat_in_doubt(attempt) is Repeat.FREELY,
        deadline=deadline,
        log=_logger(attempt, facts | {"task": assignment.uses}),
        cancelled=attempt.cancelled,
        mask=attempt.mask,
        profile=assignment.profile,
        scratch=Workdir(),
    )


def perform(attempt: Attempt) -> Attempt:
    """Call the task within its time; keep what it gave or what it raised."""
    task, context = attempt.task, attempt.context
    assert task is not None  # noqa: S101 - by the order of the pipeline
    assert context is not None  # noqa: S101
    if attempt.happened:
        return attempt
    try:
        result = run_within(
            attempt.assignment.timeout, lambda: task.call(attempt.arguments, context)
        )
    except BaseException as error:
        if _ends_the_worker(error):
            raise
        return attempt.having(raised=error)
    return attempt.having(result=result)


def normalise(attempt: Attempt) -> Attempt:
    """Make plain JSON without secrets of the output, or a step error of what was raised."""
    if attempt.raised is not None:
        return _failed(attempt, attempt.raised)
    try:
        output = attempt.mask(plain(attempt.result))
        check_size(output, "output")
    except ValueRefusedError as error:
        return _stopped(attempt, error.code, error.message, error.details)
    return attempt.having(result=output)


def _failed(attempt: Attempt, raised: BaseException) -> Attempt:
    """Make a step error of what the call raised, and say whether it may have taken effect."""
    error = _step_error(attempt, raised)
    in_doubt = isinstance(raised, StepTimeout) or error.error_class in IN_DOUBT
    repeat = _repeat_in_doubt(attempt) if in_doubt else attempt.repeat
    return attempt.having(error=error, repeat=repeat)


def report(attempt: Attempt) -> Succeeded | Failed:
    """Say how it ended, with the secrets masked in every text."""
    path, number = attempt.assignment.path, attempt.assignment.attempt
    if attempt.error is None:
        return Succeeded(path, number, attempt.result)
    mask, error = attempt.mask, attempt.error
    return Failed(
        path,
        number,
        replace(
            error,
            code=mask(error.code),
            message=_bounded(mask(plain(error.message)), MAX_MESSAGE),
            details=_details(mask, error.details),
        ),
        attempt.repeat,
    )


def _step_error(attempt: Attempt, raised: BaseException) -> StepError:
    uses = attempt.assignment.uses
    match raised:
        case TaskError():
            return StepError(
                error_class=raised.error_class or _declared(attempt, raised.code),
                code=raised.code,
                message=raised.message,
                retry_after=_retry_after(raised.retry_after),
                details=raised.details,
            )
        case StepTimeout():
            return StepError(
                ErrorClass.TIMEOUT,
                "task.timeout",
                f"`{uses}` did not end within {attempt.assignment.timeout:g} s and was "
                "interrupted. Give the step a longer timeout, or the task less to do.",
                details={"timeout": attempt.assignment.timeout, **raised.details},
            )
        case MemoryError():
            return StepError(
                _declared(attempt, "task.memory"),
                "task.memory",
                f"`{uses}` needed more memory than a worker's process may take. Give it less to "
                "do at once, or the workers more: WORKER_MEMORY_MIB, where it is set.",
                details={"traceback": _traceback_tail(raised)},
            )
        case SystemExit() | KeyboardInterrupt():
            return StepError(
                ErrorClass.PERMANENT,
                "task.exit",
                f"`{uses}` tried to end its worker with {_text(raised)}. "
                "A task returns its output, or raises an error that says what failed.",
                details={"traceback": _traceback_tail(raised)},
            )
    code = f"exception.{_snake(type(raised).__name__)}"
    return StepError(
        _declared(attempt, code),
        code,
        f"`{uses}` raised {_text(raised)}. "
        + (
            ""
            if code in _codes(attempt)
            else "Nobody classified this exception, so it counts as transient: let the task raise "
            "PermanentError, TransientError or BusinessError, or declare the code."
        ),
        details={"traceback": _traceback_tail(raised)},
    )


def _codes(attempt: Attempt) -> Mapping[str, ErrorClass]:
    declared = attempt.task.codes if attempt.task is not None else {}
    return {**declared, **attempt.assignment.codes}


def _declared(attempt: Attempt, code: str) -> ErrorClass:
    return _codes(attempt).get(code, ErrorClass.TRANSIENT)


def _stopped(
    attempt: Attempt, code: str, message: str, details: Mapping[str, Any] | None = None
) -> Attempt:
    error = StepError(ErrorClass.PERMANENT, code, message, details=dict(details or {}))
    return attempt.having(error=error)


def _ends_the_worker(error: BaseException) -> bool:
    """Tell the end of the worker from a task that only behaves as if.

    Celery ends a worker with subclasses of SystemExit, and a pool's process with a code made of
    the signal. Ctrl-C is a person's only where Python itself turns it into an exception.
    """
    match error:
        case KeyboardInterrupt():
            return signal.getsignal(signal.SIGINT) is signal.default_int_handler
        case SystemExit():
            return type(error) is not SystemExit or error.code in EXIT_OF_SIGNAL
    return isinstance(error, GeneratorExit)


def _details(mask: Callable[[Any], Any], details: Mapping[str, Any]) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = mask(plain(details, "details"))
        check_size(kept, "details")
    except ValueRefusedError as error:
        return {"dropped": mask(error.message)}
    return kept


def _retry_after(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(0.0, float(seconds)), LONGEST_RETRY_AFTER)


def _text(error: BaseException) -> str:
    name = type(error).__name__
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an exception whose own text fails must not hide itself
        said = "its text cannot be had"
    return f"{name}: {said}" if said else name


def _traceback_tail(error: BaseException) -> str:
    """Show the last frames of the task's own code, in whole lines: a cut could split a secret."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _OUR_FILES
    ]
    text = "".join(traceback.format_list(frames[-MAX_TRACEBACK_FRAMES:]))
    return text if len(text) <= MAX_TRACEBACK else text[-MAX_TRACEBACK:].partition("\n")[2]


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _logger(attempt: Attempt, facts: Mapping[str, Any]) -> Any:
    """Give a logger that masks the secrets just before the configured renderer sees them.

    It is made when it is first used.
    """
    if not attempt.assignment.secrets and attempt.assignment.profile is None:
        return structlog.get_logger(**facts)

    def masked(logger: Any, method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        told = dict(structlog.processors.format_exc_info(logger, method, event))
        if "exception" in told:
            told["traceback"] = told.pop("exception")
        return {
            key: attempt.mask(value if isinstance(value, _MASKABLE) else str(value))
            for key, value in told.items()
        }

    *before, renderer = structlog.get_config()["processors"]
    return structlog.wrap_logger(None, processors=[*before, masked, renderer], **facts)


_MASKABLE = (str, int, float, Mapping, list, tuple, type(None))
