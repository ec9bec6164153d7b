"""Durations as people write them: `250ms`, `1h30m`, `PT30M`; float seconds inside the code.

A plain number is seconds. Months and years have no fixed length and are refused.
"""

import math
import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
LONGEST = 3660 * UNITS["d"]
HINT = "write it like 250ms, 30s, 1h30m, 7d or PT30M"

_NUMBER = r"(\d+(?:\.\d+)?)"
_PLAIN = re.compile(
    rf"(?:{_NUMBER}w)?(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?"
    rf"(?:{_NUMBER}s)?(?:{_NUMBER}ms)?",
    re.ASCII,
)
_PLAIN_FACTORS = tuple(UNITS[unit] for unit in ("w", "d", "h", "m", "s", "ms"))
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?"
    rf"(?:T(?=\d)(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.ASCII,
)
_ISO_FACTORS = tuple(UNITS[unit] for unit in ("w", "d", "h", "m", "s"))
_LONGEST_TEXT = 100


PATTERN = f"^(?:(?=.){_PLAIN.pattern}|{_ISO.pattern})$"


class DurationError(ValueError):
    """The text is no duration; the message says which text and why."""


def parse(value: object) -> float:
    """Return the seconds of `value`, never negative; `DurationError` if it is no duration."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        message = f"{_short(value)} is not a duration"
        raise DurationError(message)
    seconds = _of_text(value) if isinstance(value, str) else value
    if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST):
        message = f"{_short(value)} is not a duration between 0 and {LONGEST / UNITS['d']:.0f} days"
        raise DurationError(message)
    return float(seconds)


def _of_text(text: str) -> float:
    for pattern, factors in ((_PLAIN, _PLAIN_FACTORS), (_ISO, _ISO_FACTORS)):
        match = pattern.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
        if match and any(match.groups()):
            parts = zip(match.groups(), factors, strict=True)
            return math.fsum(float(number) * factor for number, factor in parts if number)
    message = f"{_short(text)} is not a duration"
    raise DurationError(message)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}..."
