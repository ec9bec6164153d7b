"""Approvals: decide on a request, hand a vote on, take it back.

A decision and the end of its step are one transaction. It holds the row of the step, as whatever
else ends the wait does: so of two people at the same moment the second sees what the first has
done, and a decision that comes after the end of the wait is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from uuid_utils.compat import uuid7

from workflows import store
from workflows.engine import approving
from workflows.engine.events import Answered
from workflows.engine.states import Reason
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.models import Approval, Delegation, Step, Verdict, Vote
from workflows.services.electorate import standing, starter_of
from workflows.services.errors import (
    InputRefusedError,
    NotAllowedError,
    NotFoundError,
    StateRefusedError,
    refuse_unstorable,
)
from workflows.services.flights import in_transaction
from workflows.services.plans import pinned
from workflows.services.progress import advance_run
from workflows.services.report import Report, each

LONGEST_NOTE = 2000
LONGEST_SPAN = timedelta(days=366)
"""For how long a vote can be handed on at most."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says to a request: yes, with what was asked for, or no, and why."""

    verdict: Verdict
    note: str = ""
    form: Mapping[str, Any] | None = None


def decide(*, approval_id: UUID, person: User, said: Said, by: str) -> Vote:
    """Record what a person says; the step ends with the first rejection or the last approval.

    Raises InputRefusedError, NotAllowedError, NotFoundError and StateRefusedError.
    """
    _refuse_note(said)
    return in_transaction(partial(_decide, uuid7(), approval_id, person, said, by))


def decide_many(*, approval_ids: Iterable[UUID], person: User, said: Said, by: str) -> Report:
    """Say the same to each request, and report which did not take it."""
    return each(
        said.verdict.value.capitalize(),
        approval_ids,
        lambda one: decide(approval_id=one, person=person, said=said, by=by),
    )


def delegate(*, approval_id: UUID, person: User, to: str, note: str = "", by: str) -> Delegation:
    """Hand the vote of a member on one request to somebody else.

    Raises InputRefusedError, NotAllowedError, NotFoundError and StateRefusedError.
    """
    _refuse_long(note)
    return in_transaction(partial(_delegate, uuid7(), approval_id, person, to, note, by))


def delegate_for_a_time(  # noqa: PLR0913 - the facts of one row, named
    *,
    person: User,
    to: str,
    begins_at: datetime | None = None,
    ends_at: datetime,
    note: str = "",
    by: str,
) -> Delegation:
    """Hand every vote of a person to somebody else for a span of time.

    Raises InputRefusedError.
    """
    _refuse_long(note)
    now = store.now()
    begins_at = begins_at or now
    if ends_at <= max(begins_at, now):
        raise InputRefusedError(
            "The span of time ends before it begins, or has ended already. Give a later end."
        )
    if ends_at - begins_at > LONGEST_SPAN:
        raise InputRefusedError(
            f"A vote is handed on for {LONGEST_SPAN.days} days at most. Give an earlier end."
        )
    if not person.groups.exists():
        raise InputRefusedError(
            f"{person.username} is in no group, so there is no vote to hand on."
        )
    taker = _taker(person, to)
    return Delegation.objects.create(
        **_handed(person, taker, note, by, now), begins_at=begins_at, ends_at=ends_at
    )


def withdraw(*, delegation_id: UUID, person: User, by: str) -> Delegation:
    """Take back a vote that was handed on; what was voted with it stands.

    Raises NotAllowedError, NotFoundError and StateRefusedError.
    """

    def work() -> Delegation:
        found = Delegation.objects.select_for_update().filter(pk=delegation_id).first()
        if found is None:
            raise NotFoundError("delegation", delegation_id)
        if found.giver_id != person.pk:
            raise NotAllowedError(f"Only {found.giver_name} can take this vote back.")
        if found.withdrawn_at is not None:
            raise StateRefusedError(f"{found.withdrawn_by} has taken this vote back already.")
        found.withdrawn_at, found.withdrawn_by = store.now(), by
        found.save(update_fields=["withdrawn_at", "withdrawn_by"])
        return found

    return in_transaction(work)


def how_it_ended(wait: Approval) -> str:
    """Say what has become of a request that is closed."""
    by = wait.answered_by.partition(":")[2] or wait.answered_by
    at = f"{wait.closed_at:%Y-%m-%d %H:%M:%S} UTC" if wait.closed_at else ""
    outcome = (wait.answer or {}).get("outcome")
    match outcome:
        case "approved" | "rejected":
            return f"It was {outcome} by {by} at {at}."
        case "escalated":
            return f"Its time was up at {at}, and {wait.answer['to']} were asked instead."  # type: ignore[index] # there is an outcome
        case "timed_out":
            return f"Its time was up at {at}."
        case _:
            return f"The step waits for it no more since {at}: it was ended by {by}."


def _decide(vote_id: UUID, approval_id: UUID, person: User, said: Said, by: str) -> Vote:
    known = Vote.objects.filter(pk=vote_id).first()
    if known is not None:  # The answer to an earlier try was lost.
        return known
    wait, now = _held(approval_id), store.now()
    stands = standing(wait, person, now=now)
    if stands.member is None:
        raise NotAllowedError(stands.refusal)
    vote = Vote.objects.create(
        id=vote_id,
        run_id=wait.run_id,
        wait_id=wait.pk,
        person=person,
        person_name=person.username,
        member=stands.member,
        member_name=stands.member.username,
        verdict=said.verdict.value,
        note=said.note.strip(),
        form=_filled_in(wait, said),
        at=now,
        by=by,
    )
    event = _outcome(wait, vote)
    if event is not None:
        progress = advance_run(pinned(wait.run_id), event, now=now, actor=by)
        if not progress.decision.closings:
            raise StateRefusedError(f"The step {wait.path} waits for this decision no more.")
    return vote


