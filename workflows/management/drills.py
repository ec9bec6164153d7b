"""`workflow simulate`: a definition played in memory, with failures where they are asked for.

And with durations: of the runs in the database, or from a file.
"""

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from workflows.catalog import catalog
from workflows.engine.events import StepError
from workflows.engine.plan import Node, Plan
from workflows.engine.stubs import Call, Result, Stub, built_in
from workflows.language import durations
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.language.nearest import did_you_mean
from workflows.language.words import ErrorClass, StepKind
from workflows.management.documents import Compiled
from workflows.management.door import RefusedError
from workflows.selectors.durations import usual_durations
from workflows.testing import Run, Workflow

CODE = "drill.failed"
HISTORY = "history"
"""Where durations come from when it is not a file."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A step, by path or id, whose first attempts (all, if `times` is None) fail."""

    step: str
    error_class: ErrorClass
    times: int | None

    def hits(self, call: Call) -> bool:
        """Say whether the attempt is to fail."""
        named = self.step in {call.path, _id(call.path)}
        return named and (self.times is None or call.attempt <= self.times)


def drill_of(text: str) -> Drill:
    """Read `STEP:CLASS[:TIMES]`."""
    step, _, rest = text.partition(":")
    name, _, times = rest.partition(":")
    if not step or not name:
        message = f"{text!r} is not STEP:CLASS or STEP:CLASS:TIMES, such as fetch:transient:2"
        raise ArgumentTypeError(message)
    classes = [one.value for one in ErrorClass]
    if name not in classes:
        hint = did_you_mean(name, classes, "error classes")
        message = f"{name!r} is no error class; {hint}"
        raise ArgumentTypeError(message)
    if times and not (times.isascii() and times.isdigit() and int(times)):
        message = f"{times!r} is no number of attempts; give 1 or more, or nothing for all"
        raise ArgumentTypeError(message)
    return Drill(step, ErrorClass(name), int(times) if times else None)


def check_drills(drills: Sequence[Drill], plans: Sequence[Plan]) -> None:
    """Refuse a drill that no plan has a task for."""
    nodes = [node for plan in plans for node in plan.nodes]
    for drill in drills:
        found = [node for node in nodes if drill.step in {node.path, node.id}]
        if not any(node.kind is StepKind.TASK for node in found):
            raise RefusedError(f"--fail {drill.step}: {_why_not(drill.step, found, nodes)}")


def failing(drills: Sequence[Drill]) -> Stub:
    """Return what a task does: fail if a drill says so, else what the built-in stub does."""

    def stub(call: Call) -> Result:
        drill = next((drill for drill in drills if drill.hits(call)), None)
        if drill is None:
            return built_in(call)
        return Result(error=StepError(drill.error_class, CODE, "failed as --fail asked"))

    return stub


def inputs_of(compiled: Sequence[Compiled], given: Mapping[str, Any] | None) -> list[Any]:
    """Return the input of each plan with its defaults, or raise InputError for all that misfit."""
    inputs, findings = [], []
    for one in compiled:
        try:
            inputs.append(prepare(one.plan.input_schema, given))
        except InputError as error:
            findings += [
                replace(finding, source=f"{one.file}: input") for finding in error.findings
            ]
    if findings:
        raise InputError(findings)
    return inputs


def durations_of(named: str | None, compiled: Sequence[Compiled]) -> list[Mapping[str, float]]:
    """Return how long the steps of each plan take: as in its runs so far, or as a file says.

    A file may name more than a plan has, if only another of the plans has it.
    """
    if named is None:
        return [{} for _ in compiled]
    if named == HISTORY:
        usual = [usual_durations(one.plan.workflow) for one in compiled]
    else:
        usual = [_durations_in(Path(named))] * len(compiled)
        known = {name for one in compiled for name in _names(one.plan)}
        for name in usual[0]:
            if name not in known:
                hint = did_you_mean(name, known, "steps")
                raise RefusedError(f"--durations {named}: {name}: there is no such step; {hint}")
    return [
        {name: seconds for name, seconds in each.items() if name in _names(one.plan)}
        for each, one in zip(usual, compiled, strict=True)
    ]


def play(  # noqa: PLR0913 - what a dry run can be told, each by its name
    one: Compiled,
    *,
    others: Sequence[Compiled],
    given: Mapping[str, Any],
    variables: Mapping[str, Any] | None,
    drills: Sequence[Drill],
    durations: Mapping[str, float],
    seed: int,
) -> Run:
    """Return the run that the plan makes in memory; child runs are made of the others."""
    return _workflow(one, drills).run(
        input=given,
        children={other.plan.workflow: _workflow(other, drills) for other in others},
        durations=durations,
        env=variables,
        seed=seed,
        assume=True,
    )


def _workflow(one: Compiled, drills: Sequence[Drill]) -> Workflow:
    known = {node.uses for node in one.plan.nodes if node.uses}
    stubs = dict.fromkeys(known, failing(drills)) if drills else {}
    return Workflow(one.plan, one.text, one.file, catalog(), stubs)


def document(run: Run) -> dict[str, Any]:
    """Return a simulated run as JSON: the keys of a stored one, and the way that it took."""
    return {
        **run.simulation.as_dict(),
        "path": list(run.path),
        "compensated": list(run.compensated),
        "compensable": list(run.compensable),
        "irreversible": list(run.irreversible),
    }


def _durations_in(file: Path) -> Mapping[str, float]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RefusedError(f"--durations: the file {file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise RefusedError(f"--durations: {file} must map steps to durations, such as fetch: 30s.")
    return {str(name): _duration(file, name, value) for name, value in values.items()}


def _duration(file: Path, name: object, value: object) -> float:
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise RefusedError(f"{file}: {name}: {error}; {durations.HINT}") from error


def _names(plan: Plan) -> set[str]:
    tasks = [node for node in plan.nodes if node.kind is StepKind.TASK]
    return {name for node in tasks for name in (node.path, node.id, node.uses)}


def _why_not(step: str, found: Sequence[Node], nodes: Sequence[Node]) -> str:
    if found:
        return f"it is a {found[0].kind.value} step, and only a task can be made to fail."
    tasks = {node.id for node in nodes if node.kind is StepKind.TASK}
    return f"there is no such step; {did_you_mean(step, tasks, 'tasks')}"


def _id(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]
