"""An environment: an isolated place where steps run, with its own queues and variables."""

import pgtrigger
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Now
from uuid_utils.compat import uuid7

from environments.states import ENVIRONMENT_MOVES, EnvironmentState

SLUG = RegexValidator(
    r"^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$",
    "Use small letters, digits and hyphens, and begin and end with a letter or a digit.",
)


def default_classes() -> list[str]:
    """Return the queue classes that every environment has."""
    return ["default"]


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
            pgtrigger.FSM(
                name="environment_moves",
                field="state",
                transitions=[
                    (before.value, after.value)
                    for before, followers in ENVIRONMENT_MOVES.items()
                    for after in followers
                ],
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def queue(self, queue_class: str) -> str:
        """Return the name of the queue for a class of steps."""
        return queue_name(self.name, queue_class)


def queue_name(environment: str, queue_class: str) -> str:
    """Return the name of the queue of an environment for a class of steps."""
    return f"env.{environment}.{queue_class}"
