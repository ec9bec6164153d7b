"""Incidents: replay, skip or discard the step that needs a person."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from workflows import store
from workflows.catalog import catalog
from workflows.engine.events import Discarded, Drained, Event, Replayed, SkipDecided
from workflows.engine.plan import ROOT
from workflows.engine.states import RunState, StepState
from workflows.language import expressions
from workflows.language.corrections import check_arguments
from workflows.language.words import OnFailure, StepKind
from workflows.models import Incident, Resolution, Run, Version
from workflows.services import concurrency
from workflows.services.errors import (
    InputRefusedError,
    NotFoundError,
    StateRefusedError,
    refuse_unstorable,
)
from workflows.services.flights import once_in_transaction
from workflows.services.patience import patiently
from workflows.services.plans import pinned, plan_of_version
from workflows.services.progress import Progress, advance_run
from workflows.services.report import Report, each


def replay_incident(
    *, incident_id: UUID, arguments: Mapping[str, Any] | None = None, note: str = "", by: str
) -> Incident:
    """Have the step tried again, with corrected arguments if given; the run goes on.

    Raises InputRefusedError, NotFoundError and StateRefusedError.
    """
    if arguments is not None:
        _refuse_arguments(incident_id, arguments)
    return _resolve(
        incident_id, Resolution.REPLAYED, lambda path: Replayed(path, arguments), note=note, by=by
    )


def skip_incident(*, incident_id: UUID, output: Any = None, note: str = "", by: str) -> Incident:
    """Have the step count as done, with `output` in its place; the run goes on.

    Raises InputRefusedError, NotFoundError and StateRefusedError.
    """
    refuse_unstorable("the output", output)
    return _resolve(
        incident_id, Resolution.SKIPPED, lambda path: SkipDecided(path, output), note=note, by=by
    )


def discard_incident(*, incident_id: UUID, note: str, by: str) -> Incident:
    """Give the step up for good, and say why.

    Raises InputRefusedError without a note, NotFoundError and StateRefusedError.
    """
    if not note.strip():
        raise InputRefusedError("An incident is discarded with a note that says why.")
    return _resolve(incident_id, Resolution.DISCARDED, Discarded, note=note, by=by)


def replay_many(*, incident_ids: Iterable[UUID], note: str = "", by: str) -> Report:
    """Replay each incident, and report which could not be."""

    def replay(one: UUID) -> object:
        return replay_incident(incident_id=one, note=note, by=by)

    return _each_or_with_another("Replay", incident_ids, replay, Resolution.REPLAYED, by)


def skip_many(*, incident_ids: Iterable[UUID], note: str = "", by: str) -> Report:
    """Skip the step of each incident, and report which could not be."""

    def skip(one: UUID) -> object:
        return skip_incident(incident_id=one, note=note, by=by)

    return _each_or_with_another("Skip", incident_ids, skip, Resolution.SKIPPED, by)


def discard_many(*, incident_ids: Iterable[UUID], note: str, by: str) -> Report:
    """Discard each incident, and report which could not be."""

    def discard(one: UUID) -> object:
        return discard_incident(incident_id=one, note=note, by=by)

    return _each_or_with_another("Discard", incident_ids, discard, Resolution.DISCARDED, by)


def _each_or_with_another(
    action: str,
    incident_ids: Iterable[UUID],
    do: Callable[[UUID], object],
    resolution: Resolution,
    by: str,
) -> Report:
    """Do it to each; what was resolved so with another of them is done, not refused."""
    began = store.now()

    def once(one: UUID) -> None:
        try:
            do(one)
        except StateRefusedError:
            mine = {"resolution": resolution.value, "resolved_by": by, "resolved_at__gte": began}
            if not patiently(Incident.objects.filter(pk=one, **mine).exists):
                raise

    return each(action, incident_ids, once)


def replay_run(*, run_id: UUID, by: str) -> Report:
    """Replay every open incident of a run; one without, whose time was up, goes on with time anew.

    Raises NotFoundError, and StateRefusedError when there is nothing to replay.
    """
    run = patiently(Run.objects.filter(pk=run_id).values("state", "error").first)
    if run is None:
        raise NotFoundError("run", run_id)
    found = Incident.objects.filter(run_id=run_id, resolution="").order_by("id")
    ids = patiently(lambda: list(found.values_list("pk", flat=True)))
    if not ids and is_out_of_time(**run):
        return each("Replay", [run_id], lambda one: _have_go_on(one, by))
    if not ids:
        raise StateRefusedError(f"The run {run_id} has no open incident, so nothing to replay.")
    return each("Replay", ids, lambda one: _replay_if_open(one, by))


def is_out_of_time(state: str, error: Mapping[str, Any] | None) -> bool:
    """Say whether a run has failed because its own time was up."""
    return state == RunState.FAILED and error is not None and error["code"] == "run.timeout"


def _have_go_on(run_id: UUID, by: str) -> None:
    """Have a run go on from where its time was up."""
    pin = pinned(run_id)

    def work() -> Progress:
        concurrency.hold_for(pin)
        found = advance_run(pin, Replayed(ROOT), now=store.now(), actor=by)
        concurrency.demand_room(pin, found)
        return found

    progress = once_in_transaction(work)
    if not progress.decision.run_moves:
        raise StateRefusedError(f"The run {run_id} goes on already.")


def _replay_if_open(incident_id: UUID, by: str) -> None:
    """Replay an incident, unless the replay of another has resolved it too."""
    if patiently(Incident.objects.filter(pk=incident_id, resolution="").exists):
        replay_incident(incident_id=incident_id, by=by)


def _refuse_arguments(incident_id: UUID, arguments: Mapping[str, Any]) -> None:
    """Raise InputRefusedError for what the step could not be carried out with."""
    refuse_unstorable("the corrected input", arguments)
    row = Incident.objects.filter(pk=incident_id).values_list("path", "run__version_id").first()
    if row is None:
        raise NotFoundError("incident", incident_id)
    path, version_id = row
    node = plan_of_version(version_id).node(path)
    if node.kind not in {StepKind.TASK, StepKind.WORKFLOW}:
        message = f"The step {path} calls no task, so it takes no arguments. Replay it without."
        raise InputRefusedError(message)
    if node.kind is StepKind.WORKFLOW and expressions.references(arguments).roots:
        message = f"Give the child run of {path} the values themselves, without expressions."
        raise InputRefusedError(message)
    source = Version.objects.values_list("source", flat=True).get(pk=version_id)
    if found := check_arguments(source, node.id, arguments, catalog=catalog()):
        reasons = "; ".join(f"{one.path}: {one.message} ({one.hint})" for one in found)
        findings = [one.as_dict() for one in found]
        raise InputRefusedError(f"The step {path} cannot be given this: {reasons}.", findings)


def _resolve(
    incident_id: UUID, resolution: Resolution, decide: Any, *, note: str, by: str
) -> Incident:
    found = Incident.objects.filter(pk=incident_id).values_list("run_id", flat=True)
    run_id = patiently(found.first)
    if run_id is None:
        raise NotFoundError("incident", incident_id)
    return once_in_transaction(
        partial(_resolve_locked, incident_id, run_id, resolution, decide, note, by)
    )


def _resolve_locked(  # noqa: PLR0913, PLR0917 - handed on as it came
    incident_id: UUID, run_id: UUID, resolution: Resolution, decide: Any, note: str, by: str
) -> Incident:
    pin = pinned(run_id)
    concurrency.hold_for(pin)
    incident = Incident.objects.select_for_update().get(pk=incident_id)
    if incident.resolution:
        raise StateRefusedError(
            f"The incident {incident_id} was {incident.resolution} by {incident.resolved_by}"
            " already."
        )
    now = store.now()
    others = Incident.objects.filter(run_id=run_id, resolution="").exclude(pk=incident_id)
    known = list(others.values_list("pk", flat=True))
    event: Event = decide(incident.path)
    progress = advance_run(pin, event, now=now, actor=by)
    concurrency.demand_room(pin, progress)
    if not progress.decision.moves:
        state = progress.held.run.state.value if progress.held else "unknown"
        raise StateRefusedError(
            f"The step {incident.path} of the run {run_id}, which is {state},"
            f" cannot be {resolution.value}. Look at the run's page for what can be done about it."
        )
    incident.resolution, incident.resolved_by = resolution.value, by
    incident.resolved_at, incident.note = now, note
    incident.save(update_fields=["resolution", "resolved_by", "resolved_at", "note"])
    _resolve_others(incident, progress, known)
    if pin.plan.on_failure is OnFailure.PARK:
        advance_run(pin, Drained(ROOT), now=now, actor=by)
    return incident


def _resolve_others(incident: Incident, progress: Progress, known: Sequence[UUID]) -> None:
    """Resolve what of the `known` open incidents this decision has settled too.

    A step that is tried again has no open incident left; nor has a step inside one that
    counts as done or was given up, for nobody could replay it any more.
    """
    others = Incident.objects.filter(pk__in=known, resolution="")
    settled = {"resolved_by": incident.resolved_by, "resolved_at": incident.resolved_at}
    left = {move.after.path for move in progress.decision.moves if move.before is StepState.FAILED}
    others.filter(path__in=left).update(
        resolution=Resolution.REPLAYED.value, note=f"Reopened with {incident.path}.", **settled
    )
    if incident.resolution != Resolution.REPLAYED.value:
        inside = Q(path__startswith=f"{incident.path}.") | Q(path__startswith=f"{incident.path}[")
        others.filter(inside).update(resolution=incident.resolution, note=incident.note, **settled)
