"""A run: one execution of a version in one environment."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from environments.models import Environment
from workflows.engine.states import (
    FINISHED_RUNS,
    LIVE_RUNS,
    PLACE_HOLDERS,
    RUN_MOVES,
    RunReason,
    RunState,
)
from workflows.models import law
from workflows.models.definition import Version, Workflow

LINE = "now.id, NULL::uuid, '', 0"
"""The run, the step, the path and the attempt of a line of the journal about a run."""


class Run(models.Model):
    """One execution. Its state changes only through `workflows.store`.

    The foreign keys have no indexes of their own: those of the lists begin with them, and
    versions are not removed. `parent` and `parent_path` name the step that has started a child run.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    version = models.ForeignKey(
        Version, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    environment = models.ForeignKey(
        Environment, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    state = models.CharField(
        max_length=16, choices=law.choices(RunState), default=RunState.PENDING.value
    )
    reason = models.CharField(max_length=32, blank=True, choices=law.choices(RunReason), default="")
    parent = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        related_name="children",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    parent_path = models.CharField(max_length=1000, null=True)  # noqa: DJ001 - as `parent`
    input = models.JSONField(default=dict)
    vars = models.JSONField(default=dict)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    ending = models.JSONField(null=True, help_text="The end it is heading for, once decided.")
    idempotency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - unique only where given
    forked_from = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        related_name="forks",
        null=True,
        db_constraint=False,
        db_index=False,
    )
    forked_path = models.CharField(max_length=1000, null=True)  # noqa: DJ001 - as `forked_from`
    concurrency_key = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null: no limit
    concurrency_limit = models.IntegerField(null=True)
    started_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField(null=True)
    sla_at = models.DateTimeField(null=True, help_text="When somebody is to hear that it is late.")
    sla_breached_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("pause_run", "Can pause and resume runs"),
            ("cancel_run", "Can cancel runs"),
            ("compensate_run", "Can have runs undone"),
            ("migrate_run", "Can have runs go over to another version"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "idempotency_key"], name="one_run_for_one_reason"
            ),
        ]
        indexes = [
            models.Index(fields=["workflow", "-id"], name="runs_of_a_workflow"),
            models.Index(fields=["state", "-id"], name="runs_by_state"),
            models.Index(fields=["environment", "-id"], name="runs_of_an_environment"),
            models.Index(
                fields=["workflow", "-id"],
                name="runs_that_ended_badly",
                condition=Q(state__in=["CANCELLED", "COMPENSATED", "FAILED"]),
            ),
            models.Index(
                fields=["parent", "-id"],
                name="children_of_a_run",
                condition=Q(parent__isnull=False),
            ),
            models.Index(
                fields=["deadline_at"],
                name="runs_that_may_time_out",
                condition=Q(deadline_at__isnull=False),
            ),
            models.Index(
                fields=["sla_at"], name="runs_that_may_be_late", condition=Q(sla_at__isnull=False)
            ),
            models.Index(
                fields=["workflow", "concurrency_key"],
                name="runs_that_hold_a_place",
                condition=Q(
                    concurrency_key__isnull=False,
                    state__in=[state.value for state in sorted(PLACE_HOLDERS)],
                ),
            ),
            models.Index(
                fields=["workflow", "concurrency_key", "created_at", "id"],
                name="runs_that_wait_for_a_place",
                condition=Q(concurrency_key__isnull=False, state=RunState.PENDING.value),
            ),
            models.Index(
                fields=["id"],
                name="runs_that_live",
                condition=Q(state__in=[state.value for state in sorted(LIVE_RUNS)]),
            ),
        ]
        triggers = [
            law.law_trigger(
                "run_law",
                moves=RUN_MOVES,
                sentences={
                    "a_finished_run_has_a_finish_time": "(NEW.finished_at IS NOT NULL) = "
                    f"(NEW.state IN ({law.one_of(FINISHED_RUNS)}))"
                },
            ),
            law.journal_trigger("run_journal", line=LINE),
            law.birth_trigger(
                "run_birth",
                line=LINE,
                first=RunState.PENDING,
                also={RunState.RUNNING: "now.started_at IS NOT NULL AND now.finished_at IS NULL"},
            ),
            law.emptying_trigger("runs_are_never_emptied"),
            law.column_trigger(
                "a_run_changes_its_version_by_migration",
                column="version_id",
                condition="EXISTS (SELECT 1 FROM workflows_migration WHERE run_id = NEW.id"
                " AND before_id = OLD.version_id AND after_id = NEW.version_id)",
                refusal="a run changes its version by migration alone, see manage.py run migrate",
            ),
        ]

    def __str__(self) -> str:
        return f"run {self.id.hex[-12:]}"


def runs_with_names() -> "models.QuerySet[Run]":
    """Find runs with their workflow, environment and version, but for what is large of that."""
    found = Run.objects.select_related("workflow", "version", "environment")
    return found.defer("version__source", "version__document", "version__plan")
