"""Approvals: what waits for a decision of people, whose it is, and who has said what.

`to_decide` says in SQL what `services.electorate` says of one request; a test holds the two
against each other.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db.models import Exists, OuterRef, Q, QuerySet

from workflows.engine.states import Reason
from workflows.models import Approval, Delegation, Verdict, Vote, usable
from workflows.selectors.counts import number_of
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import NEWEST_FIRST, OLDEST_FIRST, PAGE, Page, page_of
from workflows.selectors.shapes import (
    ApprovalDocument,
    ApprovalSummary,
    DelegationDocument,
    VoteDocument,
    json_time,
    json_time_or_none,
)

_HEAVY = ("run__input", "run__output", "run__vars", "run__ending", "run__error")
_STEP = ("step__output", "step__arguments", "step__error")
_APPROVED = number_of(
    Vote.objects.filter(wait=OuterRef("pk"), verdict=Verdict.APPROVE.value), "wait"
)


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """Which requests: all that is given must hold; `open` as None means open and closed.

    `seen_by` narrows to those that concern a person, `decided_by` to those that they can decide.
    """

    open: bool | None = True
    group: str | None = None
    workflow: str | None = None
    environment: str | None = None
    run: UUID | None = None
    seen_by: User | None = None
    decided_by: User | None = None


OPEN = ApprovalFilter()


def approvals(where: ApprovalFilter = OPEN, *, now: datetime) -> QuerySet[Approval]:
    """Return the requests with the names they show; rows carry `approved`, a number."""
    found = (
        Approval.objects.filter(kind=Reason.APPROVAL.value)
        .select_related("run__workflow", "run__environment", "step")
        .defer(*_HEAVY, *_STEP)
        .annotate(approved=_APPROVED)
    )
    if where.open is not None:
        found = found.filter(closed_at__isnull=where.open)
    wanted = {
        "name": where.group,
        "run__workflow__name": where.workflow,
        "run__environment__name": where.environment,
        "run": where.run,
    }
    found = found.filter(**{key: value for key, value in wanted.items() if value is not None})
    if where.seen_by is not None:
        found = found.filter(concerning(where.seen_by, now=now))
    if where.decided_by is not None:
        found = found.filter(to_decide(where.decided_by, now=now))
    return found


def list_approvals(
    where: ApprovalFilter = OPEN, *, now: datetime, after: str | None = None, limit: int = PAGE
) -> Page[ApprovalSummary]:
    """Return a page of requests: the open ones from the oldest, else from the newest."""
    order = OLDEST_FIRST if where.open else NEWEST_FIRST
    found = page_of(approvals(where, now=now), order, after=after, limit=limit)
    return found.of(approval_summary)


def get_approval(approval_id: UUID) -> Approval:
    """Return the request, open or closed, with its run. Raises `MissingError`."""
    found = Approval.objects.filter(kind=Reason.APPROVAL.value).select_related(
        "run__workflow", "run__version", "run__environment", "step"
    )
    light = found.defer("run__version__source", "run__version__document", "run__version__plan")
    try:
        return light.annotate(approved=_APPROVED).get(pk=approval_id)
    except Approval.DoesNotExist:
        raise MissingError("approval", approval_id) from None


def votes_of(approval: Approval) -> list[Vote]:
    """Return what has been said to a request, the first one first."""
    return list(Vote.objects.filter(wait=approval.pk).order_by("id"))


def concerning(person: User, *, now: datetime) -> Q:
    """Say in SQL which requests are, or were, for a person: by a group or by a vote handed on."""
    spans, single = _handed_to(person, now)
    groups = {*_groups_of([person.pk]), *_groups_of(spans)}
    handed = Q(pk__in=[wait for _, wait in single])
    return Q(name__in=groups) | handed | _voted("person", person)


def to_decide(person: User, *, now: datetime) -> Q:
    """Say in SQL which open requests a person can decide on, in their own place or another's."""
    spans, single = _handed_to(person, now)
    givers = User.objects.filter(pk__in=[*spans, *(giver for giver, _ in single)], is_active=True)
    can = Q(name__in=_groups_of([person.pk])) & ~_voted("member", person)
    for giver in givers:
        own = Q(name__in=_groups_of([giver.pk]))
        if giver.pk not in spans:
            own &= Q(pk__in=[wait for one, wait in single if one == giver.pk])
        can |= own & ~_voted("member", giver) & ~_kept_out(giver)
    may = ~_kept_out(person) & ~_voted("person", person) & Q(closed_at__isnull=True)
    return may & can if person.is_active else Q(pk__in=[])


