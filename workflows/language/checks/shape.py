"""Does every value have the shape that the language asks for? The Spec's own refusals, in words."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from workflows.language import fields, spec
from workflows.language.document import Node, Report
from workflows.language.expressions import kind_of
from workflows.language.json_schemas import path_of
from workflows.language.nearest import did_you_mean

_ELSEWHERE = frozenset({"step-kind", "no-body"})
_MODELS: Mapping[str, type[BaseModel]] = {
    "steps": spec.StepSpec,
    "parallel": spec.StepSpec,
    "first": spec.StepSpec,
    "states": spec.StepSpec,
    "next": spec.NextSpec,
    "switch": spec.CaseSpec,
    "catch": spec.CatchSpec,
    "retry": spec.RetrySpec,
    "compensate": spec.CompensateSpec,
    "profile": spec.ProfileSpec,
    "repeat": spec.RepeatSpec,
    "approval": spec.ApprovalSpec,
    "callback": spec.CallbackSpec,
    "event": spec.EventSpec,
    "wait": spec.WaitSpec,
    "exit": spec.ExitSpec,
    "concurrency": spec.ConcurrencySpec,
    "triggers": spec.TriggerSpec,
    "triggers.event": spec.EventTriggerSpec,
}
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
}
_NAMING = {
    fields.SLUG: "use small letters, digits and single hyphens: send-invoice",
    fields.IDENTIFIER: "begin with a small letter; then small letters, digits and _: send_invoice",
    fields.NAME: "begin with a letter; then letters, digits and . _ -",
}


def read(root: Node, report: Report) -> spec.Spec | None:
    """Return the document as a Spec, or report everything that is in the way."""
    if root.fields is None:
        report.add(
            "not-a-mapping",
            root,
            "",
            f"the document is {kind_of(root.value)}, and must be a mapping",
            "begin with workflow: a-name and steps:",
        )
        return None
    try:
        return spec.Spec.model_validate(root.value)
    except ValidationError as error:
        for part in error.errors(include_url=False):
            _report(root, dict(part), report)
    return None


def _report(root: Node, error: dict[str, Any], report: Report) -> None:
    kind, location, context = error["type"], error["loc"], error.get("ctx", {})
    if kind in _ELSEWHERE:
        return
    last = str(location[-1]) if location else ""
    node, path = root.inside(location), path_of(location)
    if kind == "extra_forbidden":
        holder = root.inside(location[:-1])
        report.add(
            "unknown-key",
            holder.key_place(last),
            path,
            f"the key {last} is not known here",
            did_you_mean(last, _keys_at(location[:-1]), "keys"),
        )
    elif kind == "missing":
        report.add("missing-key", node, path, f"the key {last} is missing", _missing_hint(last))
    elif kind in _WANTED:
        report.add(
            "wrong-type",
            node,
            path,
            f"{last} is {kind_of(error['input'])}, and must be {_WANTED[kind]}",
            f"give {_WANTED[kind]}",
        )
    elif kind == "enum":
        words = _words(context)
        report.add(
            "unknown-word",
            node,
            path,
            f"{error['input']!r:.60} is no value of {last}",
            did_you_mean(str(error["input"]), words, "values"),
        )
    elif kind == "string_pattern_mismatch":
        rule = {"id": "bad-id", "workflow": "bad-slug"}.get(last, "bad-name")
        report.add(
            rule,
            node,
            path,
            f"{error['input']!r:.60} cannot be the name of anything",
            _NAMING.get(context.get("pattern", ""), "use letters and digits"),
        )
    elif kind.startswith(("greater_than", "less_than", "string_too", "finite_number")):
        reason = error["msg"].replace("Input should", "it should")
        report.add(
            "out-of-range",
            node,
            path,
            f"{last} is out of range: {reason}",
            "give a value within the range",
        )
    else:
        hint = context.get("hint", "see the language reference for what may stand here")
        report.add(kind.replace("_", "-"), node, path, error["msg"], hint)


def _missing_hint(key: str) -> str:
    if key == "id":
        return "give the step an id that no other step of the document has"
    return f"add {key}"


def _words(context: Mapping[str, Any]) -> list[str]:
    """Return the words out of pydantic's sentence: `'a', 'b' or 'c'`."""
    return str(context.get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")


def _keys_at(location: tuple[str | int, ...]) -> set[str]:
    named = [part for part in location if isinstance(part, str)]
    model = _MODELS.get(".".join(named)) or _MODELS.get("".join(named[-1:]), spec.Spec)
    return {info.alias or name for name, info in model.model_fields.items()}
