"""The Django application of the load; it also lets the harness step the clock of one process."""

import os

from django.apps import AppConfig

from tests.chaos.app import clock


class LoadConfig(AppConfig):
    """Registers the task types, and follows the file that holds this process's clock step."""

    name = "tests.chaos.app"
    label = "chaos"

    def ready(self) -> None:
        """Begin to follow, here and in every process that is forked from here."""
        if path := os.environ.get("CHAOS_CLOCK"):
            clock.follow(path)
