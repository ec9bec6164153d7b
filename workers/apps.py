"""The Django application `workers`."""

from django.apps import AppConfig, apps


class WorkersConfig(AppConfig):
    """Registers `workers` with Django, and the task types of every installed application."""

    name = "workers"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Tell the registry where task types may be; it looks when it is first asked."""
        from workers.registry import catalog

        catalog.discover(f"{config.name}.tasks" for config in apps.get_app_configs())
