"""Runs as workers would have made them: claimed and recorded through the services."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, User
from django.utils import timezone

from environments.services import ensure_default
from workflows.engine.events import Failed, StepError, Succeeded
from workflows.engine.states import StepState
from workflows.language.words import ErrorClass
from workflows.models import Incident, Run, Step
from workflows.services.claiming import claim_step
from workflows.services.definitions import apply_definition
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import start_run
from workflows.services.work import Taker, Work

PASSWORD = "a long enough password"
TAKER = Taker(worker="worker-1", queue="env.default.default")

TWO_STEPS = """
workflow: two-steps
description: A short one, for tests.
input:
  type: object
  required: [name]
  properties:
    name: {type: string, description: Whom to greet.}
    times: {type: integer, minimum: 1, maximum: 9, default: 2}
    polite: {type: boolean, default: true}
    lines: {type: array, items: {type: string}}
retry: {max_attempts: 1}
steps:
  - {id: fetch, uses: log, with: {message: "${{ input.name }}"}}
  - {id: store, uses: log, with: {message: stored}}
"""


def permanent(code: str = "http.404", message: str = "The order is not there.") -> StepError:
    """Return an error that no retry mends."""
    return StepError(ErrorClass.PERMANENT, code, message, details={"status": 404})


def started(text: str = TWO_STEPS, **given: Any) -> Run:
    """Apply the definition, start it, and return the run as it is stored."""
    ensure_default()
    version = apply_definition(text=text, source="test", by="command:test").version
    values = given or {"name": "Ann"}
    run = start_run(workflow=version.workflow.name, input=values, by="person:ann").run
    return Run.objects.get(pk=run.pk)


def _claimed(run_id: UUID) -> Work | None:
    queued = Step.objects.filter(run_id=run_id, state=StepState.QUEUED.value).order_by("node")
    step = queued.first()
    if step is None:
        return None
    facts = {"path": step.path, "attempt": step.attempt, "taker": TAKER, "now": timezone.now()}
    return claim_step(pin=pinned(run_id), **facts)


def worked_off(
    run_id: UUID, outcomes: Mapping[str, Any] | None = None, *, steps: int = 1000
) -> Run:
    """Carry out what is queued: a step in `outcomes` ends so, others give their path."""
    for _ in range(steps):
        work = _claimed(run_id)
        if work is None:
            break
        end = (outcomes or {}).get(work.path, {"did": work.path})
        outcome = (
            Failed(work.path, work.attempt, end)
            if isinstance(end, StepError)
            else Succeeded(work.path, work.attempt, end)
        )
        record_outcome(work=work, outcome=outcome, taker=TAKER, run_on=False, now=timezone.now())
    return Run.objects.get(pk=run_id)


def completed(text: str = TWO_STEPS, **given: Any) -> Run:
    """Return a run that has come to its end."""
    return worked_off(started(text, **given).pk)


def failed(text: str = TWO_STEPS, *, at: str = "fetch", **given: Any) -> Run:
    """Return a run of which a step has failed for good."""
    return worked_off(started(text, **given).pk, {at: permanent()})


def incident_of(run: Run) -> Incident:
    """Return the open incident of a run."""
    return Incident.objects.get(run=run, resolution="")


def person(role: str, name: str = "ann") -> User:
    """Return a member of staff with one role; `root` may do everything."""
    users = get_user_model().objects
    if role == "root":
        return users.create_superuser(name, password=PASSWORD)
    user = users.create_user(name, password=PASSWORD, is_staff=True)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user
