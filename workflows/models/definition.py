"""A workflow, and the immutable numbered versions of its definition."""

import pgtrigger
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7


class Workflow(models.Model):
    """A named procedure."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=128, unique=True)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        permissions = [("start_workflow", "Can start runs of workflows")]

    def __str__(self) -> str:
        return self.name


class Version(models.Model):
    """A revision of a definition: its source, its checked document, its compiled plan."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    source = models.TextField(help_text="The text as it was applied.")
    document = models.JSONField(help_text="The definition as checked, durations in seconds.")
    plan = models.BinaryField(help_text="The compiled plan, JSON: see workflows.engine.plan.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the checked document.")
    environment = models.CharField(max_length=64)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["workflow", "-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "number"], name="a_version_number_is_given_once"
            ),
        ]
        triggers = [pgtrigger.Protect(name="a_version_never_changes", operation=pgtrigger.Update)]

    def __str__(self) -> str:
        return f"{self.workflow.name} v{self.number}"
