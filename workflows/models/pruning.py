"""The record of what retention has removed: who, by what bounds, how much, where it is kept."""

import pgtrigger
from django.db import models


class Pruning(models.Model):
    """What an actor removed on one day by the same bounds. Grows by a line a day at most.

    Its numbers are written in the transaction that removes the rows, so they are exact
    however it ended.
    """

    id = models.BigAutoField(primary_key=True)
    day = models.DateField()
    actor = models.CharField(max_length=200)
    bounds = models.CharField(
        max_length=400, help_text="How long after its end a run was kept, by its state."
    )
    archive = models.CharField(max_length=400, blank=True, help_text="Where the runs were kept.")
    runs = models.BigIntegerField()
    steps = models.BigIntegerField()
    attempts = models.BigIntegerField()
    journal = models.BigIntegerField()
    incidents = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "actor", "bounds", "archive"],
                name="one_line_for_a_day_an_actor_and_its_bounds",
            ),
        ]
        triggers = [
            pgtrigger.Protect(name="the_record_of_prunings_is_kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.day}: {self.runs} runs by {self.actor}"
