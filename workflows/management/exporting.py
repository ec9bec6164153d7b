"""`run export-test`: a stored run as a test that plays it again, without its secrets.

The test is played here before it is handed out, and asserts what then holds: the whole path where
times could be met, else what was carried out. A run that cannot be played as it went is refused.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pprint import pformat
from typing import Any

import yaml

from workflows.catalog import RepeatCatalog
from workflows.engine.decision import AttemptEnd
from workflows.engine.events import Repeat
from workflows.engine.plan import Node, Plan
from workflows.engine.states import FINISHED_RUNS, RunState, StepState
from workflows.language.findings import LanguageError
from workflows.language.words import StepKind
from workflows.management.door import RefusedError
from workflows.management.redaction import Redaction
from workflows.selectors.recordings import RecordedAct, RecordedAttempt, RecordedStep, Recording
from workflows.testing import Run, Workflow
from workflows.testing import acts as words
from workflows.testing.stubs import Script, attempts, fails, lost_worker, never, returns

ASKED = frozenset({StepKind.APPROVAL, StepKind.CALLBACK, StepKind.EVENT, StepKind.WORKFLOW})
"""Kinds besides tasks that a stub may speak for."""

WIDTH = 96


@dataclass(frozen=True, slots=True)
class Told:
    """What a stub says of one attempt, as code and as the thing itself."""

    code: str
    script: Script


@dataclass(frozen=True, slots=True)
class Facts:
    """What the test is made of, without secrets."""

    recording: Recording
    stubs: Mapping[str, tuple[Told, ...]]
    repeat: Mapping[str, str]
    bare: tuple[str, ...]
    """Steps whose `output` was at work already in what is known of them."""


def test_of(recording: Recording, *, catalog: RepeatCatalog, now: datetime) -> str:
    """Return the text of a test that plays the run again, and passes."""
    if recording.state not in FINISHED_RUNS:
        raise RefusedError(
            f"The run {recording.id} is {recording.state}. Only a run that has ended can be a test."
        )
    redaction = Redaction()
    clean = _redacted(recording, redaction)
    workflow = _workflow(clean)
    facts = _facts(clean, workflow.plan, catalog)
    run = _played(facts, workflow)
    return _text(facts, run, secrets=len(redaction), now=now)


def _redacted(recording: Recording, redaction: Redaction) -> Recording:
    known = [recording.input, recording.variables, recording.output, recording.error]
    known += [[step.output, step.arguments] for step in recording.steps]
    known += [one.error for step in recording.steps for one in step.attempts]
    redaction.learn(yaml.safe_load(recording.source))
    redaction.learn(known)
    return replace(
        recording,
        source=redaction.text(recording.source),
        input=redaction.clean(recording.input),
        variables=redaction.clean(recording.variables),
        output=redaction.clean(recording.output),
        error=redaction.clean(recording.error),
        steps=tuple(
            replace(
                step,
                output=redaction.clean(step.output),
                arguments=redaction.clean(step.arguments),
                attempts=tuple(
                    replace(one, error=redaction.clean(one.error)) for one in step.attempts
                ),
            )
            for step in recording.steps
        ),
    )


def _workflow(recording: Recording) -> Workflow:
    try:
        return Workflow.parse(recording.source, source=_name(recording))
    except LanguageError as error:
        raise RefusedError(f"The definition cannot be read any more:\n{error}") from error


def _facts(recording: Recording, plan: Plan, catalog: RepeatCatalog) -> Facts:
    stubs = {}
    for step in recording.steps:
        node = plan.node(step.path)
        told = tuple(_told(step, node)) if _speaks(node) else ()
        if told:
            stubs[step.path] = told
    types = {node.uses for node in plan.nodes if node.uses}
    repeats = {uses: catalog.repeat(uses) for uses in sorted(types)}
    return Facts(
        recording,
        stubs,
        {uses: word.value for uses, word in repeats.items() if word is not Repeat.FREELY},
        tuple(node.id for node in plan.nodes if _speaks(node) and node.output is not None),
    )


def _speaks(node: Node) -> bool:
    """Say whether a stub is to speak for the step."""
    return node.kind in ASKED or node.kind is StepKind.TASK


def _told(step: RecordedStep, node: Node) -> Iterator[Told]:
    known = {one.number: one for one in step.attempts}
    for number in range(1, max(known, default=0) + 1):
        one = known.get(number)
        yield _never() if one is None else _attempt(step, node, one)
    if step.state == StepState.CANCELLED:
        yield _never()


def _attempt(step: RecordedStep, node: Node, one: RecordedAttempt) -> Told:
    seconds = one.seconds
    match one.end:
        case AttemptEnd.COMPLETED:
            if node.timeout is not None:
                seconds = min(seconds, node.timeout)
            code = f"returns({_literal(step.output, 8)}, takes={seconds})"
            return Told(code, returns(step.output, takes=seconds))
        case AttemptEnd.LOST:
            return Told(f"lost_worker(takes={seconds})", lost_worker(takes=seconds))
        case AttemptEnd.CANCELLED:
            return _never()
    error: Mapping[str, Any] = one.error or {}
    if error.get("class") == "timeout" and node.kind in ASKED:
        return _never()
    if node.timeout is not None and error.get("class") != "timeout":
        seconds = min(seconds, node.timeout)
    parts: dict[str, Any] = {
        key: error[key] for key in ("code", "message", "details") if error.get(key)
    }
    error_class = error.get("class", "transient")
    shown = ", ".join(f"{name}={_literal(value, 12)}" for name, value in parts.items())
    code = f"fails({error_class!r}, {shown}, takes={seconds})"
    return Told(code, fails(error_class, **parts, takes=seconds))


def _never() -> Told:
    return Told("never()", never())


def _played(facts: Facts, workflow: Workflow) -> Run:
    """Play the run and return what became of it, if that is what had become of it."""
    recording = facts.recording
    try:
        run = workflow.bare(*facts.bare).run(
            *(_act(act, recording) for act in recording.acts),
            input=recording.input,
            stubs={
                path: attempts(*(one.script for one in told)) for path, told in facts.stubs.items()
            },
            env=recording.variables,
            repeat=facts.repeat,
            facts=_run_facts(recording),
            start=recording.started_at,
        )
    except LanguageError as error:
        raise RefusedError(
            f"The input does not fit any more, perhaps for what was redacted in it:\n{error}"
        ) from error
    differences = "".join(f"  {line}\n" for line in _differences(recording, run))
    if differences:
        raise RefusedError(
            f"The run {recording.id} cannot be played again as it went:\n{differences}"
            f"This is what came of it:\n{run.story()}"
        )
    return run


def _act(act: RecordedAct, recording: Recording) -> words.Command:
    if not act.path:
        return TO_RUNS[act.word](act.seconds)
    step = _step(recording, act.path)
    match act.word:
        case "skip":
            return words.skip(act.path, after=act.seconds, output=step.output)
        case "discard":
            return words.discard(act.path, after=act.seconds)
    return words.replay(act.path, after=act.seconds, arguments=step.arguments)


TO_RUNS: Mapping[str, Callable[[float], words.Command]] = {
    "pause": lambda at: words.pause(at=at),
    "resume": lambda at: words.resume(at=at),
    "cancel": lambda at: words.cancel(at=at),
    "compensate": lambda at: words.compensate(at=at),
    "cancel, compensate": lambda at: words.cancel(at=at, compensate=True),
}
"""What people do to runs."""


def _act_code(act: RecordedAct, recording: Recording) -> str:
    word, undoes, _ = act.word.partition(", ")
    if not act.path:
        return f"{word}(at={act.seconds}{', compensate=True' if undoes else ''})"
    step, more = _step(recording, act.path), ""
    if act.word == "skip":
        more = f", output={_literal(step.output, 8)}"
    if act.word == "replay" and step.arguments is not None:
        more = f", arguments={_literal(step.arguments, 8)}"
    return f"{act.word}({act.path!r}, after={act.seconds}{more})"


def _step(recording: Recording, path: str) -> RecordedStep:
    return next(step for step in recording.steps if step.path == path)


def _run_facts(recording: Recording) -> dict[str, Any]:
    return {
        "id": recording.id,
        "version": recording.version,
        "environment": recording.environment,
    }


def _differences(recording: Recording, run: Run) -> Iterator[str]:
    if run.state != recording.state:
        yield f"the run was {recording.state} and is {run.state.value}"
    states = _states(run)
    for step in recording.steps:
        now = states.pop(step.path, "not there")
        if now != step.state:
            yield f"{step.path} was {step.state} and is {now}"
    yield from (f"{path} was not there" for path in states)
    if run.output != recording.output:
        yield f"the output was {recording.output!r} and is {run.output!r}"


def _states(run: Run) -> dict[str, str]:
    return {path: step.state.value for path, step in run.steps.items()}


def _text(facts: Facts, run: Run, *, secrets: int, now: datetime) -> str:
    recording = facts.recording
    scripts = [_act_code(act, recording) for act in recording.acts]
    stubs = "\n".join(f"    {path!r}: {_stub(told)}," for path, told in facts.stubs.items())
    arguments = ["*ACTS"] if scripts else []
    arguments += ["input=INPUT", "stubs=STUBS"]
    if _reads_environment(run.simulation.plan):
        arguments.append("env=ENV")
    if facts.repeat:
        arguments.append(f"repeat={_literal(facts.repeat, 8)}")
    arguments.append(f"facts={_literal(_run_facts(recording), 8)}")
    arguments.append(f"start=datetime.fromisoformat({recording.started_at.isoformat()!r})")
    bare = f".bare({', '.join(map(repr, facts.bare))})" if facts.bare else ""
    body = "\n".join(f"        {argument}," for argument in arguments)
    parts = [
        _head(recording, secrets, now),
        _imports(stubs, scripts),
        f"DEFINITION = {_block(recording.source)}",
        f"INPUT = {_literal(recording.input, 0)}",
    ]
    if "env=ENV" in arguments:
        parts.append(f"ENV = {_literal(recording.variables, 0)}")
    parts.append(f"STUBS = {{\n{stubs}\n}}" if stubs else "STUBS = {}")
    if scripts:
        parts.append("ACTS = [\n" + "\n".join(f"    {one}," for one in scripts) + "\n]")
    states = _literal(_states(run), 4)
    made = f"Workflow.parse(DEFINITION, source={_name(recording)!r}){bare}"
    parts.append(
        f"\ndef test_the_run_goes_as_it_went() -> None:\n"
        f"    workflow = {made}\n\n"
        f"    run = workflow.run(\n{body}\n    )\n\n"
        f"    assert run.state == {recording.state!r}\n"
        f"{_path(recording, run)}"
        f"    assert {{path: step.state for path, step in run.steps.items()}} == {states}\n"
        f"{_end(recording, run)}"
    )
    return "\n\n".join(parts)


def _head(recording: Recording, secrets: int, now: datetime) -> str:
    redacted = f"{secrets} values that looked secret are" if secrets else "No value looked secret"
    said = f"{redacted} placeholders." if secrets else f"{redacted}."
    return (
        f'"""The run {recording.id} of {_name(recording)}, as it went.\n\n'
        f"Exported on {now:%Y-%m-%d} by `manage.py run export-test`. {said}\n"
        '"""'
    )


