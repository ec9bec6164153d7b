"""Can every step that an expression reads have finished by then?"""

from collections.abc import Iterator

from workflows.language.nearest import did_you_mean
from workflows.language.outline import LOOPS, Outline, Place, Role, Scope, Step
from workflows.language.words import StepKind


def check(outline: Outline) -> None:
    """Report reads of steps that do not exist or cannot have finished."""
    ids = outline.by_id.keys()
    for read in outline.reads:
        for expression in read.template.expressions:
            for chain in expression.chains:
                if chain.root != "steps" or not chain.keys or not isinstance(chain.keys[0], str):
                    continue
                name = chain.keys[0]
                target = outline.by_id.get(name)
                if target is None:
                    rule, message = "unknown-step", f"there is no step {name[:60]}"
                    hint = did_you_mean(name, ids, "steps")
                elif chain.keys[1:2] == ("callback_url",):
                    rule, message, hint = _judge_link(read.place, target)
                else:
                    rule, message, hint = _judge(read.place, target)
                if rule:
                    place = outline.document.place(read.node, chain.offset)
                    outline.report.add(rule, place, read.path, message, hint)


def _judge(place: Place, target: Step) -> tuple[str, str, str]:
    """Return the rule that the read breaks, if any, its message and its hint."""
    reader = place.step
    if reader is None:
        loop = _loop_around(target, None)
        return _inside_loop(target, loop) if loop else ("", "", "")
    chain = {reader.scope: reader}
    chain.update((owner.scope, owner) for owner in reader.owners())
    common = target
    while common.scope not in chain:
        common = common.scope.owner or common
    mine = chain[common.scope]
    if not (
        mine.scope.cyclic
        or (mine is not common and mine.follows(common))
        or (mine is common and _sees_inside(place, mine, target))
    ):
        return _unfinished(reader, mine, common, target)
    is_for_one = mine is common and place.path.endswith("until")
    loop = _loop_around(target, common if is_for_one else mine.scope.owner)
    return _inside_loop(target, loop) if loop else ("", "", "")


def _judge_link(place: Place, target: Step) -> tuple[str, str, str]:
    """Return the same of a read of a callback URL, which is known before its step waits."""
    if target.kind is not StepKind.CALLBACK:
        return (
            "unknown-field",
            f"{target.id} waits for no callback, so steps.{target.id} has no callback_url",
            "read it of a step with callback",
        )
    around = set(_rounds_around(place.step))
    loop = next((one for one in _rounds_around(target) if one not in around), None)
    if loop is None:
        return "", "", ""
    return (
        "step-inside-loop",
        f"{target.id} waits anew in each round of {loop.id}, under a URL of that round",
        "read it in a step of the same round",
    )


def _rounds_around(step: Step | None) -> Iterator[Step]:
    """Yield the loops and states whose rounds and visits the step is done in, nearest first."""
    while step is not None:
        owner = step.scope.owner
        if step.scope.role is Role.STATES:
            yield step
        elif owner is not None and owner.kind in LOOPS and step.scope.role is Role.BODY:
            yield owner
        step = owner


def _sees_inside(place: Place, mine: Step, target: Step) -> bool:
    """Tell whether a read of `mine`, or of a step inside it, comes late enough."""
    if place.step is mine:
        return place.own
    role = _scope_below(place.step, mine).role if place.step else Role.ROOT
    if role is not Role.CATCH:
        return False
    return target is mine or _scope_below(target, mine).role is not Role.CATCH


def _scope_below(step: Step, ancestor: Step) -> Scope:
    """Return the scope of `ancestor` that `step` is somewhere in."""
    scope = step.scope
    for owner in step.owners():
        if owner is ancestor:
            return scope
        scope = owner.scope
    return scope


def _loop_around(target: Step, inside: Step | None) -> Step | None:
    """Return the loop inside `inside`, or anywhere, whose items a read of `target` would mix."""
    scope = target.scope
    while scope.owner is not None and scope.owner is not inside:
        if scope.owner.kind in LOOPS and scope.role is Role.BODY:
            return scope.owner
        scope = scope.owner.scope
    return None


def _inside_loop(target: Step, loop: Step) -> tuple[str, str, str]:
    return (
        "step-inside-loop",
        f"{target.id} is done once for each round of {loop.id}, so it has no one result here",
        f"read steps.{loop.id}.output, the list of all rounds",
    )


def _unfinished(reader: Step, mine: Step, common: Step, target: Step) -> tuple[str, str, str]:
    name = reader.id or "this step"
    if mine is not common:
        hint = f"add {common.id} to the needs of {mine.id or 'this step'}, or move it before it"
    elif target is reader:
        hint = "a step's own result is known in its output and compensate, and in its catch"
    elif reader in target.owners():
        hint = f"read it in the output of {name}, or after it"
    else:
        hint = f"move the read after {common.id}"
    return "step-not-finished", f"{target.id} cannot have finished before {name} reads it", hint
