"""Why a service refuses.

ServiceError
    NotFoundError             there is no such thing
    NotAllowedError           the person may not do this, whatever the state
    InputRefusedError         the input does not fit its schema
    StateRefusedError         the state of the thing does not allow it
        MigrationRefusedError     the run cannot go over to that version
    IdempotencyMismatchError  the key was used for something else
    EnvironmentClosedError    the environment takes no runs
    NotAdmittedError          the environment of a child run does not let it in
    TooDeepError              child runs have child runs have child runs
    CallbackMismatchError     another callback has come before
    CallbackOverError         nobody waits for the callback, and nobody will
"""

from collections.abc import Sequence
from typing import Any

from workflows.language.limits import too_large, unstorable


class ServiceError(Exception):
    """A refusal: a sentence that names the thing, its state and what was wanted."""

    code = "refused"


class NotFoundError(ServiceError):
    """There is no such thing."""

    code = "not_found"

    def __init__(self, kind: str, name: object) -> None:
        super().__init__(f"There is no {kind} {name}.")
        self.kind = kind
        self.name = str(name)


class NotAllowedError(ServiceError):
    """The person may not do this."""

    code = "not_allowed"


class InputRefusedError(ServiceError):
    """The input does not fit its schema; `findings` says where and why."""

    code = "input_refused"

    def __init__(self, message: str, findings: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


def refuse_unstorable(name: str, value: Any) -> None:
    """Raise InputRefusedError for a value that cannot be kept, or is too large to be."""
    if reason := unstorable(name, value) or too_large(name, value):
        raise InputRefusedError(as_sentence(reason))


def reason_given(why: str) -> str:
    """Return why somebody does something by hand. Raises InputRefusedError where that is empty."""
    if reason := why.strip():
        return reason
    raise InputRefusedError("Say why: the next person must know whether it still holds.")


def as_sentence(reason: str) -> str:
    """Return a reason with a capital letter and a full stop."""
    return f"{reason[0].upper()}{reason[1:].rstrip('.')}."


class StateRefusedError(ServiceError):
    """The state of the thing does not allow what was asked."""

    code = "state_refused"


class MigrationRefusedError(StateRefusedError):
    """The run cannot go over to the version, or not before somebody has said what to do."""

    code = "migration_refused"

    def __init__(self, message: str, findings: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class IdempotencyMismatchError(ServiceError):
    """The idempotency key was used for something else."""

    code = "idempotency_mismatch"


class EnvironmentClosedError(ServiceError):
    """The environment takes no new runs."""

    code = "environment_closed"


class NotAdmittedError(ServiceError):
    """The environment that a child run is for does not let it in."""

    code = "environment.not_admitted"


class TooDeepError(ServiceError):
    """Child runs have child runs have child runs."""

    code = "child.too_deep"


class CallbackMismatchError(ServiceError):
    """Another callback has come to the same URL before."""

    code = "callback_mismatch"


class CallbackOverError(ServiceError):
    """Nobody waits for the callback, and nobody will."""

    code = "callback_over"
