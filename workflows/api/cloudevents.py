"""CloudEvents over HTTP: https://github.com/cloudevents/spec, bindings/http-protocol-binding.md.

Structured, batched and binary, told apart by the content type. What an event must be is
for `workflows.services.envelopes` to say.
"""

import base64
import re
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import unquote

from rest_framework.exceptions import ParseError, UnsupportedMediaType, ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from workflows.api.parsers import raw_of, strict_json

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
PREFIX = "ce-"
REQUIRED = ("specversion", "id", "source", "type")
JSON = re.compile(r"[a-z]+/([a-z0-9.-]+\+)?json")


class AnyBody(BaseParser):
    """Bytes of whatever kind, bounded."""

    media_type = "*/*"

    def parse(  # type: ignore[override] # bytes are no mapping, and `data` may be any value
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the body."""
        return raw_of(stream)


def events_of(request: Request) -> dict[str, Any] | list[Any]:
    """Return the event of a request, or the list of a batch.

    Raises ParseError, UnsupportedMediaType and ValidationError.
    """
    body = request.data if isinstance(request.data, bytes) else b""
    kind = request.content_type.partition(";")[0].strip().lower()
    if kind == STRUCTURED:
        event = strict_json(body)
        if not isinstance(event, dict):
            raise ParseError(f"The body of {STRUCTURED} is an object: one event.")
        return event
    if kind == BATCHED:
        events = strict_json(body)
        if not isinstance(events, list):
            raise ParseError(f"The body of {BATCHED} is a list of events.")
        return events
    if kind.startswith("application/cloudevents"):
        raise UnsupportedMediaType(kind)
    return _binary(request, body, kind)


def _binary(request: Request, body: bytes, kind: str) -> dict[str, Any]:
    """Return the event whose attributes are headers, and whose data is the body."""
    event = {
        name.lower().removeprefix(PREFIX): _decoded(value)
        for name, value in request.headers.items()
        if name.lower().startswith(PREFIX)
    }
    if missing := [name for name in REQUIRED if name not in event]:
        hint = f"Give it, or send the whole event as {STRUCTURED}."
        raise ValidationError(
            {f"ce-{name}": [f"The header is missing. {hint}"] for name in missing}
        )
    if request.content_type:
        event["datacontenttype"] = request.content_type
    return event | _data(body, kind)


def _data(body: bytes, kind: str) -> dict[str, Any]:
    if not body:
        return {}
    if JSON.fullmatch(kind):
        return {"data": strict_json(body)}
    if kind.startswith("text/"):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: {error}") from error
    return {"data_base64": base64.b64encode(body).decode()}


def _decoded(value: str) -> str:
    """Return the value of a header: what is not printable ASCII in it is percent-encoded UTF-8."""
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"'
    try:
        return unquote(value[1:-1] if is_quoted else value, errors="strict")
    except UnicodeDecodeError as error:
        raise ParseError(f"The header value {value[:40]!r} is not UTF-8: {error}") from error
