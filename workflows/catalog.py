"""The registered task types, as far as this package may know them: through the settings."""

from functools import lru_cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from workflows.language.catalog import TaskCatalog


class RepeatCatalog(TaskCatalog, Protocol):
    """A catalog that also says which task types may be repeated blindly."""

    def idempotent(self, name: str) -> bool:
        """Say whether repeating the task can do no harm; False for one that is not known."""


@lru_cache
def catalog() -> RepeatCatalog:
    """Return the catalog that the settings name."""
    found: RepeatCatalog = import_string(settings.ORCHESTRATOR["CATALOG"])
    return found
