"""Moments as people write them: RFC 3339 (`2026-12-24T18:00:00Z`), always with an offset."""

from datetime import UTC, datetime

HINT = "write it like 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00"


class MomentError(ValueError):
    """The value is no moment; the message says why."""


def parse(value: object) -> datetime:
    """Return the moment in UTC; `MomentError` if `value` is none."""
    if not isinstance(value, str):
        raise MomentError(f"a moment is text; {HINT}")
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise MomentError(f"the text is no moment; {HINT}") from None
    if found.tzinfo is None:
        raise MomentError(f"without an offset nobody knows which moment it is; {HINT}")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise MomentError(f"the moment is outside of the calendar; {HINT}") from None
