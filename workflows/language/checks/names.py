"""Does every expression parse, and does it read only names that exist where it stands?"""

from collections.abc import Iterator, Mapping

from workflows.language import syntax
from workflows.language.checks.availability import HINT, NOT_YET, RULE
from workflows.language.document import Node
from workflows.language.nearest import did_you_mean
from workflows.language.outline import Outline, Place, Read, Role, Step
from workflows.language.tokens import Chain
from workflows.language.words import StepKind

_BASE = frozenset({"input", "vars", "steps", "env", "run"})
_FIELDS: Mapping[str, frozenset[str]] = {
    "steps": frozenset({"output", "state", "error", "attempt", "callback_url"}),
    "run": frozenset({"id", "workflow", "version", "environment", "started_at"}),
}
_OUT_OF_PLACE: Mapping[str, tuple[str, str, str]] = {
    "secrets": (
        "secrets-outside-with",
        "secrets are known only in the `with` of a task",
        "pass the secret to the task that needs it; it is resolved on the worker",
    ),
    "item": (
        "item-out-of-place",
        "item is known only inside a foreach that does not call it something else",
        "use the name that `as` gives, inside the foreach",
    ),
    "index": (
        "index-out-of-place",
        "index is known only inside a foreach or a repeat",
        "move the step into the loop",
    ),
    "done": (
        "done-out-of-place",
        "done is known only in the until of a foreach",
        "read size(steps.<id>.output) of the loop after it",
    ),
    "error": (
        "error-out-of-place",
        "error is known only in the steps of a catch and in compensate",
        "read steps.<id>.error of a step that may have failed",
    ),
    "event": (
        "event-out-of-place",
        "event is known only in triggers and in the match of an event step",
        "read steps.<id>.output of the event step, or input where an event starts the run",
    ),
}


def check(outline: Outline) -> None:
    """Report expressions that do not parse and names that are not known."""
    variables = _variables(outline)
    inputs = _closed_inputs(outline)
    outline.reads = list(_reads(outline))
    for read in outline.reads:
        for problem in read.template.problems:
            place = outline.document.place(read.node, problem.offset)
            outline.report.add(problem.rule, place, read.path, problem.message, problem.hint)
        if read.template.problems:
            continue
        if read.place.is_condition and syntax.template(read.node.value.strip()).single is None:
            outline.report.add(
                "condition",
                read.node,
                read.path,
                "the condition is text with an expression in it, which is never true or false",
                "put the whole condition into one ${{ ... }}",
            )
        for expression in read.template.expressions:
            for chain in expression.chains:
                found = _wrong(chain, read.place.names, variables, inputs)
                if found is not None:
                    place = outline.document.place(read.node, chain.offset)
                    outline.report.add(found[0], place, read.path, found[1], found[2])


def _wrong(  # noqa: PLR0911 - one question a paragraph, the first answer counts
    chain: Chain, names: frozenset[str], variables: frozenset[str], inputs: frozenset[str] | None
) -> tuple[str, str, str] | None:
    """Return the rule, message and hint of what is wrong with a name, if anything is."""
    if chain.root not in names:
        return _OUT_OF_PLACE.get(chain.root) or (
            "unknown-name",
            f"the name {chain.root} is not known here",
            f"text inside an expression needs quotes; {did_you_mean(chain.root, names, 'names')}",
        )
    if f"name.{chain.root}" in NOT_YET:
        return RULE, f"{chain.root} is not available yet", HINT
    if chain.root == "steps" and (not chain.keys or not isinstance(chain.keys[0], str)):
        return (
            "steps-key-not-literal",
            "steps is read without the id of a step",
            "write steps.<id>.output, with the id as it stands in the document",
        )
    field = chain.keys[1:2] if chain.root == "steps" else chain.keys[:1]
    known = _FIELDS.get(chain.root)
    if known is not None and field and field[0] not in known:
        subject = f"{chain.root}.{chain.keys[0]}" if chain.root == "steps" else chain.root
        return (
            "unknown-field",
            f"{subject} has no {field[0]}",
            did_you_mean(str(field[0]), known, "fields"),
        )
    if chain.root == "vars" and field and field[0] not in variables:
        return (
            "unknown-variable",
            f"no step sets the variable {field[0]}",
            f"a set step makes one; {did_you_mean(str(field[0]), variables, 'variables')}",
        )
    if chain.root == "input" and inputs is not None and field and field[0] not in inputs:
        return (
            "unknown-input",
            f"the input has no {field[0]}, and its schema allows nothing else",
            did_you_mean(str(field[0]), inputs, "properties"),
        )
    return None


def _variables(outline: Outline) -> frozenset[str]:
    holders = (step.node.get("set") for step in outline.steps if step.kind is StepKind.SET)
    return frozenset(name for node in holders if node is not None for name in node.fields or ())


