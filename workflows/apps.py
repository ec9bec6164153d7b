"""The Django application `workflows`."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Registers `workflows` with Django."""

    name = "workflows"
    default_auto_field = "django.db.models.BigAutoField"
