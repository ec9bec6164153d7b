"""The Django application `orchestrator`."""

from django.apps import AppConfig


class OrchestratorConfig(AppConfig):
    """Registers the wiring with Django, and the Celery application with every process that has Django."""

    name = "orchestrator"

    def ready(self) -> None:
        """Make the Celery application the current one, so that tasks and publishers find it."""
        from orchestrator import celery as _celery  # noqa: F401