def _held(approval_id: UUID) -> Approval:
    """Return an open request whose step is held, so that nothing else ends it meanwhile."""
    requests = Approval.objects.filter(kind=Reason.APPROVAL.value)
    step = requests.filter(pk=approval_id).values_list("step", flat=True).first()
    if step is None:
        raise NotFoundError("approval", approval_id)
    Step.objects.select_for_update().only("pk").get(pk=step)
    wait = requests.select_related("run").get(pk=approval_id)
    if wait.closed_at is not None:
        raise StateRefusedError(f"There is nothing to decide any more. {how_it_ended(wait)}")
    return wait


def _outcome(wait: Approval, vote: Vote) -> Answered | None:
    """Return how the step ends with this vote; None while others are to follow."""
    outcome: dict[str, Any] = {"outcome": "rejected", "vote": str(vote.pk)}
    if vote.verdict == Verdict.REJECT:
        error = approving.rejection(wait.path, by=vote.person_name, note=vote.note)
        return Answered(
            wait.path, Reason.APPROVAL, error=error, attempt=wait.attempt, answer=outcome
        )
    votes = list(Vote.objects.filter(wait=wait.pk, verdict=Verdict.APPROVE.value).order_by("id"))
    if len(votes) < wait.request["approvals"]:
        return None
    output = approving.approved(
        by=[one.person_name for one in votes],
        form=vote.form,
        at=vote.at,
        votes=[_told(one) for one in votes],
    )
    refuse_unstorable(f"the output of {wait.path}", output)
    outcome["outcome"] = "approved"
    return Answered(wait.path, Reason.APPROVAL, output, attempt=wait.attempt, answer=outcome)


def _told(vote: Vote) -> dict[str, Any]:
    """Return a vote as the output of the step tells of it."""
    told = {"by": vote.person_name, "note": vote.note, "form": vote.form}
    return told if vote.member_id == vote.person_id else {**told, "for": vote.member_name}


def _filled_in(wait: Approval, said: Said) -> dict[str, Any] | None:
    """Return what was filled in, with the defaults of the form."""
    schema = wait.request.get("form")
    if said.verdict is Verdict.REJECT or schema is None:
        if said.form:
            why = "a rejection takes a note alone" if schema else "this request has no form"
            raise InputRefusedError(f"Nothing is to be filled in: {why}.")
        return None
    try:
        filled: dict[str, Any] = prepare(schema, said.form)
    except InputError as error:
        findings = [finding.as_dict() for finding in error.findings]
        message = f"What was filled in does not fit the form of {wait.path}."
        raise InputRefusedError(message, findings) from error
    refuse_unstorable("what was filled in", filled)
    return filled


def _delegate(  # noqa: PLR0913, PLR0917 - handed on as it came
    identity: UUID, approval_id: UUID, person: User, to: str, note: str, by: str
) -> Delegation:
    known = Delegation.objects.filter(pk=identity).first()
    if known is not None:
        return known
    wait, now = _held(approval_id), store.now()
    stands = standing(wait, person, now=now)
    if stands.member is None:
        raise NotAllowedError(stands.refusal)
    if stands.member.pk != person.pk:
        raise NotAllowedError(
            f"{person.username} was handed the vote of {stands.member.username}, and cannot hand"
            " it on."
        )
    taker = _taker(person, to)
    if not wait.request.get("allow_self") and taker.username == starter_of(wait.run.started_by):
        raise InputRefusedError(f"{to} has started the run, and nobody approves what they started.")
    if taker.groups.filter(name=wait.name).exists():
        raise InputRefusedError(f"{to} is a member of {wait.name}, and decides for themselves.")
    handed = Delegation.objects.filter(wait=wait.pk, giver=person, withdrawn_at__isnull=True)
    if (earlier := handed.first()) is not None:
        raise StateRefusedError(
            f"{person.username} has handed this vote to {earlier.taker_name} already; take that"
            " back first."
        )
    facts = _handed(person, taker, note, by, now)
    return Delegation.objects.create(
        id=identity, **facts, begins_at=now, wait_id=wait.pk, run_id=wait.run_id
    )


def _handed(giver: User, taker: User, note: str, by: str, now: datetime) -> dict[str, Any]:
    return {
        "giver": giver,
        "giver_name": giver.username,
        "taker": taker,
        "taker_name": taker.username,
        "note": note.strip(),
        "given_at": now,
        "given_by": by,
    }


def _taker(person: User, name: str) -> User:
    """Return whom a vote is handed to."""
    found = User.objects.filter(username=name).first()
    if found is None or not found.is_active:
        raise InputRefusedError(
            f"There is no active account {name} that a vote could be handed to. Name another."
        )
    if found.pk == person.pk:
        raise InputRefusedError(f"{name} is the one who hands the vote on. Name somebody else.")
    return found


def _refuse_note(said: Said) -> None:
    _refuse_long(said.note)
    if said.verdict is Verdict.REJECT and not said.note.strip():
        raise InputRefusedError("A request is rejected with a note that says why.")


def _refuse_long(note: str) -> None:
    if len(note) > LONGEST_NOTE:
        raise InputRefusedError(
            f"The note has {len(note)} characters; give at most {LONGEST_NOTE}."
        )
    refuse_unstorable("the note", note)
