"""Approvals: the requests of steps that wait for people, their votes, and votes handed on.

A vote never changes, and leaves with its run alone. Names of people stand beside their ids, so
that a vote says whose it is when the account is gone.
"""

from datetime import datetime
from enum import StrEnum

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from uuid_utils.compat import uuid7

from workflows.models import law
from workflows.models.run import Run
from workflows.models.wait import Wait


class Verdict(StrEnum):
    """What a person says to a request."""

    APPROVE = "approve"
    REJECT = "reject"


class Approval(Wait):
    """A wait for a decision of people; `name` is the group that is asked."""

    class Meta:
        proxy = True
        default_permissions = ("view",)

    def __str__(self) -> str:
        return str(self.request.get("title") or self.path)


class Vote(models.Model):
    """What `person` has said to a request, in the place of `member`; mostly these are the same."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="votes", db_constraint=False, db_index=False
    )
    wait = models.ForeignKey(
        Wait, on_delete=models.CASCADE, related_name="votes", db_constraint=False, db_index=False
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    person_name = models.CharField(max_length=150)
    member = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    member_name = models.CharField(max_length=150)
    verdict = models.CharField(max_length=8, choices=law.choices(Verdict))
    note = models.TextField(blank=True)
    form = models.JSONField(null=True)
    at = models.DateTimeField()
    by = models.CharField(max_length=200, help_text="The actor, as the journal has it.")

    class Meta:
        ordering = ["id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["wait", "person"], name="a_person_votes_once_on_a_request"
            ),
            models.UniqueConstraint(
                fields=["wait", "member"], name="a_member_has_one_vote_on_a_request"
            ),
            models.CheckConstraint(
                name="a_rejection_says_why", condition=Q(verdict="approve") | ~Q(note="")
            ),
        ]
        triggers = [
            law.unchanging_trigger("a_vote_never_changes"),
            law.removal_trigger("a_vote_goes_with_its_finished_run"),
            law.emptying_trigger("votes_are_never_emptied"),
        ]

    def __str__(self) -> str:
        return f"{self.person_name}: {self.verdict}"


class Delegation(models.Model):
    """A member has handed their vote to somebody: on one request, or on all for a span of time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    giver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
    )
    giver_name = models.CharField(max_length=150)
    taker = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    taker_name = models.CharField(max_length=150)
    run = models.ForeignKey(
        Run,
        on_delete=models.CASCADE,
        related_name="delegations",
        db_constraint=False,
        null=True,
    )
    wait = models.ForeignKey(
        Wait,
        on_delete=models.CASCADE,
        related_name="delegations",
        db_constraint=False,
        db_index=False,
        null=True,
    )
    begins_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True)
    note = models.TextField(blank=True)
    given_at = models.DateTimeField()
    given_by = models.CharField(max_length=200)
    withdrawn_at = models.DateTimeField(null=True)
    withdrawn_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["wait", "giver"],
                condition=Q(withdrawn_at__isnull=True),
                name="a_vote_on_a_request_is_handed_on_once",
            ),
            models.CheckConstraint(
                name="nobody_hands_a_vote_to_themselves", condition=~Q(giver=F("taker"))
            ),
            models.CheckConstraint(
                name="a_vote_is_handed_on_for_a_request_or_a_span_of_time",
                condition=Q(wait__isnull=False, run__isnull=False, ends_at__isnull=True)
                | Q(wait__isnull=True, run__isnull=True, ends_at__gt=F("begins_at")),
            ),
            models.CheckConstraint(
                name="a_withdrawal_says_who_and_when",
                condition=Q(withdrawn_at__isnull=True, withdrawn_by="")
                | (Q(withdrawn_at__isnull=False) & ~Q(withdrawn_by="")),
            ),
        ]
        indexes = [
            models.Index(
                fields=["taker", "ends_at"],
                name="votes_that_are_handed_on",
                condition=Q(withdrawn_at__isnull=True),
            ),
        ]
        triggers = [
            law.once_trigger(
                "what_was_handed_on_is_only_withdrawn", columns=("withdrawn_at", "withdrawn_by")
            ),
            law.removal_trigger("a_vote_handed_on_goes_with_its_finished_run"),
            law.emptying_trigger("votes_handed_on_are_never_emptied"),
        ]

    def __str__(self) -> str:
        return f"{self.giver_name} to {self.taker_name}"


def usable(taker: int, *, now: datetime) -> Q:
    """Say in SQL which delegations let somebody vote now: those of a request, and running spans."""
    running = Q(wait__isnull=True, begins_at__lte=now, ends_at__gt=now)
    return Q(taker=taker, withdrawn_at__isnull=True) & (Q(wait__isnull=False) | running)
