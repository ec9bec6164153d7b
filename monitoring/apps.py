"""The Django application `monitoring`."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    """Registers `monitoring` with Django."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"
