"""How large things may be. Larger values belong in an artifact, with a reference in their place."""

import json
import re
from typing import Any

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

LARGEST_VALUE = 256 * 1024
"""Bytes of a value as compact JSON: an input, an output, the run variables."""

MOST_ITEMS = 1_000_000
"""Items of a foreach."""

DEEPEST_CHILD = 50
"""Levels of child runs below the run that no step has started."""

LONGEST_GROUP = 150
"""Characters of the name of a group of people."""


def size_of(value: Any) -> int:
    """Return the bytes of a value as compact JSON."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def too_large(name: str, value: Any) -> str | None:
    """Return why a value is refused, as a sentence; None when it is small enough."""
    size = size_of(value)
    if size <= LARGEST_VALUE:
        return None
    return (
        f"{name} has {size:,} bytes as JSON, and at most {LARGEST_VALUE:,} are kept;"
        " store it as an artifact and pass on where it is"
    )


def unstorable(name: str, value: Any) -> str | None:
    """Return why the database cannot keep a value, as a sentence; None when it can."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return f"{name} holds a number that is not finite; give null or leave it out"
    if _NUL.search(text) or _LONE_SURROGATE.search(text):
        return f"{name} holds a NUL character or half a surrogate pair; take it out of the text"
    return None
