"""The steps of a run, the tries at each, and the journal of them all."""

from collections.abc import Sequence
from uuid import UUID

from django.db.models import QuerySet

from workflows.models import Attempt, Journal, Run, Step
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import OLDEST_FIRST, PAGE, Order, Page, page_of
from workflows.selectors.shapes import (
    AttemptDocument,
    JournalLine,
    StepDocument,
    json_time,
    json_time_or_none,
)

AS_DEFINED = Order(("node", "path"))
BY_NUMBER = Order(("number",))

_SHOWN = (
    "path",
    "state",
    "reason",
    "attempt",
    "output",
    "error",
    "queued_at",
    "started_at",
    "finished_at",
)


def steps(run_id: UUID, *, states: Sequence[str] = ()) -> QuerySet[Step]:
    """Return the steps of a run, those in one of the states if any are given."""
    found = Step.objects.filter(run=run_id)
    return found.filter(state__in=states) if states else found


def list_steps(
    run_id: UUID, *, states: Sequence[str] = (), after: str | None = None, limit: int = PAGE
) -> Page[StepDocument]:
    """Return a page of a run's steps, ordered as in the definition. Raises `MissingError`."""
    must_exist(run_id)
    found = steps(run_id, states=states).only("node", *_SHOWN)
    return page_of(found, AS_DEFINED, after=after, limit=limit).of(step_document)


def step_documents(run_id: UUID) -> list[StepDocument]:
    """Return all steps of a run, ordered as in the definition."""
    found = steps(run_id).only(*_SHOWN).order_by("node", "path")
    return [step_document(step) for step in found.iterator(chunk_size=2000)]


def get_step(run_id: UUID, path: str) -> Step:
    """Return the step of a run. Raises `MissingError`."""
    try:
        return Step.objects.get(run=run_id, path=path)
    except Step.DoesNotExist:
        raise MissingError("step", f"{path} in the run {run_id}") from None


def step_document(step: Step) -> StepDocument:
    """Return a step as the JSON of its run shows it."""
    return {
        "path": step.path,
        "state": step.state,
        "reason": step.reason or None,
        "attempt": step.attempt,
        "output": step.output,
        "error": step.error,
        "queued_at": json_time_or_none(step.queued_at),
        "started_at": json_time_or_none(step.started_at),
        "finished_at": json_time_or_none(step.finished_at),
    }


def list_attempts(
    run_id: UUID, path: str, *, after: str | None = None, limit: int = PAGE
) -> Page[AttemptDocument]:
    """Return a page of the tries at a step, the first one first. Raises `MissingError`."""
    tries = Attempt.objects.filter(step=get_step(run_id, path))
    return page_of(tries, BY_NUMBER, after=after, limit=limit).of(attempt_document)


def attempt_document(attempt: Attempt) -> AttemptDocument:
    """Return a try as JSON."""
    return {
        "number": attempt.number,
        "end": attempt.end,
        "worker": attempt.worker,
        "error": attempt.error,
        "late": attempt.late,
        "started_at": json_time_or_none(attempt.started_at),
        "finished_at": json_time(attempt.finished_at),
    }


def list_journal(
    run_id: UUID, *, path: str | None = None, after: str | None = None, limit: int = PAGE
) -> Page[JournalLine]:
    """Return a page of a run's journal, the oldest line first. Raises `MissingError`.

    With a path: the lines of that step; with the empty path: those of the run itself.
    """
    must_exist(run_id)
    lines = Journal.objects.filter(run=run_id)
    if path is not None:
        lines = lines.filter(path=path)
    return page_of(lines, OLDEST_FIRST, after=after, limit=limit).of(journal_line)


def journal_line(line: Journal) -> JournalLine:
    """Return a line of the journal as JSON."""
    return {
        "id": line.pk,
        "at": json_time(line.at),
        "path": line.path,
        "before": line.before,
        "after": line.after,
        "attempt": line.attempt,
        "reason": line.reason or None,
        "actor": line.actor,
    }


def must_exist(run_id: UUID) -> None:
    """Raise `MissingError` if there is no such run."""
    if not Run.objects.filter(pk=run_id).exists():
        raise MissingError("run", run_id)
