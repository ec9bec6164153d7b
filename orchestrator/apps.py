"""The Django application `orchestrator`."""

from django.apps import AppConfig


class OrchestratorConfig(AppConfig):
    """Registers the wiring, and makes the Celery application known wherever Django is."""

    name = "orchestrator"

    def ready(self) -> None:
        """Make the Celery application the current one, so that tasks and publishers find it."""
        from orchestrator import celery as _celery  # noqa: F401
