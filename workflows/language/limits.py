"""How large things may be. Larger values belong in an artifact, with a reference in their place."""

import json
from typing import Any

LARGEST_VALUE = 256 * 1024
"""Bytes of a value as compact JSON: an input, an output, the run variables."""


def too_large(name: str, value: Any) -> str | None:
    """Return why a value is refused, as a sentence; None when it is small enough."""
    size = len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())
    if size <= LARGEST_VALUE:
        return None
    return (
        f"{name} has {size:,} bytes as JSON, and at most {LARGEST_VALUE:,} are kept;"
        " store it as an artifact and pass on where it is"
    )
