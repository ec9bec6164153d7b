"""Events from outside: what came, how far it has been handed out, and what it did.

And the triggers: which events start runs of which workflow. An event is a CloudEvent,
known by the id that its source gave it; the same one twice is one row.
"""

from enum import StrEnum

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from workflows.models import law
from workflows.models.definition import Version, Workflow


class ReceivedEvent(models.Model):
    """A CloudEvent. Until it has been handed out, `wake_at` says when somebody looks at it.

    `handed_to` is the last of the waiting steps that it was offered to: whoever goes on
    with it begins behind that one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    source = models.CharField(max_length=400)
    given_id = models.CharField("id", max_length=255, help_text="As its source calls it.")
    type = models.CharField(max_length=200)
    subject = models.CharField(max_length=500, blank=True)
    envelope = models.JSONField(help_text="The whole event: its attributes and its data.")
    received_at = models.DateTimeField(db_default=Now())
    received_by = models.CharField(max_length=200)
    wake_at = models.DateTimeField(null=True)
    handed_to = models.UUIDField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = "event"
        permissions = [("publish_event", "Can publish events")]
        constraints = [
            models.UniqueConstraint(
                fields=["source", "given_id"], name="an_event_is_received_once"
            ),
        ]
        indexes = [
            models.Index(fields=["type", "received_at", "id"], name="events_of_a_type"),
            models.Index(fields=["received_at"], name="events_by_age"),
            models.Index(fields=["given_id"], name="events_by_their_own_id"),
            models.Index(
                fields=["wake_at"], name="events_to_hand_out", condition=Q(wake_at__isnull=False)
            ),
            GinIndex(fields=["envelope"], opclasses=["jsonb_path_ops"], name="events_by_a_field"),
        ]
        triggers = [law.emptying_trigger("events_are_never_emptied")]

    def __str__(self) -> str:
        return f"{self.type} {self.given_id}"


class EffectKind(StrEnum):
    """What an event did."""

    WOKE = "woke"
    STARTED = "started"
    REFUSED = "refused"


class EventEffect(models.Model):
    """A step that an event woke, or a run that it started, or should have: `reason` says why not.

    A run may have been removed since.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    event = models.ForeignKey(ReceivedEvent, on_delete=models.CASCADE, related_name="effects")
    kind = models.CharField(max_length=16, choices=law.choices(EffectKind))
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="+")
    run_id = models.UUIDField(null=True)
    wait_id = models.UUIDField(null=True)
    path = models.CharField(max_length=1000, blank=True)
    reason = models.TextField(blank=True)
    at = models.DateTimeField()
    by = models.CharField(max_length=200)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "wait_id"], name="an_event_wakes_a_waiting_step_once"
            ),
            models.UniqueConstraint(
                fields=["event", "workflow"],
                condition=~Q(kind=EffectKind.WOKE.value),
                name="an_event_starts_one_run_of_a_workflow",
            ),
            models.CheckConstraint(
                name="a_refused_start_says_why",
                condition=Q(kind=EffectKind.REFUSED.value, run_id__isnull=True) & ~Q(reason="")
                | ~Q(kind=EffectKind.REFUSED.value) & Q(run_id__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["event", "id"], name="effects_of_an_event"),
            models.Index(fields=["run_id", "event"], name="events_of_a_run"),
            models.Index(
                fields=["event"],
                name="starts_that_were_refused",
                condition=Q(kind=EffectKind.REFUSED.value),
            ),
        ]
        triggers = [law.emptying_trigger("effects_are_never_emptied")]

    def __str__(self) -> str:
        return f"{self.kind} {self.path or self.workflow_id}"


class Trigger(models.Model):
    """What starts runs of the newest version of a workflow; made anew with each version."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="triggers")
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="+")
    number = models.IntegerField(help_text="Its place in the document.")
    type = models.CharField(max_length=200, help_text="The type of the events.")
    rule = models.JSONField(help_text="What it asks of an event, and what it makes of it.")

    class Meta:
        ordering = ["workflow", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "number"], name="a_trigger_has_a_place_of_its_own"
            ),
        ]
        indexes = [models.Index(fields=["type", "workflow"], name="triggers_of_a_type")]

    def __str__(self) -> str:
        return f"{self.type} -> {self.workflow_id}"
