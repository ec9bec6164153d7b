"""Does the order of the steps make sense? Finds it, too: `Step.needs` and `Step.before`."""

from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

from workflows.language.nearest import did_you_mean
from workflows.language.outline import Outline, Role, Scope, Step
from workflows.language.words import Join, Losers, StepKind

_MOST_CYCLES = 20
_PARTIAL = frozenset({Join.ONE_SUCCESS, Join.ONE_FAILED, Join.ONE_DONE})
_WANT_ONE = _PARTIAL | {Join.ALL_DONE_MIN_ONE_SUCCESS, Join.NONE_FAILED_MIN_ONE_SUCCESS}
_NEEDS_SUCCESS = frozenset({Join.NONE_FAILED, Join.ALL_SUCCESS, Join.NONE_FAILED_MIN_ONE_SUCCESS})
_RUNS_ANYWAY = frozenset({Join.NONE_FAILED, Join.ALL_DONE, Join.ALWAYS})


def check(outline: Outline) -> None:
    """Report needs, cycles, joins and steps that cannot be."""
    for scope in outline.scopes:
        if scope.role is Role.STATES:
            scope.cyclic = True
            continue
        local = {step.id: step for step in reversed(scope.steps) if step.id}
        for step in scope.steps:
            step.needs = _needs(outline, step, local)
            _check_join(outline, step)
        order = _order(outline, scope)
        for step in order:
            for need in step.needs:
                step.before |= need.before | 1 << need.position
        if not scope.cyclic:
            _check_reachable(outline, order)


def _needs(outline: Outline, step: Step, local: dict[str, Step]) -> list[Step]:
    """Return the steps that this one directly follows."""
    written = step.node.get("needs")
    if written is None or written.value is None:
        follows = step.position > 0 and step.scope.role is not Role.BRANCHES
        return [step.scope.steps[step.position - 1]] if follows else []
    found: list[Step] = []
    seen: set[str] = set()
    for index, node in enumerate(written.items or ()):
        name, place = node.value, (node.line, node.column)
        if not isinstance(name, str):
            continue
        rule, message, hint = "", "", ""
        if name == step.id:
            rule, message = "needs-itself", f"{name} needs itself"
            hint = "remove it from its own needs"
        elif name in seen:
            rule, message = "needs-twice", f"{name} is needed twice"
            hint = "name it once"
        elif name in local:
            found.append(local[name])
        elif name in outline.by_id:
            rule, message = "needs-other-scope", f"{name} is a step of another block"
            hint = f"need the block that holds it, or move {step.id or 'this step'} beside it"
        else:
            rule, message = "needs-unknown", f"there is no step {name[:60]}"
            hint = did_you_mean(name, local.keys() - {step.id}, "steps")
        seen.add(name)
        if rule:
            outline.report.add(rule, place, f"{step.path}.needs[{index}]", message, hint)
    return found


def _order(outline: Outline, scope: Scope) -> Iterable[Step]:
    """Return the steps, each after those it needs; a cycle is reported and cut."""
    if all(need.position < step.position for step in scope.steps for need in step.needs):
        return scope.steps
    for _ in range(_MOST_CYCLES):
        sorter = TopologicalSorter({step: step.needs for step in scope.steps})
        try:
            return list(sorter.static_order())
        except CycleError as error:
            _report_cycle(outline, error.args[1])
            scope.cyclic = True
    return ()


def _report_cycle(outline: Outline, cycle: list[Step]) -> None:
    """Report the cycle at the first step of it in the document that says `needs`; cut it there."""
    steps = cycle[:-1]
    start = min(
        (step for step in steps if step.node.get("needs") is not None), key=lambda s: s.position
    )
    at = steps.index(start)
    names = [step.id or "?" for step in (*steps[at:], *steps[:at], start)]
    outline.report.add(
        "cycle",
        start.node.key_place("needs"),
        f"{start.path}.needs",
        f"the steps wait for each other: {' -> '.join(names)}",
        f"take {steps[at - 1].id} out of the needs of {start.id}",
    )
    start.needs = [need for need in start.needs if need is not steps[at - 1]]


def _check_join(outline: Outline, step: Step) -> None:
    node = step.node.get("join")
    rule, wanted = join_of(step)
    count, name = len(step.needs), step.id or "the step"
    if node is not None and wanted is not None and wanted > count:
        outline.report.add(
            "join-not-met",
            node,
            f"{step.path}.join",
            f"{name} waits for {wanted} steps, and needs {count}",
            "name more steps in needs, or ask for fewer",
        )
    elif node is not None and rule in _WANT_ONE and count == 0:
        outline.report.add(
            "join-not-met",
            node,
            f"{step.path}.join",
            f"{name} waits for one of the steps it needs, and needs none",
            "name steps in needs, or remove the join",
        )
    losers = step.node.get("losers")
    partial = wanted is not None or rule in _PARTIAL
    if losers is not None and losers.value == Losers.CANCEL and not partial:
        outline.report.add(
            "losers-without-race",
            losers,
            f"{step.path}.losers",
            f"{name} waits for all the steps it needs, so none comes too late",
            "use join: one_success, one_done or {at_least: N}, or remove losers",
        )


def join_of(step: Step) -> tuple[Join | None, int | None]:
    """Return the rule of the step and the number of `at_least`, as far as well written."""
    written = step.node.value.get("join")
    if written is None:
        return Join.NONE_FAILED, None
    if isinstance(written, dict):
        number = written.get("at_least")
        return Join.AT_LEAST, number if type(number) is int else None
    is_rule = isinstance(written, str) and written in set(Join)
    return (Join(written) if is_rule else None), None


def _check_reachable(outline: Outline, order: Iterable[Step]) -> None:
    """Report the first step that always comes after the end of the run."""
    ends: dict[Step, Step] = {}
    dead: list[Step] = []
    for step in order:
        cause = next((ends[need] for need in step.needs if need in ends), None)
        if cause is not None and join_of(step)[0] in _NEEDS_SUCCESS:
            ends[step] = cause
            dead.append(step)
        elif ends_the_run(step):
            ends[step] = step
    if dead:
        first = min(dead, key=lambda step: step.position)
        cause = ends[first]
        more = f", nor are {len(dead) - 1} more steps" if len(dead) > 1 else ""
        outline.report.add(
            "unreachable",
            first.node,
            first.path,
            f"{first.id or 'the step'} is never reached{more}: the run ends at {cause.id}",
            f"give {cause.id} a when, or move the step before it",
        )


def ends_the_run(step: Step) -> bool:
    """Tell whether nothing comes after this step unless what it needs has failed."""
    value = step.node.value
    conditional = value.get("when") not in (None, True) or join_of(step)[0] not in _RUNS_ANYWAY
    if conditional or value.get("catch") or value.get("optional"):
        return False
    if step.kind is StepKind.EXIT:
        inner = value["exit"]
        return isinstance(inner, dict) and inner.get("when") in (None, True)
    if step.kind in {StepKind.STEPS, StepKind.PARALLEL}:
        return any(ends_the_run(child) for inner in step.scopes for child in inner.steps)
    return False
