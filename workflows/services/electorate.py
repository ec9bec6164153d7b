"""Who may decide on a request: the members of its group, and those they have handed their vote to.

Being a superuser makes nobody a member. Who has started the run decides only where the definition
says so (`allow_self`), nor does anybody in their place. Nobody decides twice on one request: who
votes in the place of a member has had their say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import Group, User
from django.db.models import Q

from workflows.models import Delegation, Vote, Wait, usable

PEOPLE = frozenset({"person", "token", "command"})
"""The kinds of actors that bear a person's name."""

NAMED = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a person may decide on a request: in whose place, or else why not."""

    member: User | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Electorate:
    """Those who could decide on a request, and what that comes to."""

    able: tuple[str, ...]
    advice: str = ""
    """What to do when they cannot decide it; nothing when they can."""


def starter_of(started_by: str) -> str:
    """Return the name of the person who started a run; nothing if no person did."""
    kind, _, name = started_by.partition(":")
    return name.partition("/")[0] if kind in PEOPLE else ""


def standing(wait: Wait, person: User, *, now: datetime) -> Standing:  # noqa: PLR0911 - one for each reason
    """Say whether a person may decide on an open request, whose run is at hand."""
    group, starter = wait.name, _kept_out(wait)
    if not person.is_active:
        return Standing(refusal=f"The account {person.username} is not active.")
    if person.username == starter:
        return Standing(
            refusal=f"{person.username} has started the run, and nobody approves what they"
            " started; another member of the group has to decide."
        )
    votes = list(Vote.objects.filter(wait=wait.pk))
    if own := next((vote for vote in votes if vote.person_id == person.pk), None):
        return Standing(
            refusal=f"{person.username} has decided already, at {_time(own.at)}: {own.verdict}."
        )
    used = {vote.member_id: vote for vote in votes}
    is_member = person.groups.filter(name=group).exists()
    if is_member and person.pk not in used:
        return Standing(person)
    for giver in _givers(wait, person, now=now):
        if giver.pk not in used and giver.username != starter:
            return Standing(giver)
    if is_member:
        return Standing(
            refusal=f"{used[person.pk].person_name} has decided in the place of {person.username}."
        )
    return Standing(
        refusal=f"{person.username} is no member of the group {group}, and no member has handed"
        " their vote on. Ask a member, or whoever manages the groups."
    )


def electorate(wait: Wait) -> Electorate:
    """Return those who may decide on an open request, and what to do if they are too few."""
    starter = _kept_out(wait)
    members = list(
        User.objects.filter(groups__name=wait.name, is_active=True)
        .order_by("username")
        .values_list("username", flat=True)
    )
    able = tuple(name for name in members if name != starter)
    needed = int(wait.request.get("approvals", 1))
    if len(able) >= needed:
        return Electorate(able)
    return Electorate(able, _advice(wait.name, members, able, needed))


def members_named(names: Sequence[str]) -> str:
    """Return the first of the names as a list in words."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _givers(wait: Wait, person: User, *, now: datetime) -> Iterable[User]:
    handed = Delegation.objects.filter(usable(person.pk, now=now))
    given = handed.filter(Q(wait=wait.pk) | Q(wait__isnull=True)).values_list("giver", flat=True)
    found = User.objects.filter(pk__in=list(given), is_active=True, groups__name=wait.name)
    return found.order_by("pk")


def _kept_out(wait: Wait) -> str:
    """Return the name of who has started the run, unless that is no matter."""
    return "" if wait.request.get("allow_self") else starter_of(wait.run.started_by)


def _advice(group: str, members: Sequence[str], able: Sequence[str], needed: int) -> str:
    if not Group.objects.filter(name=group).exists():
        return (
            f"There is no group {group}, so nobody can decide. Create it, and make those its"
            " members who are to decide."
        )
    if not able:
        why = (
            f"has no member but {members[0]}, who has started the run"
            if members
            else "has no active member"
        )
        return f"The group {group} {why}, so nobody can decide. Add {needed} who may."
    return (
        f"{needed} members of {group} must approve, and only {len(able)} can:"
        f" {members_named(able)}. Add {needed - len(able)} more to the group."
    )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
