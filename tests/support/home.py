"""Where the services of a test session live: never where those of the platform do."""

import os
from pathlib import Path

PREFIX = "test-"
CHOSEN = "TESTS_HAVE_A_HOME"
"""Set by the first process of a session; those that it starts live where they are told."""


def of_this_session(given: str | None) -> str:
    """Return a folder of the session below the given one, or what its first process has chosen."""
    home = Path(given or ".local")
    if CHOSEN not in os.environ:
        os.environ[CHOSEN] = "yes"
        home /= f"{PREFIX}{os.getpid()}"
    return str(home)


def is_of_tests(home: Path) -> bool:
    """Say whether the services in a folder may be removed at the end."""
    return home.name.startswith(PREFIX)
