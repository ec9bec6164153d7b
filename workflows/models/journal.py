"""The journal: every transition of every run and step, with its actor. Append-only.

Written by triggers alone (see `workflows.models.law`). A transition that is not
here cannot have happened. Lines leave only with their finished run, by retention.
"""

from django.db import models
from django.db.models import Q

from workflows.models import law
from workflows.models.run import Run
from workflows.models.step import Step

ENGINE = "engine"
"""The actor of what nobody has asked for."""


class Journal(models.Model):
    """A transition. Lines about the run itself have no step and an empty path."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="journal", db_constraint=False, db_index=False
    )
    step = models.ForeignKey(
        Step,
        on_delete=models.CASCADE,
        null=True,
        related_name="journal",
        db_constraint=False,
        db_index=False,
    )
    path = models.CharField(max_length=1000)
    before = models.CharField(max_length=20)
    after = models.CharField(max_length=20)
    attempt = models.IntegerField()
    reason = models.CharField(max_length=32)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "journal"
        indexes = [
            models.Index(fields=["run", "id"], name="the_journal_of_a_run"),
            models.Index(
                fields=["actor", "-id"], name="what_others_did", condition=~Q(actor=ENGINE)
            ),
        ]
        triggers = [
            law.unchanging_trigger("the_journal_is_append_only"),
            law.removal_trigger("the_journal_goes_with_its_finished_run"),
            law.witness_trigger("the_journal_is_written_by_triggers"),
            law.emptying_trigger("the_journal_is_never_emptied"),
        ]

    def __str__(self) -> str:
        return f"{self.path or 'run'}: {self.before} -> {self.after}"