def may_have_any(person: User, *, now: datetime) -> bool:
    """Say whether any request may ever concern a person."""
    spans, single = _handed_to(person, now)
    return bool(spans or single or person.groups.exists())


def delegations(person: User) -> QuerySet[Delegation]:
    """Return the votes that a person has handed on, or was handed."""
    return Delegation.objects.filter(Q(giver=person) | Q(taker=person))


def list_delegations(
    person: User, *, after: str | None = None, limit: int = PAGE
) -> Page[DelegationDocument]:
    """Return a page of the votes that a person has handed on or was handed, the newest first."""
    found = page_of(delegations(person), NEWEST_FIRST, after=after, limit=limit)
    return found.of(delegation_document)


def groups_asked() -> list[str]:
    """Return the names of the groups that can be asked."""
    return list(Group.objects.order_by("name").values_list("name", flat=True))


def approval_summary(approval: Approval) -> ApprovalSummary:
    """Return a request of `approvals` as a list shows it."""
    request, is_open = approval.request, approval.closed_at is None
    return {
        "id": str(approval.pk),
        "run": str(approval.run_id),
        "workflow": approval.run.workflow.name,
        "environment": approval.run.environment.name,
        "path": approval.path,
        "title": str(approval),
        "message": request["message"] or request["description"] or "",
        "group": approval.name,
        "escalated": bool(request.get("escalated")),
        "approvals": request["approvals"],
        "approved": approval.approved,  # type: ignore[attr-defined] # annotated by `approvals`
        "outcome": outcome_of(approval),
        "started_by": approval.run.started_by,
        "opened_at": json_time(approval.opened_at),
        "due_at": json_time_or_none(approval.step.wake_at if is_open else None),
        "closed_at": json_time_or_none(approval.closed_at),
        "closed_by": approval.answered_by or None,
    }


def approval_document(approval: Approval) -> ApprovalDocument:
    """Return a request of `get_approval` as JSON, with its form and what has been said to it."""
    return {
        **approval_summary(approval),
        "allow_self": approval.request["allow_self"],
        "form": approval.request["form"],
        "input": approval.run.input,
        "votes": [vote_document(vote) for vote in votes_of(approval)],
    }


def outcome_of(approval: Approval) -> str:
    """Return what has become of a request, in a word: `open`, or how it was closed."""
    if approval.closed_at is None:
        return "open"
    return str((approval.answer or {}).get("outcome", "withdrawn"))


def vote_document(vote: Vote) -> VoteDocument:
    """Return a vote as JSON."""
    return {
        "id": str(vote.pk),
        "person": vote.person_name,
        "member": vote.member_name,
        "verdict": vote.verdict,  # type: ignore[typeddict-item] # the column's choices
        "note": vote.note,
        "form": vote.form,
        "at": json_time(vote.at),
        "by": vote.by,
    }


def delegation_document(delegation: Delegation) -> DelegationDocument:
    """Return a vote that was handed on as JSON."""
    return {
        "id": str(delegation.pk),
        "giver": delegation.giver_name,
        "taker": delegation.taker_name,
        "approval": str(delegation.wait_id) if delegation.wait_id else None,
        "begins_at": json_time(delegation.begins_at),
        "ends_at": json_time_or_none(delegation.ends_at),
        "note": delegation.note,
        "given_at": json_time(delegation.given_at),
        "given_by": delegation.given_by,
        "withdrawn_at": json_time_or_none(delegation.withdrawn_at),
    }


def _handed_to(person: User, now: datetime) -> tuple[set[int], list[tuple[int, UUID]]]:
    """Return who has handed a person all their votes, and who has for a single request."""
    handed = Delegation.objects.filter(usable(person.pk, now=now), wait__closed_at__isnull=True)
    found = list(handed.values_list("giver", "wait"))
    return (
        {giver for giver, wait in found if wait is None},
        [(giver, wait) for giver, wait in found if wait is not None],
    )


def _groups_of(people: list[int] | set[int]) -> list[str]:
    if not people:
        return []
    return list(Group.objects.filter(user__in=people).values_list("name", flat=True).distinct())


def _voted(column: str, person: User) -> Q:
    return Q(Exists(Vote.objects.filter(wait=OuterRef("pk"), **{column: person.pk})))


def _kept_out(person: User) -> Q:
    """Say in SQL that a person has started the run, and may not decide therefore."""
    names = [f"{kind}:{person.username}" for kind in ("person", "command")]
    started = Q(run__started_by__in=names) | Q(
        run__started_by__startswith=f"token:{person.username}/"
    )
    return started & ~Q(request__allow_self=True)
