"""Run an example from the command line: apply its definition, start it, tell how it goes.

The platform must be running in another terminal: `make run`. The systems that an example talks to
live in this program and end with it, so Ctrl-C ends the run first, and has it undone where its
definition is a saga.
"""

import contextlib
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from workflows.models import Run

ENDS_WITHIN = 60.0
"""Seconds that a run has to end when it was cancelled."""

TOLD = frozenset({"COMPLETED", "FAILED", "SKIPPED", "CANCELLED", "COMPENSATED", "WAITING"})
"""What is told of a step."""


def parser_of(module: str, what: str) -> ArgumentParser:
    """Return the parser of an example's options."""
    return ArgumentParser(prog=f"python -m {module}", description=what)


def on_the_platform(play: Callable[[], int]) -> int:
    """Set Django up and play the example; what cannot be done is a sentence and a status."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    django.setup()
    from django.conf import settings
    from django.core.management import CommandError
    from django.db import OperationalError

    from workflows.management.door import Exit, refusals

    try:
        with refusals():
            return play()
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.returncode
    except OperationalError:
        print(settings.ENV.why_unreachable(), file=sys.stderr)
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        return Exit.DETACHED


def started(folder: Path, given: Mapping[str, Any], *, by: str) -> "Run":
    """Apply the definition in a folder, start a run of it, and say so."""
    from workflows.services.definitions import apply_definition
    from workflows.services.runs import start_run

    path = folder / "workflow.yaml"
    applied = apply_definition(text=path.read_text(), source=str(path), by=by)
    run = start_run(workflow=applied.version.workflow.name, input=given, by=by).run
    print(f"run {run.pk} of {run.version}")
    return run


def ended(run: "Run", *, meanwhile: Callable[[], None] = lambda: None) -> "Run":
    """Tell each step as it ends until the run has; `meanwhile` is called at every look.

    Raises CommandError after Ctrl-C, when the run was cancelled.
    """
    from django.core.management import CommandError
    from rich.console import Console

    from workflows.management.watching import follow
    from workflows.models import Run

    view, errors = _view_of(run, meanwhile), Console(stderr=True)
    try:
        follow(run.pk, view, errors=errors, timeout=None)
    except CommandError as left:
        _cancel(run)
        follow(run.pk, view, errors=errors, timeout=ENDS_WITHIN)
        state = Run.objects.values_list("state", flat=True).get(pk=run.pk)
        raise CommandError(f"The run is {state}.", returncode=left.returncode) from None
    run = Run.objects.get(pk=run.pk)
    print(f"{run.state}: {run.output if run.error is None else run.error['message']}")
    return run


def _view_of(run: "Run", meanwhile: Callable[[], None]) -> Any:
    from workflows.management.watching import Feed, Silence

    feed = Feed(run.pk, from_the_start=True)

    class Telling(Silence):
        """A line for each step that has ended, or waits."""

        def update(self) -> None:
            for line in feed.read():
                if line.path and line.after in TOLD:
                    why = f" ({line.reason})" if line.reason else ""
                    print(f"  {line.after.lower():<11} {line.path}{why}", flush=True)
            meanwhile()

    return Telling()


def _cancel(run: "Run") -> None:
    from workflows.services.errors import StateRefusedError
    from workflows.services.runs import cancel_run

    print("Cancelling the run, for the systems that it talks to end with this program.")
    is_saga = run.version.document.get("on_failure") == "compensate"
    with contextlib.suppress(StateRefusedError):
        cancel_run(run_id=run.pk, compensate=is_saga, by=run.started_by)
