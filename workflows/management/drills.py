"""`workflow simulate`: a definition played in memory, with failures where they are asked for.

And with outputs that are given, and durations: of the runs in the database, or from a file.
"""

from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from workflows.catalog import catalog
from workflows.engine import approving
from workflows.engine.plan import Node, Plan
from workflows.engine.stubs import Call
from workflows.language import durations
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.language.nearest import did_you_mean
from workflows.language.words import ErrorClass
from workflows.management.documents import Compiled
from workflows.management.door import RefusedError
from workflows.selectors.durations import usual_durations
from workflows.testing import Run, Workflow, fails
from workflows.testing.names import SPOKEN_FOR, asked_of
from workflows.testing.stubs import Script

CODE = "drill.failed"
SAID = "failed as --fail asked"
AS_IT_IS = Script(())
"""A script that is over before it begins: the step does what it does without one."""

HISTORY = "history"
"""Where durations come from when it is not a file."""


@dataclass(frozen=True, slots=True)
class Drill:
    """A step, by path or id, whose first attempts (all, if `times` is None) fail.

    With a code of its own the class is the one that the task type declares for it.
    """

    step: str
    error_class: ErrorClass | None
    times: int | None
    code: str = CODE

    def hits(self, call: Call) -> bool:
        """Say whether the attempt is to fail."""
        named = self.step in {call.path, _id(call.path)}
        return named and (self.times is None or call.attempt <= self.times)

    def failure(self, call: Call) -> Script:
        """Return how the attempt fails."""
        if self.code == approving.REJECTED:
            told = approving.rejection(call.path, by="", note=SAID)
            return fails(
                told.error_class, code=told.code, message=told.message, details=told.details
            )
        is_late = self.code.endswith(".timeout")
        known = ErrorClass.TIMEOUT if is_late and self.error_class is None else self.error_class
        return fails(known, code=self.code, message=SAID)


def drill_of(text: str) -> Drill:
    """Read `STEP:CLASS[:TIMES]`, with a class or a dotted code."""
    step, _, rest = text.partition(":")
    name, _, times = rest.partition(":")
    if not step or not name:
        message = f"{text!r} is not STEP:CLASS or STEP:CLASS:TIMES, such as fetch:transient:2"
        raise ArgumentTypeError(message)
    classes = [one.value for one in ErrorClass]
    is_code = "." in name
    if not is_code and name not in classes:
        hint = did_you_mean(name, classes, "error classes")
        message = f"{name!r} is no error class, nor a code such as http.503; {hint}"
        raise ArgumentTypeError(message)
    if times and not (times.isascii() and times.isdigit() and int(times)):
        message = f"{times!r} is no number of attempts; give 1 or more, or nothing for all"
        raise ArgumentTypeError(message)
    many = int(times) if times else None
    if is_code:
        return Drill(step, None, many, name)
    return Drill(step, ErrorClass(name), many)


def check_drills(drills: Sequence[Drill], plans: Sequence[Plan]) -> None:
    """Refuse a drill that no plan has a step for which could fail of itself."""
    nodes = [node for plan in plans for node in plan.nodes]
    for drill in drills:
        found = [node for node in nodes if drill.step in {node.path, node.id}]
        if not any(node.kind in SPOKEN_FOR for node in found):
            raise RefusedError(f"--fail {drill.step}: {_why_not(drill.step, found, nodes)}")


def check_outputs(outputs: Mapping[str, Any], plans: Sequence[Plan]) -> None:
    """Refuse an output of what no plan has."""
    known = {name for plan in plans for name in _names(plan)}
    for name in outputs:
        if name not in known:
            hint = did_you_mean(name, known, "steps")
            raise RefusedError(f"--outputs: {name}: there is no such step; {hint}")


def stubs_of(
    plan: Plan, drills: Sequence[Drill], outputs: Mapping[str, Any]
) -> dict[str, Callable[[Call], Any]]:
    """Return what the steps do that something is said of: fail, or succeed with an output."""
    said = {drill.step for drill in drills} | set(outputs)
    return {
        node.path: partial(_answer, node, drills, outputs)
        for node in plan.nodes
        if node.kind in SPOKEN_FOR and said & _names_of(node)
    }


def _answer(
    node: Node, drills: Sequence[Drill], outputs: Mapping[str, Any], call: Call
) -> Script | Any:
    for drill in drills:
        if drill.hits(call):
            return drill.failure(call)
    names = (node.path, node.id, asked_of(node))
    return next((outputs[name] for name in names if name in outputs), AS_IT_IS)


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
    outputs: Mapping[str, Any],
    durations: Mapping[str, float],
    seed: int,
) -> Run:
    """Return the run that the plan makes in memory; child runs are made of the others."""
    return _workflow(one, drills, outputs).run(
        input=given,
        children={other.plan.workflow: _workflow(other, drills, outputs) for other in others},
        durations=durations,
        env=variables,
        seed=seed,
        assume=True,
    )


def _workflow(one: Compiled, drills: Sequence[Drill], outputs: Mapping[str, Any]) -> Workflow:
    stubs = stubs_of(one.plan, drills, outputs)
    return Workflow(one.plan, one.text, one.file, catalog(), stubs)


def advice_on(run: Run) -> str:
    """Say what a dry run lacked that failed for want of an output; nothing otherwise."""
    errors = [one.error for one in run.steps.values()] + [run.error]
    if not any(one is not None and ".output is null" in one.message for one in errors):
        return ""
    return 'Say what steps yield that nothing is known of: --outputs \'{"STEP": {"key": "value"}}\''


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
        reason = getattr(error, "strerror", None) or error
        raise RefusedError(f"--durations: the file {file} cannot be read: {reason}.") from error
    if not isinstance(values, dict):
        raise RefusedError(f"--durations: {file} must map steps to durations, such as fetch: 30s.")
    return {str(name): _duration(file, name, value) for name, value in values.items()}


def _duration(file: Path, name: object, value: object) -> float:
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise RefusedError(f"{file}: {name}: {error}; {durations.HINT}") from error


def _names(plan: Plan) -> set[str]:
    return {
        name for node in plan.nodes if node.kind in SPOKEN_FOR for name in _names_of(node) if name
    }


def _names_of(node: Node) -> set[str]:
    return {node.path, node.id, asked_of(node)}


def _why_not(step: str, found: Sequence[Node], nodes: Sequence[Node]) -> str:
    if found:
        return f"it is a block ({found[0].kind.value}), which fails when a step inside of it does."
    known = {node.id for node in nodes if node.kind in SPOKEN_FOR}
    return f"there is no such step; {did_you_mean(step, known, 'steps')}"


def _id(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]
