"""`workflow simulate`: a definition played in memory, with failures where they are asked for."""

from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workflows.catalog import catalog
from workflows.engine.events import StepError
from workflows.engine.plan import Node, Plan
from workflows.engine.simulate import Call, Result, Stub, built_in, simulate
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.language.nearest import did_you_mean
from workflows.language.words import ErrorClass, StepKind
from workflows.management.documents import Compiled
from workflows.management.door import RefusedError

CODE = "drill.failed"


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


def play(
    plan: Plan,
    *,
    given: Mapping[str, Any],
    variables: Mapping[str, Any] | None,
    drills: Sequence[Drill],
    seed: int,
) -> dict[str, Any]:
    """Return the run, as JSON, that the plan makes in memory."""
    run = simulate(
        plan,
        stub=failing(drills),
        repeat=catalog().repeat,
        input=given,
        environment=variables,
        seed=seed,
    )
    return run.as_dict()


def _why_not(step: str, found: Sequence[Node], nodes: Sequence[Node]) -> str:
    if found:
        return f"it is a {found[0].kind.value} step, and only a task can be made to fail."
    tasks = {node.id for node in nodes if node.kind is StepKind.TASK}
    return f"there is no such step; {did_you_mean(step, tasks, 'tasks')}"


def _id(path: str) -> str:
    return path.rpartition(".")[2].partition("[")[0]
