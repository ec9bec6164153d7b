"""The Django application `environments`."""

from django.apps import AppConfig


class EnvironmentsConfig(AppConfig):
    """Registers `environments` with Django."""

    name = "environments"
    default_auto_field = "django.db.models.BigAutoField"
