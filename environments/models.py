"""An environment: an isolated place where steps run, with its own queues and variables.

The triggers keep its lifecycle: it is born PROVISIONING, moves only as the table
says, and every move has its line in the journal, written in the same transaction.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pgtrigger
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from environments.states import (
    ENVIRONMENT_MOVES,
    PROFILE_MOVES,
    EnvironmentState,
    Folders,
    ProfileState,
)

SLUG_PATTERN = re.compile(r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")
SLUG = RegexValidator(
    SLUG_PATTERN.pattern,
    "Use small letters, digits and hyphens, and begin and end with a letter or a digit.",
)


ACTOR_AND_TIME = """COALESCE(
                NULLIF(current_setting('orchestrator.actor', true), ''),
                'database:' || session_user
            ),
            clock_timestamp()"""
"""How the line of a journal ends: who did it, and when."""

JOURNAL = f"""
    IF TG_OP = 'INSERT' OR OLD.state <> NEW.state THEN
        INSERT INTO environments_environmentjournal (environment_id, before, after, actor, at)
        VALUES (
            NEW.id,
            CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.state END,
            NEW.state,
            {ACTOR_AND_TIME}
        );
    END IF;
    RETURN NULL;
"""  # noqa: S608 - of our own words


def default_classes() -> list[str]:
    """Return the queue classes that every environment has."""
    return ["default"]


def moves_trigger(name: str, moves: Mapping[Any, Iterable[Any]]) -> pgtrigger.FSM:
    """Return the trigger that holds a row's `state` to a table of moves."""
    return pgtrigger.FSM(
        name=name,
        field="state",
        transitions=[
            (before.value, after.value)
            for before, followers in moves.items()
            for after in followers
        ],
    )


class Environment(models.Model):
    """Where steps run. Its queues are `env.<name>.<class>`, one for each of its classes."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=64, unique=True, validators=[SLUG])
    description = models.TextField(blank=True)
    state = models.CharField(
        max_length=16,
        choices=[(state.value, state.value.capitalize()) for state in EnvironmentState],
        default=EnvironmentState.PROVISIONING.value,
        editable=False,
    )
    classes = models.JSONField(
        default=default_classes,
        help_text="The queue classes that steps may ask for, such as default, browser, heavy.",
    )
    variables = models.JSONField(
        default=dict, blank=True, help_text="What expressions read as env.<name>. No secrets."
    )
    admits = models.JSONField(
        default=list,
        blank=True,
        help_text="The environments whose runs may send steps here.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="an_environment_is_in_a_known_state",
                condition=models.Q(state__in=[state.value for state in EnvironmentState]),
            ),
        ]
        triggers = [
            moves_trigger("environment_moves", ENVIRONMENT_MOVES),
            pgtrigger.Protect(
                name="an_environment_is_born_provisioning",
                operation=pgtrigger.Insert,
                condition=pgtrigger.Q(new__state__df=EnvironmentState.PROVISIONING.value),
            ),
            pgtrigger.Trigger(
                name="environment_journal",
                when=pgtrigger.After,
                operation=pgtrigger.Insert | pgtrigger.UpdateOf("state"),  # type: ignore[no-untyped-call]
                func=JOURNAL,
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def queue(self, queue_class: str) -> str:
        """Return the name of the queue for a class of steps."""
        return queue_name(self.name, queue_class)


class EnvironmentJournal(models.Model):
    """A transition of an environment and its actor. Written by triggers alone, append-only."""

    id = models.BigAutoField(primary_key=True)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="journal")
    before = models.CharField(max_length=16, blank=True)
    after = models.CharField(max_length=16)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name = "transition"
        verbose_name_plural = "journal"
        triggers = [
            pgtrigger.Protect(
                name="the_journal_of_environments_is_append_only",
                operation=pgtrigger.Update | pgtrigger.Delete,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.before or 'created'} -> {self.after}"


PROFILE_JOURNAL = f"""
    IF OLD.state <> NEW.state AND NOT (
        OLD.state IN ('FREE', 'LEASED') AND NEW.state IN ('FREE', 'LEASED')
    ) OR OLD.state = NEW.state AND NEW.state <> 'LEASED' AND (
        (OLD.turn, OLD.saved_at) IS DISTINCT FROM (NEW.turn, NEW.saved_at)
    ) THEN
        INSERT INTO environments_profilejournal
            (profile_id, before, after, run_id, path, attempt, why, actor, at)
        VALUES (
            NEW.id, OLD.state, NEW.state,
            COALESCE(NEW.run_id, OLD.run_id),
            COALESCE(NULLIF(NEW.path, ''), OLD.path),
            CASE WHEN NEW.path = '' THEN OLD.attempt ELSE NEW.attempt END,
            CASE
                WHEN OLD.state <> NEW.state THEN NEW.why
                WHEN OLD.turn <> NEW.turn THEN 'its working folder begins empty'
                ELSE 'it was given another context'
            END,
            {ACTOR_AND_TIME}
        );
    END IF;
    RETURN NULL;
