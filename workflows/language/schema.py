"""The language as a JSON Schema (2020-12), for editors: they complete and check with it.

Made from the Spec, so the two cannot disagree. It knows each value's shape; what
only the document as a whole can tell (ids, order, names) is for `loader`.
"""

from typing import Any

from workflows.language.spec import KIND_KEYS, Spec

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of a workflow document."""
    schema = Spec.model_json_schema(by_alias=True, mode="validation")
    step = schema["$defs"]["StepSpec"]
    step["oneOf"] = _kinds()
    case = schema["$defs"]["CaseSpec"]
    case["properties"]["else"] = {
        "type": ["null", "boolean"],
        "description": case["properties"]["else"]["description"],
    }
    schema["$defs"]["CatchSpec"]["properties"]["steps"]["minItems"] = 1
    for holder in (schema, step, case):
        holder["properties"]["steps"]["minItems"] = 1
    return {"$schema": DIALECT, **_without_nulls(schema), "title": "Workflow"}


def _kinds() -> list[dict[str, Any]]:
    """Return one alternative for each kind: its key, and none of the others."""
    alternatives: list[dict[str, Any]] = []
    for key in KIND_KEYS:
        is_loop = key in {"foreach", "repeat"}
        others = [other for other in KIND_KEYS if other not in {key, "steps" if is_loop else key}]
        alternatives.append(
            {
                "required": [key, "steps"] if is_loop else [key],
                "not": {"anyOf": [{"required": [other]} for other in others]},
            }
        )
    return alternatives


def _without_nulls(value: Any) -> Any:
    """Drop what only the Spec's own form needs: generated titles, and null as "not given"."""
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _without_nulls(item) for key, item in value.items() if not _is_title(key, item)}
    if plain.get("default", ...) is None:
        del plain["default"]
    forms = plain.get("anyOf")
    if isinstance(forms, list) and {"type": "null"} in forms:
        left = [form for form in forms if form != {"type": "null"}]
        del plain["anyOf"]
        plain = {**left[0], **plain} if len(left) == 1 else {**plain, "anyOf": left}
    return plain


def _is_title(key: str, item: Any) -> bool:
    return key == "title" and isinstance(item, str)