def _closed_inputs(outline: Outline) -> frozenset[str] | None:
    """Return the names of the inputs, if the schema allows no others."""
    schema = outline.root.value.get("input")
    if not isinstance(schema, dict) or schema.get("additionalProperties") is not False:
        return None
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or "patternProperties" in schema:
        return None
    return frozenset(properties)


def _reads(outline: Outline) -> Iterator[Read]:
    """Yield every text with expressions, with the place that it is part of."""
    for place in _places(outline):
        todo = [(place.node, place.path)]
        while todo:
            node, path = todo.pop()
            if isinstance(node.value, str):
                if syntax.OPEN in node.value:
                    yield Read(node, path, place, syntax.template(node.value))
            elif node.fields is not None:
                todo.extend((inner, f"{path}.{key}") for key, inner in node.fields.items())
            elif node.items is not None:
                todo.extend((inner, f"{path}[{index}]") for index, inner in enumerate(node.items))


def _places(outline: Outline) -> Iterator[Place]:
    root = outline.root
    if (output := root.get("output")) is not None:
        yield Place(output, "output", None, _BASE)
    key = root.inside(["concurrency", "key"])
    if key is not root and isinstance(key.value, str):
        yield Place(key, "concurrency.key", None, frozenset({"input", "env", "run"}))
    yield from _places_of_triggers(root)
    known: dict[Step | None, frozenset[str]] = {None: _BASE}
    for step in outline.steps:
        names = _names_for(step, known[step.scope.owner])
        known[step] = names
        yield from _places_of(step, names)


def _places_of_triggers(root: Node) -> Iterator[Place]:
    triggers = root.get("triggers")
    for number, trigger in enumerate((triggers.items if triggers is not None else None) or ()):
        for key in ("match", "input"):
            node = trigger.inside(["event", key])
            if node is trigger.inside(["event"]).get(key):
                path = f"triggers[{number}].event.{key}"
                yield Place(node, path, None, frozenset({"event"}), is_condition=key == "match")


def _names_for(step: Step, outer: frozenset[str]) -> frozenset[str]:
    """Return the names that are known to a step, given those known to its owner."""
    owner, role = step.scope.owner, step.scope.role
    if owner is None:
        return outer
    if role is Role.CATCH:
        return outer | {"error"}
    if owner.kind is StepKind.FOREACH:
        name = owner.node.value.get("as", "item")
        return outer | {"index", name if isinstance(name, str) else "item"}
    return outer | {"index"} if owner.kind is StepKind.REPEAT else outer


def _places_of(step: Step, names: frozenset[str]) -> Iterator[Place]:
    with_names = names | {"secrets"} if step.kind is StepKind.TASK else names
    for key in step.node.value:
        for way, extra, own, is_condition in _ROWS_OF.get(key, ()):
            node: Node | None = step.node
            for part in way:
                node = node.get(part) if node is not None else None
            if node is not None:
                allowed = with_names if way == ("with",) else names | extra
                yield Place(node, f"{step.path}.{'.'.join(way)}", step, allowed, own, is_condition)
    cases = step.node.get("switch")
    for index, case in enumerate((cases.items if cases is not None else None) or ()):
        condition = case.get("when")
        if condition is not None:
            path = f"{step.path}.switch[{index}].when"
            yield Place(condition, path, step, names, is_condition=True)
    transitions = step.node.get("next")
    for index, transition in enumerate((transitions.items if transitions else None) or ()):
        condition = transition.get("when")
        if condition is not None:
            path = f"{step.path}.next[{index}].when"
            yield Place(condition, path, step, names, own=True, is_condition=True)


_Row = tuple[tuple[str, ...], frozenset[str], bool, bool]


_NO_NAMES: frozenset[str] = frozenset()
_ROWS: tuple[_Row, ...] = (
    (("when",), _NO_NAMES, False, True),
    (("with",), _NO_NAMES, False, False),
    (("output",), _NO_NAMES, True, False),
    (("set",), _NO_NAMES, False, False),
    (("foreach",), _NO_NAMES, False, False),
    (("until",), frozenset({"done"}), True, True),
    (("repeat", "until"), frozenset({"index"}), True, True),
    (("exit", "when"), _NO_NAMES, False, True),
    (("exit", "output"), _NO_NAMES, False, False),
    (("approval", "group"), _NO_NAMES, False, False),
    (("approval", "escalate_to"), _NO_NAMES, False, False),
    (("approval", "message"), _NO_NAMES, False, False),
    (("event", "match"), frozenset({"event"}), False, True),
    (("wait", "for"), _NO_NAMES, False, False),
    (("wait", "until"), _NO_NAMES, False, False),
    (("compensate", "with"), frozenset({"secrets", "error"}), True, False),
)
"""The values of a step that may hold expressions: way, names, own, is a condition."""

_ROWS_OF: Mapping[str, tuple[_Row, ...]] = {
    key: tuple(row for row in _ROWS if row[0][0] == key) for key in {row[0][0] for row in _ROWS}
}
"""The same by the key of the step that they are under."""
