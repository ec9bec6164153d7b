"""An incident: a step that needs a person. The dead-letter queue is the list of open ones."""

from enum import StrEnum

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from workflows.language.words import ErrorClass
from workflows.models import law
from workflows.models.run import Run
from workflows.models.step import Step


class Resolution(StrEnum):
    """What was done about an incident."""

    REPLAYED = "replayed"
    SKIPPED = "skipped"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"


class Incident(models.Model):
    """A step whose retries are spent, whose error is permanent or whose effect is uncertain."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="incidents")
    step = models.ForeignKey(
        Step, on_delete=models.CASCADE, related_name="incidents", db_constraint=False
    )
    path = models.CharField(max_length=1000)
    attempt = models.IntegerField()
    error_class = models.CharField(max_length=16, choices=law.choices(ErrorClass))
    code = models.CharField(max_length=200)
    message = models.TextField()
    details = models.JSONField(default=dict)
    opened_at = models.DateTimeField(db_default=Now())
    resolution = models.CharField(max_length=16, blank=True, choices=law.choices(Resolution))
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=200, blank=True)
    note = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("replay_incident", "Can replay incidents"),
            ("skip_incident", "Can skip the step of an incident"),
            ("discard_incident", "Can discard incidents"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["step"],
                condition=Q(resolution=""),
                name="a_step_has_one_open_incident",
            ),
            models.CheckConstraint(
                name="a_resolved_incident_says_who_and_when",
                condition=Q(resolution="", resolved_at__isnull=True)
                | (~Q(resolution="") & Q(resolved_at__isnull=False) & ~Q(resolved_by="")),
            ),
        ]
        indexes = [
            models.Index(fields=["-id"], name="incidents_open", condition=Q(resolution="")),
        ]
        triggers = [law.emptying_trigger("incidents_are_never_emptied")]

    def __str__(self) -> str:
        return f"{self.path}: {self.code}"