"""  # noqa: S608 - of our own words


class ProfilePool(models.Model):
    """Profiles that are as good as each other: a step leases any of them."""

    id = models.BigAutoField(primary_key=True)
    environment = models.ForeignKey(Environment, on_delete=models.CASCADE, related_name="pools")
    name = models.CharField(max_length=100, help_text="What steps name in `profile: {pool: ...}`.")
    description = models.TextField(blank=True)
    folders = models.CharField(
        "working folders",
        max_length=8,
        choices=[
            (Folders.KEEP.value, "Kept from lease to lease"),
            (Folders.EMPTY.value, "Empty for each lease"),
        ],
        default=Folders.KEEP.value,
        db_default=Folders.KEEP.value,
        help_text="What the next step with a profile finds in its folder, such as downloads or "
        "the files of a browser: what the step before it left there, or nothing.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["environment", "name"]
        constraints = [
            models.CheckConstraint(
                name="a_pool_keeps_or_empties_folders",
                condition=models.Q(folders__in=[one.value for one in Folders]),
            ),
            models.UniqueConstraint(
                fields=["environment", "name"], name="a_pool_has_its_name_for_itself"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Profile(models.Model):
    """A login, a session, a folder of work: whatever only one step may use at a time.

    Its context is sealed (`environments.vault`). Who leases it is a run and, while a step uses it
    or is about to, the step and its attempt; `taken_at` is empty until a worker has it. Its working
    folder (`workers.folders`) is that of its `turn`; another turn begins with an empty one.
    """

    id = models.BigAutoField(primary_key=True)
    pool = models.ForeignKey(ProfilePool, on_delete=models.CASCADE, related_name="profiles")
    name = models.CharField(max_length=100)
    context = models.TextField(blank=True, default="", editable=False)
    state = models.CharField(
        max_length=16,
        choices=[(state.value, state.value.capitalize()) for state in ProfileState],
        default=ProfileState.FREE.value,
        editable=False,
    )
    run_id = models.UUIDField(null=True, editable=False)
    path = models.CharField(max_length=1000, blank=True, default="", editable=False)
    attempt = models.IntegerField(default=0, editable=False)
    for_run = models.BooleanField(default=False, editable=False)
    leased_at = models.DateTimeField(null=True, editable=False)
    taken_at = models.DateTimeField(null=True, editable=False)
    saved_at = models.DateTimeField(null=True, editable=False)
    turn = models.IntegerField(default=1, db_default=1, editable=False)
    why = models.TextField(blank=True, default="", editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["pool", "name"]
        permissions = [("operate_profile", "Can clear, disable and enable profiles")]
        constraints = [
            models.UniqueConstraint(
                fields=["pool", "name"], name="a_profile_has_its_name_in_its_pool"
            ),
            models.CheckConstraint(
                name="a_leased_profile_and_no_other_has_a_run",
                condition=models.Q(state="LEASED", run_id__isnull=False)
                | (~models.Q(state="LEASED") & models.Q(run_id__isnull=True)),
            ),
        ]
        indexes = [
            models.Index(
                fields=["run_id"],
                name="profiles_that_are_leased",
                condition=models.Q(run_id__isnull=False),
            ),
        ]
        triggers = [
            moves_trigger("profile_moves", PROFILE_MOVES),
            pgtrigger.Trigger(
                name="profile_journal",
                when=pgtrigger.After,
                operation=pgtrigger.UpdateOf("state", "turn", "saved_at"),  # type: ignore[no-untyped-call]
                func=PROFILE_JOURNAL,
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ProfileJournal(models.Model):
    """A move of a profile, who had it, and the actor. Written by a trigger alone, append-only.

    That it was leased and given back is not written here: the journals of the runs have it, and
    leave with them.
    """

    id = models.BigAutoField(primary_key=True)
    profile = models.ForeignKey(Profile, on_delete=models.CASCADE, related_name="journal")
    before = models.CharField(max_length=16)
    after = models.CharField(max_length=16)
    run_id = models.UUIDField(null=True)
    path = models.CharField(max_length=1000, blank=True)
    attempt = models.IntegerField(default=0)
    why = models.TextField(blank=True)
    actor = models.CharField(max_length=200)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name = "move of a profile"
        verbose_name_plural = "moves of profiles"
        triggers = [
            pgtrigger.Protect(
                name="the_journal_of_profiles_is_append_only", operation=pgtrigger.Update
            ),
        ]

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


def queue_name(environment: str, queue_class: str) -> str:
    """Return the name of the queue of an environment for a class of steps."""
    return f"env.{environment}.{queue_class}"


def environment_of(queue: str) -> str:
    """Return the name of the environment that a queue belongs to."""
    return queue.split(".")[1]
