"""The registered task types, as far as this package may know them: through the settings."""

from functools import lru_cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from workflows.engine.events import Repeat
from workflows.language.catalog import TaskCatalog


class RepeatCatalog(TaskCatalog, Protocol):
    """A catalog that also says what may be repeated."""

    def repeat(self, name: str) -> Repeat:
        """Say whether the task may follow itself when nobody knows whether it took effect.

        One that is not known may not.
        """


@lru_cache
def catalog() -> RepeatCatalog:
    """Return the catalog that the settings name."""
    found: RepeatCatalog = import_string(settings.ORCHESTRATOR["CATALOG"])
    return found
