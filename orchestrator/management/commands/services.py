"""Start, stop or show the embedded PostgreSQL and Redis of this checkout."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from orchestrator import embedded


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["start", "stop", "status"])

    def handle(self, *_: Any, action: str, **__: Any) -> None:
        home = settings.EMBEDDED_HOME
        if home is None:
            raise CommandError("DATABASE_URL is set, so there are no embedded services here.")
        try:
            if action == "start":
                embedded.start(home, **settings.ENV.embedded_parts)
            elif action == "stop":
                embedded.stop(home)
        except embedded.EmbeddedError as error:
            raise CommandError(str(error)) from error
        for name, pid in embedded.status(home).items():
            self.stdout.write(f"{name}: {f'running, process {pid}' if pid else 'not running'}")
