"""Is every step one thing, with an id of its own and the keys that go with it?"""

import json
from collections.abc import Mapping

from workflows.language import moments, syntax
from workflows.language.document import Node
from workflows.language.limits import LARGEST_VALUE
from workflows.language.outline import LOOPS, Outline, Step, kinds_of
from workflows.language.spec import KIND_KEYS
from workflows.language.tokens import RESERVED
from workflows.language.words import StepKind as Kind

MOST_STEPS = 10_000
_TAKEN = RESERVED | frozenset(
    {"index", "input", "vars", "steps", "env", "secrets", "run", "event", "error"}
)

_BLOCKS = frozenset(
    {Kind.PARALLEL, Kind.FIRST, Kind.STATES, Kind.STEPS, Kind.SWITCH, Kind.FOREACH, Kind.REPEAT}
)
_WORKING = frozenset(Kind) - {Kind.SET, Kind.EXIT}
_CALLS = frozenset({Kind.TASK, Kind.WORKFLOW})
_FOREACH = frozenset({Kind.FOREACH})
KEYS_OF: Mapping[str, frozenset[Kind]] = {
    "with": _CALLS,
    "environment": _CALLS,
    "retry": frozenset({Kind.TASK}),
    "version": frozenset({Kind.WORKFLOW}),
    "class": frozenset({Kind.TASK}),
    "idempotent": frozenset({Kind.TASK}),
    "irreversible": _CALLS,
    "profile": frozenset({Kind.TASK}),
    "guard": frozenset({Kind.TASK}),
    "compensate": _WORKING,
    "catch": _WORKING,
    "timeout": _WORKING,
    "output": _WORKING,
    "optional": frozenset(Kind) - {Kind.EXIT},
    "fail_fast": _BLOCKS,
    "as": _FOREACH,
    "max_parallel": _FOREACH,
    "until": _FOREACH,
    "stragglers": _FOREACH,
    "on_item_failure": _FOREACH,
    "start": frozenset({Kind.STATES}),
    "max_visits": frozenset({Kind.STATES}),
}
_NARROW = frozenset(key for key, kinds in KEYS_OF.items() if len(kinds) <= len(_BLOCKS))
_VALUES = ("with", "output", "set", "exit")


def check(outline: Outline) -> None:
    """Report ids, kinds, keys and blocks that cannot be."""
    _check_size(outline)
    for scope in outline.scopes:
        if not scope.steps and not scope.node.items:
            owner = "the workflow" if scope.owner is None else f"the block {scope.owner.id}"
            outline.report.add(
                "empty-block",
                scope.node,
                scope.path,
                f"{owner} has no steps here",
                "add a step, or remove the block",
            )
    for step in outline.steps:
        _check_id(outline, step)
        _check_kind(outline, step)
        _check_keys(outline, step)
        _check_undo(outline, step)
        if step.kind is Kind.SWITCH:
            _check_cases(outline, step)
        if step.kind is Kind.WAIT:
            _check_wait(outline, step)


def _check_size(outline: Outline) -> None:
    if len(outline.steps) > MOST_STEPS:
        step = outline.steps[MOST_STEPS]
        outline.report.add(
            "too-many-steps",
            step.node,
            step.path,
            f"the document has {len(outline.steps)} steps, {MOST_STEPS} are allowed",
            "split the workflow, and start the parts as child runs",
        )
    root = outline.root
    if max(len(outline.document.text), root.size) <= LARGEST_VALUE:
        return
    holders: list[tuple[str, Node]] = [("", root), *((s.path + ".", s.node) for s in outline.steps)]
    for path, holder in holders:
        for key in _VALUES:
            node = holder.get(key)
            size = len(json.dumps(node.value).encode()) if node else 0
            if node and size > LARGEST_VALUE:
                outline.report.add(
                    "value-too-large",
                    node,
                    path + key,
                    f"{key} has {size} bytes, {LARGEST_VALUE} are allowed",
                    "store it as an artifact, and pass its name",
                )


def _check_id(outline: Outline, step: Step) -> None:
    first = outline.by_id.get(step.id)
    if first is not None and first is not step:
        node = step.node.inside(["id"])
        outline.report.add(
            "duplicate-id",
            node,
            f"{step.path}.id",
            f"the id {step.id} is already that of the step on line {first.node.line}",
            "give one of them another id",
        )


