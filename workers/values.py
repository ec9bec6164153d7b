"""Values that may be kept: plain JSON, not too large, and without secrets.

What has one obvious JSON form is given it (dates as ISO 8601, paths and decimals as text,
durations as seconds); what has none, such as a set or NaN, is refused with its place in the value.
"""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

import pydantic

from workers.errors import ValueRefusedError
from workflows.language.limits import LARGEST_VALUE, size_of, too_large

MAX_DEPTH = 100
MASK = "***"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def plain(value: Any, place: str = "output", depth: int = 0) -> Any:
    """Give the value as plain JSON or raise `ValueRefusedError` with the place of what is not.

    The NUL character and lone surrogates, which PostgreSQL cannot store, become U+FFFD.
    """
    if value is None or isinstance(value, bool):
        return value
    if depth > MAX_DEPTH:
        raise _refused(place, f"is nested deeper than {MAX_DEPTH} levels")
    for kinds, form in _FORMS:
        if isinstance(value, kinds):
            return plain(form(value), place, depth + 1)
    for kinds, read in _READERS:
        if isinstance(value, kinds):
            return read(value, place, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return plain(fields, place, depth)
    raise _refused(
        place,
        f"is a {type(value).__name__}, which has no form in JSON; "
        "give a list, a mapping, text or a number",
    )


def _text(value: str, _place: str, _depth: int) -> str:
    return _UNSTORABLE.sub("\ufffd", value)


def _whole(value: int, _place: str, _depth: int) -> int:
    return int(value)


def _finite(value: float, place: str, _depth: int) -> float:
    if not math.isfinite(value):
        raise _refused(place, f"is {value}, which JSON cannot hold; give null or leave it out")
    return float(value)


def _items(value: Sequence[Any], place: str, depth: int) -> list[Any]:
    return [plain(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]


def _members(value: Mapping[Any, Any], place: str, depth: int) -> dict[str, Any]:
    return {
        _key(key, place): plain(item, f"{place}.{key}", depth + 1) for key, item in value.items()
    }


def _key(key: Any, place: str) -> str:
    if isinstance(key, Enum):
        key = key.value
    if not isinstance(key, str):
        raise _refused(place, f"has the key {key!r}, but keys are text in JSON")
    return _UNSTORABLE.sub("\ufffd", key)


def _refused(place: str, reason: str) -> ValueRefusedError:
    return ValueRefusedError(
        f"`{place}` {reason}.", code="value.not_json", details={"place": place}
    )


_FORMS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((Enum,), lambda member: member.value),
    ((datetime, date, time), lambda moment: moment.isoformat()),
    ((timedelta,), timedelta.total_seconds),
    ((PurePath, Decimal, UUID), str),
    ((pydantic.BaseModel,), lambda model: model.model_dump()),
)
_READERS: tuple[tuple[tuple[type, ...], Callable[[Any, str, int], Any]], ...] = (
    ((str,), _text),
    ((int,), _whole),
    ((float,), _finite),
    ((Mapping,), _members),
    ((list, tuple), _items),
)


def check_size(value: Any, what: str) -> None:
    """Raise `ValueRefusedError` for a plain value of more than 256 KiB of JSON."""
    if reason := too_large(f"the {what}", value):
        raise ValueRefusedError(
            f"{reason[0].upper()}{reason[1:]}.",
            code="value.too_large",
            details={"bytes": size_of(value), "limit": LARGEST_VALUE},
        )


SHORTEST_SECRET = 4
"""Characters of the shortest text of a profile that is masked: shorter ones are in any sentence."""


def texts_of(value: Any) -> frozenset[str]:
    """Return the texts inside a value, but for keys and the shortest."""
    match value:
        case str():
            return frozenset({value} if len(value) >= SHORTEST_SECRET else ())
        case Mapping():
            return frozenset().union(*(texts_of(item) for item in value.values()))
        case list() | tuple():
            return frozenset().union(*(texts_of(item) for item in value))
    return frozenset()


def redactor(secrets: Iterable[str]) -> Callable[[Any], Any]:
    """Make a function that masks the secrets in a plain value, keys included.

    A secret is also found as it looks inside JSON, in a Python literal and in a URL.
    """
    forms = {form for secret in secrets if secret for form in _forms(secret)}
    if not forms:
        return lambda value: value
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))

    def mask(value: Any) -> Any:
        match value:
            case str():
                return pattern.sub(MASK, value)
            case int() | float() if not isinstance(value, bool) and str(value) in forms:
                return MASK
            case Mapping():
                return {mask(key): mask(item) for key, item in value.items()}
            case list() | tuple():
                return [mask(item) for item in value]
        return value

    return mask


def _forms(secret: str) -> set[str]:
    quoted = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    return {secret, secret.strip() or secret, repr(secret)[1:-1], *quoted} | {
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
    }
