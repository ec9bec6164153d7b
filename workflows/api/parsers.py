"""Bodies: bounded, UTF-8, and nothing in them that could not be stored as it is.

Python's JSON reader lets pass what PostgreSQL's jsonb refuses (NUL, half surrogates, an
infinite 1e999), what the last of two equal keys hides, and what is too deep to walk.
"""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser

MIB = 1024 * 1024
MAX_BODY_BYTES = 8 * MIB
MAX_DEPTH = 100


class BodyTooLargeError(APIException):
    """The body is larger than a door reads."""

    status_code = 413
    default_code = "too_large"


class StrictJSONParser(BaseParser):
    """JSON to values, or ParseError."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the value of the body."""
        return strict_json(raw_of(stream))


class TextParser(BaseParser):
    """The text itself: findings count its lines and columns as the sender does."""

    def parse(  # type: ignore[override] # a text is no mapping, and `data` may be any value
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the text of the body."""
        return text_of(stream)


class YAMLText(TextParser):
    """A definition as it stands in a file."""

    media_type = "application/yaml"


class OldYAMLText(TextParser):
    """The same under the name that was usual before RFC 9512."""

    media_type = "text/yaml"


class JSONText(TextParser):
    """A definition as JSON."""

    media_type = "application/json"


def raw_of(stream: IO[Any], *, most: int = MAX_BODY_BYTES) -> bytes:
    """Read the body. Raises BodyTooLargeError."""
    raw: bytes = stream.read(most + 1)
    if len(raw) > most:
        size = f"{most // MIB} MiB" if most >= MIB else f"{most // 1024} KiB"
        raise BodyTooLargeError(f"The body is larger than {size}.")
    return raw


def text_of(stream: IO[Any]) -> str:
    """Read the body as text. Raises BodyTooLargeError and ParseError."""
    return _text(raw_of(stream))


def strict_json(raw: bytes) -> Any:
    """Return the value of JSON that can be stored as it is. Raises ParseError."""
    text = _text(raw)
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
    except RecursionError as error:
        raise ParseError(_too_deep()) from error
    except ValueError as error:
        raise ParseError(f"The body is not JSON: {error}") from error
    _refuse_what_cannot_be_stored(value)
    return value


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParseError(f"The body is not UTF-8: {error}") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return made


def _refuse_what_cannot_be_stored(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ParseError(_too_deep())
        if isinstance(one, dict):
            waiting += [(item, depth + 1) for pair in one.items() for item in pair]
        elif isinstance(one, list):
            waiting += [(item, depth + 1) for item in one]
        elif isinstance(one, str) and not _is_storable(one):
            raise ParseError(f"The text {one[:40]!r} has a NUL or half a character in it.")
        elif isinstance(one, float) and not math.isfinite(one):
            raise ParseError("A number is too large.")


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _too_deep() -> str:
    return f"The body is nested more than {MAX_DEPTH} deep."
