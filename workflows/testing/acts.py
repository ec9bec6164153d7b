"""What happens to a run from outside in a test, and when: what operators, people and systems do.

`at` counts from the start of the run. `after` counts from when it is called for: from the failure
that is replayed, skipped or discarded, or from when the step that is answered begins to wait.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from workflows.engine.events import (
    CancelRequested,
    CompensationRequested,
    Discarded,
    Event,
    PauseRequested,
    Replayed,
    ResumeRequested,
    SkipDecided,
    StepError,
)
from workflows.engine.plan import ROOT
from workflows.engine.states import Reason
from workflows.language.words import ErrorClass
from workflows.testing.errors import KitError
from workflows.testing.stubs import Duration, seconds_of


@dataclass(frozen=True, slots=True)
class When:
    """So many seconds since the start of the run, or since it is called for."""

    seconds: float
    is_relative: bool


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator asks of the run or of a step."""

    said: str
    step: str
    when: When
    event: Callable[[str, StepError | None], Event]
    """What the run hears, told the path that is meant and why the run has failed, if it has."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What comes for a step that waits for it; what comes early is kept."""

    said: str
    step: str
    when: When
    kind: Reason
    output: Any = None
    error: StepError | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """An event for whichever runs wait for it."""

    said: str
    when: When
    envelope: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Vote:
    """What a person says of the request that a step waits with."""

    said: str
    step: str
    when: When
    by: str
    is_yes: bool
    note: str = ""
    form: Mapping[str, Any] | None = None


Act = Command | Reply | Publication | Vote


def approve(  # noqa: PLR0913 - the parts of a vote, each by its name
    step: str,
    *,
    by: str = "ann",
    note: str = "",
    form: Mapping[str, Any] | None = None,
    at: Duration | None = None,
    after: Duration | None = None,
) -> Vote:
    """Have a person approve what a step asks for, with the form filled in."""
    return Vote(f"approve by {by}", step, when_of("approve", at, after), by, True, note, form)


def reject(
    step: str,
    *,
    by: str = "ann",
    note: str = "",
    at: Duration | None = None,
    after: Duration | None = None,
) -> Vote:
    """Have a person reject what a step asks for."""
    return Vote(f"reject by {by}", step, when_of("reject", at, after), by, False, note)


def callback(
    step: str, body: Any = None, *, at: Duration | None = None, after: Duration | None = None
) -> Reply:
    """Have the URL of a step that waits for a callback called with a body."""
    return Reply("callback", step, when_of("callback", at, after), Reason.CALLBACK, body)


def event(  # noqa: PLR0913 - the parts of an event, each by its name
    type: str,  # noqa: A002 - the event's own word
    data: Any = None,
    *,
    at: Duration | None = None,
    after: Duration | None = None,
    id: str | None = None,  # noqa: A002 - as above
    source: str = "test",
    **attributes: Any,
) -> Publication:
    """Have an event published; without a time, as soon as a step waits for one of its type.

    The same `id` from the same `source` is the same event, and comes once.
    """
    known = {"type": type, "data": data, "source": source, **attributes}
    known["id"] = id if id is not None else f"{type}-{next(_NUMBERS)}"
    return Publication(f"event {type}", when_of("event", at, after), known)


_NUMBERS = count(1)


def pause(*, at: Duration) -> Command:
    """Have the run held."""
    return Command("pause", ROOT, _at(at), lambda *_: PauseRequested())


def resume(*, at: Duration) -> Command:
    """Have a run that is held go on."""
    return Command("resume", ROOT, _at(at), lambda *_: ResumeRequested())


def cancel(*, at: Duration, compensate: bool = False) -> Command:
    """Have the run cancelled; with `compensate`, undone as well."""
    return Command("cancel", ROOT, _at(at), lambda *_: CancelRequested(undo=compensate))


def compensate(*, at: Duration | None = None, after: Duration | None = None) -> Command:
    """Have a failed run undone."""
    when = when_of("compensate", at, after)
    return Command("compensate", ROOT, when, lambda _, error: CompensationRequested(error or _NONE))


_NONE = StepError(ErrorClass.PERMANENT, "run.failed", "the run failed")


def replay(
    step: str = ROOT,
    *,
    at: Duration | None = None,
    after: Duration | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Command:
    """Have a failed step tried again, with corrected arguments if given; or all that failed."""
    when = when_of("replay", at, after)
    return Command("replay", step, when, lambda path, _: Replayed(path, arguments))


def skip(
    step: str, *, at: Duration | None = None, after: Duration | None = None, output: Any = None
) -> Command:
    """Have a failed step count as done, with an output in its place."""
    when = when_of("skip", at, after)
    return Command("skip", step, when, lambda path, _: SkipDecided(path, output))


def discard(step: str, *, at: Duration | None = None, after: Duration | None = None) -> Command:
    """Have a failed step given up for good."""
    when = when_of("discard", at, after)
    return Command("discard", step, when, lambda path, _: Discarded(path))


def when_of(said: str, at: Duration | None, after: Duration | None) -> When:
    """Read when something happens: by `at` or by `after`; by neither, as soon as it can."""
    if at is not None and after is not None:
        raise KitError(f"{said}: it happens at a time, or after one; give at= or after=, not both.")
    return When(seconds_of(after or 0), is_relative=True) if at is None else _at(at)


def _at(duration: Duration) -> When:
    return When(seconds_of(duration), is_relative=False)
