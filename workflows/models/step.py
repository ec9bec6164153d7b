"""A step of a run, and the tries that were made at it.

No foreign key of these tables is enforced by the database: they are written on
the hot path, always in the transaction that holds their run, and an enforced key
would look the run up, and mark its row, for every step written.
"""

from django.db import models
from django.db.models import Q
from uuid_utils.compat import uuid7

from workflows.engine.decision import AttemptEnd
from workflows.engine.states import FINISHED_STEPS, LIVE_STEPS, STEP_MOVES, Reason, StepState
from workflows.models import law
from workflows.models.run import Run

LINE = "now.run_id, now.id, now.path, now.attempt"
"""The run, the step, the path and the attempt of a line of the journal about a step."""

AT_ONCE: law.Through[StepState] = {
    (StepState.PENDING, StepState.RUNNING): (
        StepState.QUEUED,
        "OLD.queued_at IS NULL AND NEW.queued_at IS NOT NULL",
    )
}
"""A step that is queued and begun by the same worker."""


TAKEN_OVER = dict.fromkeys(
    sorted(FINISHED_STEPS), "now.forked_from IS NOT NULL AND now.finished_at IS NOT NULL"
)
"""Steps that a fork has taken over come into being as they had ended."""


def reasons() -> list[tuple[str, str]]:
    """Return why a step may be where it is, for people: a new reason changes no table."""
    return law.choices(Reason)


class Step(models.Model):
    """A node of the definition in one run. Its state changes only through `workflows.store`.

    `ok`, `failed`, `skipped` and `upstream_failed` count how the steps it needs have
    ended, and how its items have when it is a loop that has begun; `wake_at` is when
    somebody must look at the row again: the lease of a running step, the delay of a
    retrying one, the time of a scope, the age of a queued message.
    That a state is a known one follows from its birth and its moves, which triggers guard.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="steps", db_constraint=False, db_index=False
    )
    path = models.CharField(max_length=1000, db_collation="C")
    node = models.IntegerField()
    scope = models.CharField(max_length=1000, db_collation="C", blank=True)
    state = models.CharField(
        max_length=20, choices=law.choices(StepState), default=StepState.PENDING.value
    )
    reason = models.CharField(max_length=32, blank=True, choices=reasons, default="")
    attempt = models.IntegerField(default=0)
    failures = models.IntegerField(default=0)
    losses = models.IntegerField(default=0)
    ok = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)
    upstream_failed = models.IntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    queue = models.CharField(max_length=140, blank=True, default="")
    worker = models.CharField(max_length=200, blank=True, default="")
    total = models.IntegerField(null=True, help_text="Of a loop: how many items there are.")
    born = models.IntegerField(null=True, help_text="Of a loop: how many of them have begun.")
    item = models.JSONField(
        null=True, help_text="What it is for, inside a loop; of a loop: what it goes through."
    )
    arguments = models.JSONField(null=True, help_text="Corrected by a person; else the plan's.")
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    wake_at = models.DateTimeField(null=True)
    retry_until = models.DateTimeField(null=True, help_text="After this, no retry starts.")
    queued_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    completion = models.BigIntegerField(
        null=True, help_text="Its place among the completions of all steps that can be undone."
    )
    forked_from = models.UUIDField(
        null=True, help_text="The step of another run that was taken over as it had ended."
    )

    class Meta:
        ordering = ["run", "node", "path"]
        constraints = [
            models.UniqueConstraint(fields=["run", "path"], name="a_path_is_unique_in_its_run"),
        ]
        indexes = [
            models.Index(
                fields=["wake_at"], name="steps_to_look_at", condition=Q(wake_at__isnull=False)
            ),
            models.Index(
                fields=["run", "scope", "node"],
                name="steps_that_live",
                condition=Q(state__in=[state.value for state in sorted(LIVE_STEPS)]),
            ),
            models.Index(
                fields=["run", "scope"],
                name="steps_that_ended_badly",
                condition=Q(state__in=["CANCELLED", "FAILED"]) | Q(reason="discarded"),
            ),
            models.Index(
                fields=["run", "state", "-completion"],
                name="steps_to_be_undone",
                condition=Q(completion__isnull=False)
                & Q(state__in=["COMPENSATING", "COMPENSATION_FAILED", "COMPLETED"]),
            ),
        ]
        triggers = [
            law.law_trigger(
                "step_law",
                moves=STEP_MOVES,
                sentences={
                    "a_running_step_has_a_lease": "NEW.state <> 'RUNNING'"
                    " OR NEW.wake_at IS NOT NULL",
                    "a_retrying_step_has_a_due_time": "NEW.state <> 'RETRYING'"
                    " OR NEW.wake_at IS NOT NULL",
                    "a_finished_step_has_a_finish_time": "NEW.finished_at IS NOT NULL"
                    f" OR NEW.state NOT IN ({law.one_of(FINISHED_STEPS)})",
                },
                through=AT_ONCE,
            ),
            law.journal_trigger("step_journal", line=LINE, through=AT_ONCE),
            law.birth_trigger(
                "step_birth",
                line=LINE,
                first=StepState.PENDING,
                also={StepState.QUEUED: "now.queued_at IS NOT NULL"} | TAKEN_OVER,
                reason="CASE WHEN now.forked_from IS NULL THEN now.reason ELSE 'forked' END",
            ),
            law.emptying_trigger("steps_are_never_emptied"),
        ]

    def __str__(self) -> str:
        return self.path


class Attempt(models.Model):
    """A try at a step that is over. The row of a try comes into being when it ends.

    `late` holds a result that arrived after the attempt had been given up: it is kept
    for the investigation and changed nothing.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    step = models.ForeignKey(
        Step, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    number = models.IntegerField()
    end = models.CharField(max_length=16, choices=law.choices(AttemptEnd))
    worker = models.CharField(max_length=200, blank=True)
    error = models.JSONField(null=True)
    late = models.JSONField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()

    class Meta:
        ordering = ["step", "number"]
        constraints = [
            models.UniqueConstraint(fields=["step", "number"], name="one_winner_per_attempt"),
        ]
        triggers = [law.emptying_trigger("attempts_are_never_emptied")]

    def __str__(self) -> str:
        return f"attempt {self.number}"
