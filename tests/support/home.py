"""Where the services of a test session live: never where those of the platform do."""

import os
from pathlib import Path

PREFIX = "test-"


def of_this_session(given: str | None) -> str:
    """Return a folder of the session below the given one, or what its first process has chosen."""
    home = Path(given or ".local")
    return str(home if is_of_tests(home) else home / f"{PREFIX}{os.getpid()}")


def is_of_tests(home: Path) -> bool:
    """Say whether the services in a folder may be removed at the end."""
    return home.name.startswith(PREFIX)
