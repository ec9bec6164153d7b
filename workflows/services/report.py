"""What a bulk action did, and what it refused and why."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from workflows.services.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that was left as it is."""

    id: UUID
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of each thing that was selected."""

    action: str
    done: tuple[UUID, ...]
    refused: tuple[Refusal, ...]

    @property
    def level(self) -> str:
        """Return how good the news is: success, warning or error."""
        if not self.refused:
            return "success"
        return "warning" if self.done else "error"

    def sentence(self) -> str:
        """Return the report as a sentence for a person."""
        said = f"{self.action}: {len(self.done)} done"
        if not self.refused:
            return f"{said}."
        return f"{said}, {len(self.refused)} refused. The first: {self.refused[0].why}"


def each(action: str, ids: Iterable[UUID], do: Callable[[UUID], object]) -> Report:
    """Do it to each, one transaction each, and report what was refused."""
    done, refused = [], []
    for one in ids:
        try:
            do(one)
        except ServiceError as error:
            refused.append(Refusal(one, str(error)))
        else:
            done.append(one)
    return Report(action, tuple(done), tuple(refused))
