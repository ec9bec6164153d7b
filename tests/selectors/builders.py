"""Builders of rows for the tests of what doors show: real definitions, started by the services."""

from typing import Any

from django.utils import timezone

from environments.services import create_environment, ensure_default, move_environment
from workflows.engine.events import Failed, StepError
from workflows.language.words import ErrorClass
from workflows.models import Incident, Run, Step, Version
from workflows.services.claiming import claim_step
from workflows.services.definitions import apply_definition
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import start_run
from workflows.services.work import Taker

NIGHTLY = """
workflow: nightly
description: Copy and check.
input:
  type: object
  properties: {size: {type: integer, default: 1}}
steps:
  - {id: copy, uses: log, with: {message: copying}}
  - {id: check, uses: log, with: {message: checking}}
"""

KEYS_OF_A_RUN = [
    "id",
    "workflow",
    "version",
    "environment",
    "state",
    "reason",
    "input",
    "output",
    "error",
    "created_at",
    "started_at",
    "finished_at",
    "late_since",
    "parent",
    "waits_for",
    "forked_from",
    "migrations",
    "steps",
]
"""Of a run with its steps, as JSON has it, in their order."""


def a_version(name: str = "nightly", *, message: str = "copying") -> Version:
    """Apply a definition of two steps."""
    text = NIGHTLY.replace("nightly", name).replace("copying", message)
    ensure_default()
    return apply_definition(text=text, source="test", by="person:ann").version


def a_run(name: str = "nightly", *, by: str = "person:ann", **order: Any) -> Run:
    """Start a run of the definition."""
    a_version(name)
    return start_run(workflow=name, by=by, **order).run


def an_environment(name: str) -> None:
    """Create an environment that takes work."""
    create_environment(name=name, by="person:ann")
    move_environment(name=name, state="ACTIVE", by="person:ann")


def an_incident(run: Run, path: str = "copy", *, code: str = "http.503") -> Incident:
    """Put an open incident at a step, without the failure that would open one."""
    return Incident.objects.create(
        run=run,
        step=Step.objects.get(run=run, path=path),
        path=path,
        attempt=1,
        error_class="transient",
        code=code,
        message="The server did not answer.",
    )


def a_failed_run(name: str = "nightly") -> Run:
    """Start a run whose first step fails for good, which opens an incident."""
    run = a_run(name)
    error = StepError(ErrorClass.PERMANENT, "disk.full", "The disk is full.")
    taker, now = Taker("worker-1", "env.default.default"), timezone.now()
    work = claim_step(pin=pinned(run.pk), path="copy", attempt=1, taker=taker, now=now)
    assert work is not None
    failed = Failed("copy", attempt=1, error=error)
    record_outcome(work=work, outcome=failed, taker=taker, run_on=False, now=now)
    run.refresh_from_db()
    return run
