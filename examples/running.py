"""Run an example from the command line: apply its definition, start it, tell how it goes.

The platform must be running in another terminal: `make run`.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from workflows.models import Run

ENDS_WITHIN = 120.0
LOOKS_EVERY = 0.1


def on_the_platform(play: Callable[[], int]) -> int:
    """Set Django up and play the example; say what to do if the platform is not there."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    django.setup()
    from django.conf import settings
    from django.db import OperationalError

    try:
        return play()
    except OperationalError:
        sys.exit(settings.ENV.why_unreachable())


def started(folder: Path, given: Mapping[str, Any], *, by: str) -> "Run":
    """Apply the definition in a folder, start a run of it, and say so."""
    from workflows.services.definitions import apply_definition
    from workflows.services.runs import start_run

    path = folder / "workflow.yaml"
    applied = apply_definition(text=path.read_text(), source=str(path), by=by)
    run = start_run(workflow=applied.version.workflow.name, input=given, by=by).run
    print(f"run {run.pk}")
    return run


def ended(run: "Run", *, meanwhile: Callable[["Run"], None] = lambda _: None) -> "Run":
    """Tell each step as it ends until the run has; `meanwhile` is called at every look."""
    from workflows.models import Journal, Run

    deadline, seen = time.monotonic() + ENDS_WITHIN, 0
    while True:
        run = Run.objects.get(pk=run.pk)
        lines = Journal.objects.filter(run=run.pk, pk__gt=seen).exclude(path="").order_by("pk")
        for line in lines:
            seen = line.pk
            if line.after in TOLD:
                print(f"  {line.after.lower():<20} {line.path}")
        if run.finished_at is not None:
            print(f"{run.state}: {run.output if run.error is None else run.error['message']}")
            return run
        if time.monotonic() > deadline:
            sys.exit(f"It did not end in {ENDS_WITHIN:g} s. Is the platform up? `make run`")
        meanwhile(run)
        time.sleep(LOOKS_EVERY)


TOLD = frozenset({"COMPLETED", "FAILED", "SKIPPED", "CANCELLED", "COMPENSATED", "WAITING"})
"""What is told of a step."""
