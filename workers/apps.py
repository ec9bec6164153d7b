"""The Django application `workers`."""

from django.apps import AppConfig


class WorkersConfig(AppConfig):
    """Registers `workers` with Django."""

    name = "workers"
    default_auto_field = "django.db.models.BigAutoField"
