"""The kinds of value a document may hold: how each is read, written and described.

Every refusal is a `PydanticCustomError` whose type is the rule of the finding
and whose context may carry a `hint`.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from workflows.language import durations
from workflows.language.limits import MOST_ITEMS

SLUG = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
IDENTIFIER = r"^[a-z][a-z0-9_]{0,62}$"
NAME = r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$"


def is_template(value: object) -> bool:
    """Tell whether `value` is text that holds an expression."""
    return isinstance(value, str) and "${{" in value


def _duration(value: object) -> float:
    try:
        return durations.parse(value)
    except durations.DurationError as error:
        raise PydanticCustomError(
            "duration", "{reason}", {"reason": str(error), "hint": durations.HINT}
        ) from None


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise PydanticCustomError(
            "timeout-not-positive",
            "a timeout of {seconds} s ends before it begins",
            {"seconds": f"{seconds:g}", "hint": "give a time above zero, or leave the key out"},
        )
    return seconds


def _duration_or_template(value: object) -> float | str:
    return value if isinstance(value, str) and is_template(value) else _duration(value)


def _condition(value: object) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and is_template(value)):
        return value
    raise PydanticCustomError(
        "condition",
        "a condition is true, false or an expression",
        {"hint": "write it as ${{ ... }}"},
    )


def _items(value: object) -> list[Any] | str | int:
    if isinstance(value, list) or (isinstance(value, str) and is_template(value)):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_ITEMS:
        return value
    raise PydanticCustomError(
        "items",
        "the items are a list, how many there are, or an expression that gives one of them",
        {"hint": f"write ${{{{ input.lines }}}}, a list, or a number up to {MOST_ITEMS:,}"},
    )


def _event_type(value: str) -> str:
    if is_template(value):
        raise PydanticCustomError(
            "event-type",
            "the type of an event is text without expressions",
            {"hint": "write the type out, and put what varies into match"},
        )
    return value


def _input(value: object) -> dict[str, Any] | str:
    if isinstance(value, dict) or (isinstance(value, str) and is_template(value)):
        return value
    raise PydanticCustomError(
        "input",
        "the input is a mapping or an expression that gives one",
        {"hint": "write input: {order: ${{ event.data.order }}} or ${{ event.data }}"},
    )


def _jitter(value: object) -> float | str:
    if value == "full":
        return "full"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    raise PydanticCustomError(
        "jitter",
        "the jitter is a number from 0 to 1, or full",
        {"hint": "write 0.1 for ten per cent either way, or full for 0 up to the delay"},
    )


_DURATION_SCHEMA = {
    "type": ["string", "number"],
    "pattern": durations.PATTERN,
    "minimum": 0,
    "examples": ["250ms", "30s", "1h30m", "7d", "PT30M"],
}
_TEMPLATE_SCHEMA = {"type": "string", "pattern": r"\$\{\{"}


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


Arguments = Annotated[dict[str, Any], BeforeValidator(_nothing_is_empty)]
Flag = Annotated[bool, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
Factor = Annotated[float, Strict(), Field(ge=1, le=1000, allow_inf_nan=False)]
Slug = Annotated[str, Field(pattern=SLUG, max_length=100)]
Identifier = Annotated[str, Field(pattern=IDENTIFIER)]
Name = Annotated[str, Field(pattern=NAME)]
Duration = Annotated[float, PlainValidator(_duration), WithJsonSchema(_DURATION_SCHEMA)]
Timeout = Annotated[
    float,
    PlainValidator(_duration),
    AfterValidator(_positive),
    WithJsonSchema(_DURATION_SCHEMA),
]
DurationOrTemplate = Annotated[
    float | str,
    PlainValidator(_duration_or_template),
    WithJsonSchema({"anyOf": [_DURATION_SCHEMA, _TEMPLATE_SCHEMA]}),
]
Condition = Annotated[
    bool | str,
    PlainValidator(_condition),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, _TEMPLATE_SCHEMA]}),
]
Items = Annotated[
    list[Any] | str | int,
    PlainValidator(_items),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array"},
                {"type": "integer", "minimum": 0, "maximum": MOST_ITEMS},
                _TEMPLATE_SCHEMA,
            ]
        }
    ),
]
EventType = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_event_type)]
Input = Annotated[
    dict[str, Any] | str,
    PlainValidator(_input),
    WithJsonSchema({"anyOf": [{"type": "object"}, _TEMPLATE_SCHEMA]}),
]
Jitter = Annotated[
    float | str,
    PlainValidator(_jitter),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "full"}]}),
]
