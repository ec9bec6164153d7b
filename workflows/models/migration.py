"""A migration: how a run went over from one version of its workflow to another. Append-only."""

from django.db import models
from uuid_utils.compat import uuid7

from workflows.models import law
from workflows.models.definition import Version
from workflows.models.run import LINE, Run


class Migration(models.Model):
    """One change of the version that a run is pinned to, with what became of its steps by it.

    `number` counts those of the run. `mapping` is what a person said of steps: the path that they
    have in the new version, or null where the run does without them; `findings` is what there was
    to know about it. The version of a run changes in the transaction that writes such a row, and
    in no other.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        Run,
        on_delete=models.CASCADE,
        related_name="migrations",
        db_constraint=False,
        db_index=False,
    )
    number = models.IntegerField()
    before = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="+", db_index=False)
    after = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="+", db_index=False)
    mapping = models.JSONField(default=dict)
    findings = models.JSONField(default=list)
    by = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["run", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "number"], name="the_migrations_of_a_run_are_numbered"
            ),
        ]
        triggers = [
            law.unchanging_trigger("a_migration_never_changes"),
            law.removal_trigger("a_migration_goes_with_its_finished_run"),
            law.emptying_trigger("migrations_are_never_emptied"),
            law.arrival_trigger("migration_journal", line=LINE, reason="migrated"),
        ]

    def __str__(self) -> str:
        return f"{self.before_id} -> {self.after_id}"
