"""Circuit breakers, one for each environment and guard, and the steps that are parked.

What a breaker does is decided by `workflows.engine.breaker`; its moves are guarded by a trigger,
and written down by another. A parking is of one attempt at a step that was put aside: open while
`until` is empty, and kept, for the clocks around the step stood still meanwhile.
"""

from enum import StrEnum

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Now

from environments.models import ACTOR_AND_TIME, Environment, moves_trigger
from workflows.engine.breaker import BREAKER_MOVES, BreakerState, Rule
from workflows.language.fields import NAME
from workflows.models import law
from workflows.models.run import Run

DEFAULT = Rule()

JOURNAL = f"""
    IF OLD.state <> NEW.state OR OLD.held <> NEW.held THEN
        INSERT INTO workflows_breakerjournal (breaker_id, before, after, why, actor, at)
        VALUES (
            NEW.id, OLD.state, NEW.state, NEW.why,
            {ACTOR_AND_TIME}
        );
    END IF;
    RETURN NULL;
"""  # noqa: S608 - of our own words


class Gate(StrEnum):
    """What a parked step waits for."""

    GUARD = "guard"
    PROFILE = "profile"


def _seconds(default: int, words: str) -> "models.IntegerField[int, int]":
    return models.IntegerField(
        default=default, validators=[MinValueValidator(1)], help_text=f"Seconds {words}"
    )


class Breaker(models.Model):
    """The circuit breaker of a dependency in an environment, with its settings.

    It comes into being with its first failure, or when a person makes it to give it other settings.
    """

    id = models.BigAutoField(primary_key=True)
    environment = models.ForeignKey(
        Environment, on_delete=models.CASCADE, related_name="breakers", db_index=False
    )
    name = models.CharField(
        max_length=100,
        validators=[RegexValidator(NAME, "Write it as in `guard:` of the steps, such as crm.")],
        help_text="What steps name in `guard:`.",
    )
    threshold = models.IntegerField(
        default=DEFAULT.threshold,
        validators=[MinValueValidator(1)],
        help_text="So many failures within the window open it.",
    )
    window = _seconds(DEFAULT.window, "within which failures count together.")
    cool_down = _seconds(DEFAULT.cool_down, "from its opening to the first trial.")
    longest_cool_down = _seconds(
        DEFAULT.longest_cool_down, "at most, as each failed trial doubles the cool-down."
    )
    state = models.CharField(
        max_length=16,
        choices=law.choices(BreakerState),
        default=BreakerState.CLOSED.value,
        editable=False,
    )
    failures = ArrayField(models.DateTimeField(), default=list, editable=False)
    cooling = models.FloatField(default=0.0, editable=False)
    since = models.DateTimeField(null=True, editable=False)
    trial_at = models.DateTimeField(null=True, editable=False)
    trial = models.BigIntegerField(null=True, editable=False)
    ramp = models.IntegerField(null=True, editable=False)
    held = models.BooleanField(default=False, editable=False)
    why = models.TextField(blank=True, default="", editable=False)
    wake_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["environment", "name"]
        verbose_name = "guard"
        permissions = [("operate_breaker", "Can open and close guards")]
        constraints = [
            models.UniqueConstraint(
                fields=["environment", "name"], name="one_breaker_for_a_guard_in_an_environment"
            ),
        ]
        indexes = [
            models.Index(
                fields=["wake_at"],
                name="breakers_to_look_at",
                condition=models.Q(wake_at__isnull=False),
            ),
        ]
        triggers = [
            moves_trigger("breaker_moves", BREAKER_MOVES),
            pgtrigger.Protect(
                name="a_breaker_is_born_closed",
                operation=pgtrigger.Insert,
                condition=pgtrigger.Q(new__state__df=BreakerState.CLOSED.value),
            ),
            pgtrigger.Trigger(
                name="breaker_journal",
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("state", "held"),  # type: ignore[no-untyped-call]
                func=JOURNAL,
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BreakerJournal(models.Model):
    """A move of a breaker, its actor and its reason. Written by a trigger alone, append-only."""

    id = models.BigAutoField(primary_key=True)
    breaker = models.ForeignKey(Breaker, on_delete=models.CASCADE, related_name="journal")
    before = models.CharField(max_length=16)
    after = models.CharField(max_length=16)
    why = models.TextField(blank=True)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name = "move of a guard"
        verbose_name_plural = "moves of guards"
        triggers = [
            pgtrigger.Protect(
                name="the_journal_of_breakers_is_append_only", operation=pgtrigger.Update
            ),
        ]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


class Parking(models.Model):
    """An attempt that was put aside; `attempt` is the number that it will have when it is made."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="parkings", db_constraint=False, db_index=False
    )
    path = models.CharField(max_length=1000, db_collation="C")
    attempt = models.IntegerField()
    environment = models.ForeignKey(
        Environment, on_delete=models.CASCADE, db_constraint=False, db_index=False
    )
    gate = models.CharField(max_length=8, choices=law.choices(Gate))
    name = models.CharField(max_length=100)
    since = models.DateTimeField()
    until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(fields=["run", "path", "id"], name="parkings_of_a_step"),
            models.Index(
                fields=["environment", "gate", "name", "until", "id"], name="parkings_at_a_gate"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.path}: {self.gate} {self.name}"
