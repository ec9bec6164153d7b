"""Profiles: which there are and who has them. What is in them is shown nowhere."""

from typing import Any

from django.db.models import QuerySet

from environments.models import Profile
from environments.states import ProfileState
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import PAGE, Order, Page, page_of
from workflows.selectors.shapes import ProfileDocument, json_time_or_none

BY_PLACE = Order(("pool__environment__name", "pool__name", "name"))


def profiles(
    *, environment: str | None = None, pool: str | None = None, state: str | None = None
) -> QuerySet[Profile]:
    """Return profiles without their contexts."""
    wanted: dict[str, Any] = {
        "pool__environment__name": environment,
        "pool__name": pool,
        "state": state,
    }
    given = {key: value for key, value in wanted.items() if value is not None}
    return Profile.objects.defer("context").select_related("pool__environment").filter(**given)


def list_profiles(
    *, after: str | None = None, limit: int = PAGE, **wanted: str | None
) -> Page[ProfileDocument]:
    """Return a page of profiles by environment, pool and name."""
    return page_of(profiles(**wanted), BY_PLACE, after=after, limit=limit).of(profile_document)


def get_profile(profile: int) -> ProfileDocument:
    """Return a profile. Raises `MissingError`."""
    row = profiles().filter(pk=profile).first()
    if row is None:
        raise MissingError("profile", str(profile))
    return profile_document(row)


def who_has(profile: Profile) -> str:
    """Say who has a profile."""
    if profile.state != ProfileState.LEASED:
        return ""
    if not profile.path:
        return "its run, until that ends"
    doing = "used by" if profile.taken_at else "kept for"
    return f"{doing} {profile.path}, attempt {profile.attempt}"


def folder_of(profile: Profile) -> str:
    """Return where the working folder of a profile is, below PROFILE_DIR of its workers."""
    return f"{profile.pool.environment.name}/{profile.pk}.{profile.turn}"


def profile_document(row: Profile) -> ProfileDocument:
    """Return a profile as JSON, without what is in it."""
    return {
        "id": row.pk,
        "environment": row.pool.environment.name,
        "pool": row.pool.name,
        "name": row.name,
        "state": row.state,
        "run": str(row.run_id) if row.run_id else None,
        "path": row.path or None,
        "attempt": row.attempt or None,
        "held_for_run": row.for_run,
        "leased_at": json_time_or_none(row.leased_at),
        "saved_at": json_time_or_none(row.saved_at),
        "why": row.why,
        "folder": folder_of(row),
    }
