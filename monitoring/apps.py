"""The Django application `monitoring`."""

from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate


class MonitoringConfig(AppConfig):
    """Registers `monitoring` with Django; the roles of people are made with the database."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have the roles made after each migration; it is told only to packages with models."""
        from monitoring.roles import after_migration

        post_migrate.connect(after_migration, sender=apps.get_app_config("workflows"))
