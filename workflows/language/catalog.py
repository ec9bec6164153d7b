"""What the language needs to know about task types. Who has them is for others to say."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from workflows.language.words import ErrorClass


class TaskCatalog(Protocol):
    """The registered task types."""

    def names(self) -> Collection[str]:
        """Return the names that a step may use."""

    def parameters(self, name: str) -> Mapping[str, Any]:
        """Return the JSON Schema of the task's parameters, an object."""

    def codes(self, name: str) -> Mapping[str, ErrorClass]:
        """Return the error codes that the task declares, and their classes."""