def _imports(stubs: str, scripts: list[str]) -> str:
    code = "\n".join([stubs, *scripts])
    known = [
        "attempts",
        "cancel",
        "compensate",
        "discard",
        "fails",
        "lost_worker",
        "never",
        "pause",
        "replay",
    ]
    known += ["resume", "returns", "skip"]
    used = [name for name in known if re.search(rf"\b{name}\(", code)]
    names = ", ".join(["Workflow", *used])
    return f"from datetime import datetime\n\nfrom workflows.testing import {names}"


def _path(recording: Recording, run: Run) -> str:
    """Hold the test to the order of the run, where that came out the same in virtual time."""
    blocks = {one.path for one in run.steps.values() if one.path not in run.path}
    went = tuple(path for path in recording.ended if path not in blocks)
    if went == run.path:
        names = "".join(f"        {path!r},\n" for path in went)
        return f"    run.assert_path(\n{names}    )\n" if went else "    run.assert_path()\n"
    names = "".join(f"        {path!r},\n" for path in sorted(set(run.path)))
    return f"    run.assert_ran(\n{names}    )\n" if names else ""


def _end(recording: Recording, run: Run) -> str:
    if recording.state == RunState.FAILED and run.error is not None:
        return (
            f"    assert run.error is not None\n    assert run.error.code == {run.error.code!r}\n"
        )
    return f"    assert run.output == {_literal(recording.output, 4)}\n"


def _stub(told: tuple[Told, ...]) -> str:
    if len(told) == 1:
        return told[0].code
    inner = "".join(f"        {one.code},\n" for one in told)
    return f"attempts(\n{inner}    )"


def _reads_environment(plan: Plan) -> bool:
    return any("env" in (node.inline | node.call | node.yields).roots for node in plan.nodes)


def _name(recording: Recording) -> str:
    return f"{recording.workflow} v{recording.version}"


def _literal(value: Any, indent: int) -> str:
    """Return a value of JSON as Python, over several lines where it is long."""
    plain = json.loads(json.dumps(value))
    shown = pformat(plain, width=WIDTH - indent, sort_dicts=False)
    return shown.replace("\n", "\n" + " " * indent)


def _block(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\\\n{escaped}"""' if escaped.endswith("\n") else f'"""\\\n{escaped}\n"""'
