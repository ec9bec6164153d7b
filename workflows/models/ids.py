"""Ids begin with the time they were made at, to the millisecond: an age is a range of ids."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

APART = timedelta(hours=1)
"""The clocks that a row's id and its times were read from are never so far apart."""


def first_id_of(moment: datetime) -> UUID:
    """Return the smallest id that a row made at `moment` can have."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def moment_of(identity: UUID) -> datetime:
    """Return when the row with this id was made, in UTC."""
    return datetime.fromtimestamp((identity.int >> 80) / 1000, UTC)
