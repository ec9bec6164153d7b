"""All that is known of how a run went, as plain values: what it takes to play it again."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from workflows.engine.plan import NO_LONGER
from workflows.engine.states import RunState, StepState
from workflows.models import ENGINE, Attempt, Incident, Journal, Run, Step
from workflows.models.incident import Resolution
from workflows.selectors.errors import MissingError, SelectorError

MOST_STEPS = 2000
"""A run of more steps is not for a person to read again."""


class TooLongError(SelectorError):
    """The run has more steps than a recording holds."""

    def __init__(self, steps: int) -> None:
        super().__init__(
            f"The run has {steps} steps, and a recording holds at most {MOST_STEPS}. "
            "Record a run with fewer items."
        )


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """A try at a step: how it ended, and after how many seconds since it was queued."""

    number: int
    end: str
    error: Mapping[str, Any] | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A step as it was left, and its tries in order."""

    path: str
    state: str
    output: Any
    arguments: Mapping[str, Any] | None
    attempts: tuple[RecordedAttempt, ...]


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """What a person did to the run, so many seconds after its start, or to a failed step.

    What was done to a step was done so many seconds after its failure.
    """

    word: str
    path: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A run."""

    id: str
    workflow: str
    version: int
    environment: str
    source: str
    input: Mapping[str, Any]
    variables: Mapping[str, Any]
    state: str
    output: Any
    error: Mapping[str, Any] | None
    started_at: datetime
    steps: tuple[RecordedStep, ...]
    ended: tuple[str, ...]
    """The paths of the steps that were completed or failed, in the order in which they were."""
    acts: tuple[RecordedAct, ...] = field(default=())


def recording_of(run_id: UUID) -> Recording:
    """Return how a run went. Raises `MissingError` and `TooLongError`."""
    known = Run.objects.select_related("workflow", "version", "environment")
    run = known.filter(pk=run_id).first()
    if run is None:
        raise MissingError("run", str(run_id))
    count = Step.objects.filter(run=run_id).count()
    if count > MOST_STEPS:
        raise TooLongError(count)
    journal = list(Journal.objects.filter(run=run_id).order_by("id"))
    began = run.started_at or run.created_at
    ends = {StepState.COMPLETED, StepState.FAILED}
    kept = Step.objects.filter(run=run_id).exclude(node=NO_LONGER)
    paths = dict(kept.values_list("pk", "path"))
    return Recording(
        id=str(run.pk),
        workflow=run.workflow.name,
        version=run.version.number,
        environment=run.environment.name,
        source=run.version.source,
        input=run.input,
        variables=run.environment.variables,
        state=run.state,
        output=run.output,
        error=run.error,
        started_at=began,
        steps=tuple(_steps(run_id, journal)),
        ended=tuple(
            paths[line.step_id] for line in journal if line.step_id in paths and line.after in ends
        ),
        acts=tuple(_acts(run_id, journal, began)),
    )


def _steps(run_id: UUID, journal: list[Journal]) -> Iterator[RecordedStep]:
    was_held = any(line.after == RunState.PAUSED for line in journal)
    queued = {
        (line.step_id, line.attempt): line.at
        for line in journal
        if line.step_id is not None and line.after == StepState.QUEUED and not was_held
    }
    tries: dict[UUID, list[Attempt]] = defaultdict(list)
    for attempt in Attempt.objects.filter(step__run=run_id).order_by("number"):
        tries[attempt.step_id].append(attempt)
    kept = Step.objects.filter(run=run_id).exclude(node=NO_LONGER)
    for step in kept.order_by("node", "path"):
        yield RecordedStep(
            step.path,
            step.state,
            step.output,
            step.arguments,
            tuple(
                RecordedAttempt(one.number, one.end, one.error, _seconds(one, queued))
                for one in tries[step.pk]
            ),
        )


def _seconds(attempt: Attempt, queued: Mapping[tuple[UUID, int], datetime]) -> float:
    was_queued = queued.get((attempt.step_id, attempt.number))
    began = was_queued or attempt.started_at or attempt.finished_at
    return round(max((attempt.finished_at - began).total_seconds(), 0.0), 3)


_WORDS: Mapping[str, str] = {
    Resolution.REPLAYED: "replay",
    Resolution.SKIPPED: "skip",
    Resolution.DISCARDED: "discard",
}


def _acts(run_id: UUID, journal: list[Journal], began: datetime) -> Iterator[RecordedAct]:
    def since(moment: datetime) -> float:
        return round((moment - began).total_seconds(), 3)

    for line in journal:
        if line.path or line.actor == ENGINE:
            continue
        if line.after == RunState.PAUSED:
            yield RecordedAct("pause", "", since(line.at))
        elif line.before == RunState.PAUSED and line.after == RunState.RUNNING:
            yield RecordedAct("resume", "", since(line.at))
        elif line.after == RunState.CANCELLING:
            yield RecordedAct("cancel", "", since(line.at))
        elif line.after == RunState.COMPENSATING:
            word = "compensate" if line.before == RunState.FAILED else "cancel, compensate"
            yield RecordedAct(word, "", since(line.at))
    for incident in Incident.objects.filter(run=run_id, resolution__in=list(_WORDS)).order_by("id"):
        if incident.resolved_at is not None:
            word = _WORDS[incident.resolution]
            seconds = (incident.resolved_at - incident.opened_at).total_seconds()
            yield RecordedAct(word, incident.path, round(max(seconds, 0.0), 3))
