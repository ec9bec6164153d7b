"""A form drawn from a JSON Schema: that of a workflow's input, or that of an approval.

Plain properties become plain fields; what has no plain field (lists, objects, choices
between shapes) is written as JSON. The whole input can be given as JSON instead. The
service checks the result by the schema; its findings come back to their fields.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from workflows.admin.operations import JsonField, note_field

PREFIX = "input-"
LONG_TEXT = 300
YES_NO = [("", "Not given"), ("true", "Yes"), ("false", "No")]


class SchemaForm(forms.Form):
    """What a JSON Schema asks for. `input` of the cleaned data is all of it as JSON."""

    everything = JsonField(
        label="Whole input as JSON",
        required=False,
        rows=6,
        help_text="If this is filled in, it is taken instead of the fields above.",
    )
    others: Sequence[str] = ()
    """The fields that are none of the schema's; they come last."""

    def __init__(
        self,
        *args: Any,
        schema: Mapping[str, Any] | None,
        like: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.schema = schema or {}
        self.names: dict[str, str] = {}
        required = set(self.schema.get("required", ()))
        for name, part in self.schema.get("properties", {}).items():
            rules = part if isinstance(part, Mapping) else {}
            field = _field(rules, is_required=name in required)
            given = (like or {}).get(name, rules.get("default"))
            if given is not None:
                field.initial = str(given).lower() if _is_yes_no(field) else given
            field.label = str(rules.get("title") or name)
            field.help_text = field.help_text or str(rules.get("description", ""))
            self.fields[PREFIX + name] = field
            self.names[PREFIX + name] = name
        self.order_fields([*self.names, "everything", *self.others])

    @property
    def inputs(self) -> list[forms.BoundField]:
        """The fields of the schema."""
        return [self[name] for name in self.names]

    def clean(self) -> dict[str, Any]:
        """Put the input together; fields that nobody filled in are left out."""
        cleaned = super().clean() or {}
        whole = cleaned.get("everything")
        if whole is not None:
            for name in self.names:
                self.errors.pop(name, None)
            cleaned["input"] = whole
            return cleaned
        cleaned["input"] = {
            name: _value(cleaned[field])
            for field, name in self.names.items()
            if cleaned.get(field) not in (None, "")
        }
        return cleaned

    def refuse(self, findings: Iterable[Mapping[str, Any]], sentence: str) -> None:
        """Bring each finding to the field that it is about."""
        for finding in findings:
            path = str(finding.get("path", ""))
            name = path.partition(".")[0].partition("[")[0]
            words = f"{path}: {finding['message']}" if path != name else finding["message"]
            if finding.get("hint"):
                words = f"{words} ({finding['hint']})"
            field = PREFIX + name if PREFIX + name in self.fields else None
            self.add_error(field, words)
        if not self.errors:
            self.add_error(None, sentence)


class StartForm(SchemaForm):
    """Where to run, and with what."""

    environment = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget(), help_text="Where the steps run."
    )
    key = forms.CharField(widget=forms.HiddenInput, max_length=200)
    others = ("environment", "key")

    def __init__(self, *args: Any, environments: Iterable[str], **options: Any) -> None:
        super().__init__(*args, **options)
        chosen = self.fields["environment"]
        assert isinstance(chosen, forms.ChoiceField)  # noqa: S101 - declared above
        chosen.choices = [(name, name) for name in environments]


class ApproveForm(SchemaForm):
    """What is filled in with an approval, and a remark."""

    note = note_field("Kept with your decision; the run can read it.")
    others = ("note",)


def _field(part: Mapping[str, Any], *, is_required: bool) -> forms.Field:
    if isinstance(part.get("enum"), list) and all(isinstance(one, str) for one in part["enum"]):
        choices = [("", "Choose")] + [(one, one) for one in part["enum"]]
        return forms.ChoiceField(
            choices=choices, required=is_required, widget=UnfoldAdminSelectWidget()
        )
    kind = part.get("type")
    make = _MAKERS.get(kind) if isinstance(kind, str) else None
    return (make or _json)(part, is_required)


def _text(part: Mapping[str, Any], is_required: bool) -> forms.Field:
    longest = part.get("maxLength")
    is_long = isinstance(longest, int) and longest >= LONG_TEXT
    widget = (
        UnfoldAdminTextareaWidget(attrs={"rows": 4})
        if is_long
        else (
            UnfoldAdminTextInputWidget(
                attrs={"placeholder": str((part.get("examples") or [""])[0])}
            )
        )
    )
    return forms.CharField(required=is_required, widget=widget, strip=False, max_length=longest)


def _integer(part: Mapping[str, Any], is_required: bool) -> forms.Field:
    return forms.IntegerField(
        required=is_required,
        min_value=part.get("minimum"),
        max_value=part.get("maximum"),
        widget=UnfoldAdminIntegerFieldWidget(),
    )


def _number(part: Mapping[str, Any], is_required: bool) -> forms.Field:
    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"})
    return forms.FloatField(
        required=is_required,
        min_value=part.get("minimum"),
        max_value=part.get("maximum"),
        widget=widget,
    )


def _boolean(part: Mapping[str, Any], is_required: bool) -> forms.Field:
    if is_required or "default" in part:
        return forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())
    return forms.TypedChoiceField(
        required=False,
        choices=YES_NO,
        coerce=lambda value: value == "true",
        empty_value=None,
        widget=UnfoldAdminSelectWidget(),
    )


def _json(part: Mapping[str, Any], is_required: bool) -> forms.Field:
    kinds = {"array": "A list as JSON.", "object": "An object as JSON."}
    said = [str(part.get("description", "")), kinds.get(str(part.get("type")), "As JSON.")]
    return _Json(required=is_required, rows=5, help_text=" ".join(filter(None, said)))


class _Json(JsonField):
    """JSON where an empty list or object is a value, not nothing."""

    empty_values = [None, ""]


_MAKERS: Mapping[str, Callable[[Mapping[str, Any], bool], forms.Field]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
}


def _is_yes_no(field: forms.Field) -> bool:
    return isinstance(field, forms.TypedChoiceField)


def _value(value: Any) -> Any:
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value
