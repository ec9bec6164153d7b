"""What is wrong with a document or an input, where, and what to do about it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong. Lines and columns count from 1; a value without a text has 0.

    `rule` is the stable name of what was broken; `path` leads to the place in the
    document (`steps[2].with.url`).
    """

    source: str
    line: int
    column: int
    rule: str
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        where = "" if self.line or not self.path else f"{self.path}: "
        return f"{place}: {where}{self.message} [{self.rule}]\n  hint: {self.hint}"

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


class LanguageError(ValueError):
    """What a person gave was refused whole; `findings` says why, all at once."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


class DefinitionError(LanguageError):
    """The document is no workflow."""


class InputError(LanguageError):
    """The input is not what the workflow asks for."""
