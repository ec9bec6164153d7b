"""CloudEvents 1.0 as they are accepted, see https://github.com/cloudevents/spec (spec.md).

Strict where it matters for finding an event again: the id and the source must be given, for
the same two are the same event. (The SDK of the project makes an id up where there is none, so
that an event sent twice would be two; and it knows no batches.) An attribute that is null is
one that is not given.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from workflows.language.limits import too_large, unstorable
from workflows.services.errors import InputRefusedError, as_sentence

EXTENSION = re.compile(r"[a-z0-9]{1,64}")
LARGEST_INTEGER = 2**31


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("it is not a time such as 2026-01-31T12:00:00Z")
    return text


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not base64: {error}") from error
    return text


Text = Annotated[str, Field(min_length=1, max_length=500)]


class Envelope(BaseModel):
    """The attributes and the data of an event; what is not named here is an extension."""

    model_config = ConfigDict(extra="allow", strict=True)

    specversion: Literal["1.0"]
    id: Annotated[str, Field(min_length=1, max_length=255)]
    source: Annotated[str, Field(min_length=1, max_length=400)]
    type: Annotated[str, Field(min_length=1, max_length=200)]
    subject: Text | None = None
    time: Annotated[str, AfterValidator(_moment)] | None = None
    datacontenttype: Text | None = None
    dataschema: Text | None = None
    data: Any = None
    data_base64: Annotated[str, AfterValidator(_base64)] | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> "Envelope":
        if self.data is not None and self.data_base64 is not None:
            raise ValueError("it has both data and data_base64; give one of them")
        for name, value in (self.model_extra or {}).items():
            if not EXTENSION.fullmatch(name):
                message = f"the extension {name!r:.80} is not named with small letters and digits"
                raise ValueError(message)
            if not _is_plain(value):
                raise ValueError(f"the extension {name} is no text, whole number, true or false")
        return self


def envelopes(events: list[Any], *, many: bool) -> list[dict[str, Any]]:
    """Return events as they are stored, or refuse all of them for what is wrong with any.

    Raises InputRefusedError with every finding; its paths have the place in the list if there
    are `many`.
    """
    findings: list[dict[str, Any]] = []
    accepted = []
    for number, event in enumerate(events):
        found = _read(event, findings, f"[{number}]" if many else "")
        if found is not None:
            accepted.append(found)
    if findings:
        what = "The events are" if many else "The event is"
        message = f"{what} not as CloudEvents 1.0 asks; nothing was stored."
        raise InputRefusedError(message, findings)
    return accepted


def _read(event: Any, findings: list[dict[str, Any]], path: str) -> dict[str, Any] | None:
    if not isinstance(event, Mapping):
        findings.append({"path": path, "message": "An event is an object."})
        return None
    given = {str(name): value for name, value in event.items() if value is not None}
    try:
        Envelope.model_validate(given)
    except ValidationError as error:
        findings += [
            {
                "path": ".".join(filter(None, [path, *map(str, one["loc"])])),
                "message": _sentence(one["msg"]),
            }
            for one in error.errors(include_url=False)
        ]
        return None
    if reason := unstorable("the event", given) or too_large("the event", given):
        findings.append({"path": path, "message": _sentence(reason)})
        return None
    return given


def _is_plain(value: Any) -> bool:
    if isinstance(value, bool | str):
        return True
    return isinstance(value, int) and -LARGEST_INTEGER <= value < LARGEST_INTEGER


def _sentence(reason: str) -> str:
    return as_sentence(reason.removeprefix("Value error, "))
