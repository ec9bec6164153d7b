#!/usr/bin/env python
"""Django's command line, with a sentence instead of a traceback when the database is away."""

import os
import sys


def main() -> None:
    """Run one management command."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        from django.conf import settings

        sys.exit(f"{settings.ENV.why_unreachable()}\n{error}")


if __name__ == "__main__":
    main()
