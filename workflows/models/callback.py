"""A callback: what has come to the URL of an attempt of a step, received once."""

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from workflows.models import law
from workflows.models.run import Run


class Callback(models.Model):
    """What was sent for an attempt of a step. It may come before the step waits, and is kept then.

    `body` is kept until it is delivered: from then on it is the output of the step. `digest` tells
    the same body sent twice from another one.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="callbacks", db_constraint=False, db_index=False
    )
    path = models.CharField(max_length=1000, db_collation="C")
    attempt = models.IntegerField()
    digest = models.CharField(max_length=64)
    body = models.JSONField(null=True)
    received_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "path", "attempt"], name="a_callback_is_received_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["id"],
                name="callbacks_not_delivered",
                condition=Q(delivered_at__isnull=True),
            ),
        ]
        triggers = [law.emptying_trigger("callbacks_are_never_emptied")]

    def __str__(self) -> str:
        return f"{self.path}: attempt {self.attempt}"
