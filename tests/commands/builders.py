"""Commands as an operator gives them, here or in a process of their own; things to try them on."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command
from django.utils import timezone

from environments.services import ensure_default
from workflows.engine.events import Failed, StepError, Succeeded
from workflows.language.words import ErrorClass
from workflows.models import Incident, Run
from workflows.services.claiming import claim_step
from workflows.services.definitions import apply_definition
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import start_run
from workflows.services.work import Taker

HERE = Path(__file__).parent

INLINE = """
workflow: inline
input: {type: object, properties: {size: {type: integer, default: 1}}}
steps:
  - {id: double, set: {size: "${{ input.size * 2 }}"}}
  - {id: enough, exit: {when: "${{ vars.size > 10 }}", status: failed}}
output: {size: "${{ vars.size }}"}
"""
"""Ends by itself, without a worker: COMPLETED up to size 5, FAILED beyond."""

COPY = """
workflow: copy
steps:
  - {id: fetch, uses: log, with: {message: fetching}}
  - {id: check, uses: log, with: {message: checking}}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command gave back."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def manage(*arguments: object) -> Answer:
    """Give a command in this process."""
    out, err = StringIO(), StringIO()
    try:
        call_command(*map(str, arguments), stdout=out, stderr=err)
    except CommandError as error:
        return Answer(error.returncode, out.getvalue(), f"{err.getvalue()}{error}")
    return Answer(0, out.getvalue(), err.getvalue())


def manage_apart(*arguments: object, stdin: str = "", **env: str) -> Answer:
    """Give a command in a process of its own."""
    return _ran(arguments, env, input=stdin)


def _ran(arguments: tuple[object, ...], env: dict[str, str], **stdin: Any) -> Answer:
    done = subprocess.run(
        [sys.executable, "manage.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | env,
        cwd=HERE.parent.parent,
        **stdin,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def manage_on_terminal(*arguments: object, types: str, **env: str) -> Answer:
    """Give a command in a process of its own, whose stdin is a terminal where somebody types."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, types.encode())
    try:
        return _ran(arguments, env, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)


def saved(folder: Path, text: str, name: str = "workflow.yaml") -> Path:
    """Write a definition to a file."""
    path = folder / name
    path.write_text(text)
    return path


def applied(text: str) -> None:
    """Store a definition."""
    ensure_default()
    apply_definition(text=text, source="test", by="person:ann")


def a_run(text: str = COPY, **order: Any) -> Run:
    """Apply a definition and start a run of it; no worker takes its steps."""
    applied(text)
    name = text.split("workflow: ", 1)[1].split("\n", 1)[0]
    return start_run(workflow=name, by="person:ann", **order).run


def a_finished_run(text: str, *, seconds: float, **order: Any) -> Run:
    """Have a run of tasks one after the other end well, each after so many seconds."""
    run = a_run(text, **order)
    taker = Taker("worker-1", "env.default.default")
    now = timezone.now()
    for step in list(run.steps.order_by("node")):
        pin = pinned(run.pk)
        work = claim_step(pin=pin, path=step.path, attempt=1, taker=taker, now=now)
        assert work is not None
        now += timedelta(seconds=seconds)
        outcome = Succeeded(step.path, 1, {"of": step.path})
        record_outcome(work=work, outcome=outcome, taker=taker, run_on=False, now=now)
    run.refresh_from_db()
    return run


def an_incident(message: str = "The disk is full.") -> Incident:
    """Have the first step of a run fail for good."""
    run = a_run()
    taker = Taker("worker-1", "env.default.default")
    now = timezone.now()
    work = claim_step(pin=pinned(run.pk), path="fetch", attempt=1, taker=taker, now=now)
    assert work is not None
    error = StepError(ErrorClass.PERMANENT, "disk.full", message)
    outcome = Failed("fetch", 1, error)
    record_outcome(work=work, outcome=outcome, taker=taker, run_on=False, now=now)
    return Incident.objects.get(run=run)