def _check_undo(outline: Outline, step: Step) -> None:
    if step.node.get("compensate") is None:
        return
    if step.node.value.get("irreversible") is True:
        outline.report.add(
            "irreversible-undone",
            step.node.key_place("irreversible"),
            f"{step.path}.irreversible",
            f"{step.id} says how it is undone, and that it cannot be",
            "remove one of the two",
        )
    taken = outline.by_id.get("compensate")
    if taken is not None and next(iter(taken.owners()), None) is step:
        outline.report.add(
            "reserved-id",
            taken.node.inside(["id"]),
            f"{taken.path}.id",
            f"{step.path}.compensate is what undoes the block around this step",
            "give the step another id",
        )


def _check_kind(outline: Outline, step: Step) -> None:
    given, report, name = kinds_of(step.node), outline.report, step.id or "the step"
    bare = [key for key in KIND_KEYS if key in step.node.value and step.node.value[key] is None]
    for key in bare:
        report.add(
            "empty-kind",
            step.node.key_place(key),
            f"{step.path}.{key}",
            f"{key} has no value",
            f"say what {key} is to do, or remove it",
        )
    if not given and not bare:
        report.add(
            "no-kind",
            step.node,
            step.path,
            f"{name} does not say what it does",
            "add uses with a task type, or one of " + ", ".join(list(KIND_KEYS)[1:]),
        )
    for key in given[1:]:
        report.add(
            "two-kinds",
            step.node.key_place(key),
            f"{step.path}.{key}",
            f"{name} is both {given[0]} and {key}",
            "keep one of them, and make the other a step of its own",
        )
    if step.kind in LOOPS and step.node.value.get("steps") is None:
        report.add(
            "no-body",
            step.node,
            step.path,
            f"{name} has no steps to repeat",
            "add steps: with what is to be done each time",
        )


def _check_keys(outline: Outline, step: Step) -> None:
    if step.kind is None:
        return
    for key in step.node.fields or ():
        if step.kind in KEYS_OF.get(key, (step.kind,)):
            continue
        kinds = f"a {' or '.join(sorted(KEYS_OF[key]))}" if key in _NARROW else "another kind of"
        outline.report.add(
            "key-not-for-kind",
            step.node.key_place(key),
            f"{step.path}.{key}",
            f"{key} means nothing on a step of kind {step.kind}",
            f"remove it, or put it on {kinds} step",
        )
    if step.node.get("stragglers") is not None and step.node.get("until") is None:
        outline.report.add(
            "stragglers-without-until",
            step.node.key_place("stragglers"),
            f"{step.path}.stragglers",
            "the loop does all its items, so there are no stragglers",
            "add until with the condition that ends it, or remove stragglers",
        )
    name = step.node.value.get("as")
    if step.kind is Kind.FOREACH and isinstance(name, str) and name in _TAKEN:
        outline.report.add(
            "reserved-name",
            step.node.inside(["as"]),
            f"{step.path}.as",
            f"{name} already means something else in expressions",
            "call the item something else, such as line",
        )


def _check_cases(outline: Outline, step: Step) -> None:
    cases = step.node.inside(["switch"])
    report, fallback = outline.report, None
    if cases.items == []:
        report.add(
            "empty-block",
            cases,
            f"{step.path}.switch",
            f"the switch {step.id} has no cases",
            "add - when: ${{ ... }} with steps",
        )
    for index, case in enumerate(cases.items or ()):
        if case.fields is None:
            continue
        path = f"{step.path}.switch[{index}]"
        is_else = "else" in case.fields and case.value["else"] is not False
        if is_else == (case.value.get("when") is not None):
            report.add(
                "case-without-condition",
                case,
                path,
                "the case has " + ("both when and else" if is_else else "neither when nor else"),
                "give it one of them",
            )
        if fallback is not None and is_else:
            report.add(
                "two-elses",
                case,
                path,
                "the switch has a second else",
                "keep one else, as the last case",
            )
        elif fallback is not None:
            report.add(
                "case-after-else",
                case,
                path,
                "the case comes after else and is never reached",
                "move it before the else",
            )
        fallback = case if is_else else fallback


def _check_wait(outline: Outline, step: Step) -> None:
    node = step.node.inside(["wait"])
    if node.fields is not None and len([key for key in ("for", "until") if node.get(key)]) != 1:
        outline.report.add(
            "wait-without-end",
            node,
            f"{step.path}.wait",
            "a wait has either for or until",
            "write {for: 10m} or {until: ${{ ... }}}",
        )
    until = node.get("until")
    if until is not None and isinstance(until.value, str) and syntax.OPEN not in until.value:
        try:
            moments.parse(until.value)
        except moments.MomentError as error:
            message, _, hint = str(error).partition("; ")
            outline.report.add("moment", until, f"{step.path}.wait.until", message, hint)
