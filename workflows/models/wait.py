"""A wait: what a step waits for from outside, and by what that was ended."""

from django.db import models
from django.db.models import Q, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce
from uuid_utils.compat import uuid7

from workflows.engine.decision import AttemptEnd
from workflows.engine.states import OUTSIDE, Due, Reason
from workflows.models import law
from workflows.models.run import Run
from workflows.models.step import Step

KINDS = [(kind.value, kind.value.capitalize()) for kind in sorted(OUTSIDE)]


def dues() -> list[tuple[str, str]]:
    """Return what may be due about a child run."""
    return law.choices(Due)


class Wait(models.Model):
    """One attempt of a step to get something from outside. Written by `workflows.store` alone.

    It is open exactly as long as its step is WAITING for it; the step's `wake_at` is the end of
    its patience. `name` is what open waits are looked up by: the type of an event, the group that
    approves, the workflow of a child run. `answer` says what has ended it. `child` is the run that
    it is for, and `due` what is still to be done about that: written in the transaction in which it
    comes to be due, so that it is done whoever dies.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="waits", db_constraint=False, db_index=False
    )
    step = models.ForeignKey(
        Step, on_delete=models.CASCADE, related_name="waits", db_constraint=False, db_index=False
    )
    path = models.CharField(max_length=1000, db_collation="C")
    attempt = models.IntegerField()
    kind = models.CharField(max_length=16, choices=KINDS)
    name = models.CharField(max_length=200, blank=True)
    request = models.JSONField(default=dict)
    key = models.GeneratedField(
        expression=Coalesce(KT("request__key"), Value(""), output_field=models.TextField()),
        output_field=models.CharField(max_length=400, db_collation="C"),
        db_persist=True,
        help_text="What an event must have to be it, as workflows.language.correlation writes it.",
    )
    child = models.ForeignKey(
        Run,
        on_delete=models.DO_NOTHING,
        related_name="awaited_by",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    due = models.CharField(max_length=8, null=True, choices=dues)  # noqa: DJ001 - mostly nothing is
    opened_at = models.DateTimeField()
    sought_at = models.DateTimeField(
        null=True, help_text="When early events were looked at; only for those that wait for one."
    )
    closed_at = models.DateTimeField(null=True)
    end = models.CharField(max_length=16, blank=True, choices=law.choices(AttemptEnd))
    answer = models.JSONField(null=True)
    answered_by = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("see_callback_url", "Can see the callback URLs of steps")]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "path", "attempt"], name="a_step_waits_once_in_an_attempt"
            ),
            models.CheckConstraint(
                name="a_closed_wait_says_how_and_by_whom",
                condition=Q(closed_at__isnull=True, end="", answered_by="")
                | (Q(closed_at__isnull=False) & ~Q(end="") & ~Q(answered_by="")),
            ),
        ]
        indexes = [
            models.Index(
                fields=["-id"], name="approvals_by_age", condition=Q(kind=Reason.APPROVAL.value)
            ),
            models.Index(
                fields=["kind", "name", "id"],
                name="waits_that_are_open",
                condition=Q(closed_at__isnull=True),
            ),
            models.Index(
                fields=["name", "key", "id"],
                name="waits_for_events",
                condition=Q(kind="event", closed_at__isnull=True),
            ),
            models.Index(
                fields=["id"],
                name="waits_to_seek_events_for",
                condition=Q(kind="event", closed_at__isnull=True, sought_at__isnull=True),
            ),
            models.Index(fields=["run"], name="children_to_see_to", condition=Q(due__isnull=False)),
            models.Index(
                fields=["child", "-attempt"],
                name="who_waits_for_a_child",
                condition=Q(child__isnull=False),
            ),
        ]
        triggers = [law.emptying_trigger("waits_are_never_emptied")]

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}"
