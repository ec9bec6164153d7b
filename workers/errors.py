"""What can go wrong in the workers' room, and how a task says what went wrong in its own work.

    WorkersError
    ├── TaskError               raised by a task: what failed, its class, when to try again
    │   ├── TransientError      worth another try
    │   ├── PermanentError      would fail again: the step fails at once
    │   └── BusinessError       the data says no: a person decides
    ├── RegistryError           a task type is declared or named wrongly
    │   ├── DuplicateTaskError
    │   ├── UnknownTaskError
    │   ├── TaskModuleError
    │   └── TaskSignatureError
    ├── ParametersError         a task was given parameters that its schema refuses
    └── ValueRefusedError       a value that cannot be kept: not JSON, or too large
    BaseException
    └── StepTimeout             raised inside a function whose time is up

Knows neither Django nor Celery, so that a task's module stays importable anywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from workflows.language.nearest import did_you_mean
from workflows.language.words import ErrorClass


class WorkersError(Exception):
    """The family of this package."""


class TaskError(WorkersError):
    """A failure that a task has understood.

    `code` is dotted (`billing.card_refused`). `error_class`, or its name, decides what follows;
    left out, it is what the task type declared for the code, else transient. `retry_after` is in
    seconds; `details` must be JSON and is shown to operators.
    """

    default_class: ClassVar[ErrorClass | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str,
        error_class: ErrorClass | str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        # Whatever a task was written with: nothing but these may reach the engine.
        self.message = str(message)
        self.code = str(code)
        self.error_class = ErrorClass(error_class) if error_class else self.default_class
        self.retry_after = retry_after
        self.details = dict(details or {})


class TransientError(TaskError):
    """Worth another try: a server was away, a lock was held."""

    default_class = ErrorClass.TRANSIENT


class PermanentError(TaskError):
    """Would fail again with the same input."""

    default_class = ErrorClass.PERMANENT


class BusinessError(TaskError):
    """Nothing is broken, but the data says no: a person decides."""

    default_class = ErrorClass.BUSINESS


class RegistryError(WorkersError):
    """A task type is declared or named wrongly."""


class DuplicateTaskError(RegistryError):
    """Two functions claim one name."""

    def __init__(self, name: str, *, first: str, second: str) -> None:
        super().__init__(
            f"The task type `{name}` is declared twice: by {first} and by {second}. Rename one."
        )
        self.name = name


class UnknownTaskError(RegistryError):
    """Nobody declared this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no task type `{name}`; {did_you_mean(name, known, 'task types')}"
        )
        self.name = name


class TaskModuleError(RegistryError):
    """A module that should declare task types cannot be imported."""

    def __init__(self, module: str, reason: Exception) -> None:
        super().__init__(
            f"The tasks module `{module}` cannot be imported: {type(reason).__name__}: {reason}"
        )
        self.module = module


class TaskSignatureError(RegistryError):
    """A function's signature cannot become a parameter schema."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The task type `{name}` cannot be declared: {problem}")
        self.name = name
        self.problem = problem


class ParametersError(WorkersError):
    """A task was given parameters that its schema refuses; every problem is listed."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        super().__init__(f"`{name}` refuses its parameters: {'; '.join(problems)}.")
        self.name = name
        self.problems = tuple(problems)


class ValueRefusedError(WorkersError):
    """A value that cannot be kept, with the code under which the step fails."""

    def __init__(self, message: str, *, code: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = dict(details)


class StepTimeout(BaseException):
    """The time of a call is up. Derived from BaseException, so that no `except Exception` eats it.

    Who cleans up on the way out may leave what an operator should see in `details`.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(f"the time limit of {seconds:g} s has passed")
        self.seconds = seconds
        self.details: dict[str, Any] = {}
