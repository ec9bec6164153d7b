#!/usr/bin/env python
"""Django's command line, with a sentence and a status when the database is away."""

import os
import sys

DATABASE_AWAY = 3
"""The exit status; 1 would say that a run has failed."""


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        from django.conf import settings

        sys.stderr.write(f"{settings.ENV.why_unreachable()}\n{error}\n")
        sys.exit(DATABASE_AWAY)


if __name__ == "__main__":
    main()
