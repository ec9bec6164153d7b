"""What a run can hear: the closed set of events that `advance` decides upon.

Every event of an attempt carries the attempt's number, its fence: an event of
another attempt than the step's own is late or a duplicate and changes nothing.
The path of the run itself is the empty string.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from workflows.engine.states import Reason, RunReason
from workflows.language.words import ErrorClass


@dataclass(frozen=True, slots=True)
class StepError:
    """Why an attempt failed: its class decides what follows, its code names the cause.

    `code` is dotted (`http.503`); `retry_after` is in seconds and, when given by
    a server, wins over the computed delay; `details` must be JSON.
    """

    error_class: ErrorClass
    code: str
    message: str
    retry_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the error as it is stored, shown and read by expressions."""
        return {
            "class": self.error_class.value,
            "code": self.code,
            "message": self.message,
            "details": dict(self.details),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "StepError":
        """Read an error as `as_dict` wrote it."""
        return cls(
            ErrorClass(value["class"]),
            value["code"],
            value["message"],
            details=value.get("details", {}),
        )

    def inside(self, path: str) -> "StepError":
        """Return the error as that of what is around the step at `path`, where it came from."""
        message = f"{path}: {self.message}"
        return StepError(self.error_class, self.code, message, details=self.details)

    def matches(self, words: tuple[str, ...]) -> bool:
        """Say whether a class, the code or a dotted beginning of the code is among `words`."""
        return any(
            word in (self.error_class.value, self.code) or self.code.startswith(f"{word}.")
            for word in words
        )


class Repeat(StrEnum):
    """Whether another attempt may follow one of which nobody knows whether it took effect."""

    FREELY = "freely"
    AFTER_PROBE = "after_probe"
    """The task type has a probe that can tell: the next attempt asks it first."""
    NEVER = "never"


def repeat_of(usual: Repeat, idempotent: bool | None) -> Repeat:
    """Return whether a step may follow itself: as its task type says, unless it says otherwise."""
    if idempotent is None:
        return usual
    if idempotent:
        return Repeat.FREELY
    return Repeat.NEVER if usual is Repeat.FREELY else usual


class Loss(StrEnum):
    """Why an attempt ends of which its worker says nothing."""

    SILENT = "silent"
    """The worker has not renewed its lease."""
    DIED = "died"
    """The process is gone."""
    OVERRAN = "overran"
    """The process was ended, for the step had used up its time and did not yield."""
    STOPPED = "stopped"
    """The worker was told to stop, and the step did not end in the time that it had left."""


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins: the steps of its root scope come into being."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The run begins at the step, holding what it has taken over from another run."""

    path: str


@dataclass(frozen=True, slots=True)
class Birth:
    """A step that only the new version has, and the reason why it is not carried out, if so."""

    path: str
    scope: str
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A person has the run do without these steps, for it goes over to another version."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Migrated:
    """The run has gone over to another version, by whose plan its rows are named and numbered."""

    births: tuple[Birth, ...]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A worker takes a queued attempt; the lease is its right to it until `lease_until`."""

    path: str
    attempt: int
    worker: str
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Parked:
    """A queued attempt is put aside, for `reason`: nobody takes it, and it uses up no try.

    Who knows that what it waits for can be had makes it due; it looks for itself at `until`.
    """

    path: str
    attempt: int
    reason: Reason
    until: datetime


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt ended well."""

    path: str
    attempt: int
    output: Any = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt ended badly; `repeat` is FREELY unless it may have taken effect all the same."""

    path: str
    attempt: int
    error: StepError
    repeat: Repeat = Repeat.FREELY


@dataclass(frozen=True, slots=True)
class LeaseExpired:
    """The worker speaks for the attempt no more: nobody knows how far it came."""

    path: str
    attempt: int
    repeat: Repeat
    loss: Loss = Loss.SILENT


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The delay before the next attempt is over."""

    path: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What a step waits for from outside has come: `output`, or the `error` it fails with.

    `reason` is what it waits for, and `attempt`, where given, which of its waits is meant.
    `answer` is kept with the wait: what it was that came.
    """

    path: str
    reason: Reason
    output: Any = None
    error: StepError | None = None
    attempt: int | None = None
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A scope, the run, or a wait for something from outside has used up its time."""

    path: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A person holds the run: what runs may finish, nothing new starts."""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A person lets a paused run go on."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A person ends the run, or another takes its place; then `error` says so.

    With `undo`, what it has done is then undone.
    """

    reason: RunReason | None = None
    error: StepError | None = None
    undo: bool = False


@dataclass(frozen=True, slots=True)
class CompensationRequested:
    """A person has undone what a failed run has done; `error` is why it failed."""

    error: StepError


@dataclass(frozen=True, slots=True)
class CompensationDue:
    """Another step of the run may have to be undone. Raised by the engine itself."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A person has a failed step tried again, with corrected `arguments` if given.

    Of a scope, or of the run, everything that failed in it is tried again.
    """

    path: str
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SkipDecided:
    """A person has a failed step count as done, with `output` in its place."""

    path: str
    output: Any = None


@dataclass(frozen=True, slots=True)
class Discarded:
    """A person gives a failed step up for good."""

    path: str


@dataclass(frozen=True, slots=True)
class Reentered:
    """A fallback path is needed that has been begun before. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step has become final: those that need it are told. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Reached:
    """A pending step may be able to start. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Contested:
    """A pending step has both failed and skipped needs. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Drained:
    """A scope may have nothing left to do. Raised by the engine, a chord's body and recovery."""

    path: str


@dataclass(frozen=True, slots=True)
class Refilled:
    """A loop may begin more of its items. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A loop that begins nothing more may have nothing under way. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """All items of a loop have ended: its output is put together. Raised by the engine itself."""

    path: str


@dataclass(frozen=True, slots=True)
class Halted:
    """What lives in a scope is to end, for `reason`. Raised by the engine itself."""

    path: str
    reason: Reason
    only: tuple[str, ...] = ()
    """When given, these steps of the scope and what is inside them; else all of it."""
    by: str = ""
    """The step that has ended the run, if one has."""


Event = (
    Started
    | Forked
    | GivenUp
    | Migrated
    | Claimed
    | Parked
    | Succeeded
    | Failed
    | LeaseExpired
    | RetryDue
    | Answered
    | TimedOut
    | PauseRequested
    | ResumeRequested
    | CancelRequested
    | CompensationRequested
    | CompensationDue
    | Replayed
    | SkipDecided
    | Discarded
    | Reentered
    | Ended
    | Reached
    | Contested
    | Drained
    | Refilled
    | Stopped
    | Gathered
    | Halted
)
