"""Secrets taken out of a recording: each becomes the same placeholder wherever it stands.

What lies under a key that looks secret is one, and so is what looks like a credential wherever it
lies. What the platform itself had masked when it was stored stays masked. Nothing here can know
every secret: whoever hands on what is left should read it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

KEYS = re.compile(
    r"passw(or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credential|authori[sz]ation"
    r"|cookie|session_?id|signature|\bpin\b|\biban\b|card_?number|\bcvc?\b",
    re.IGNORECASE,
)
"""Keys under which secrets lie; a dash counts as an underscore."""

CREDENTIALS = re.compile(
    r"(?:(?<=[Bb]earer )|(?<=[Bb]asic ))[\w.~+/=-]{8,}"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?<=/callbacks/)[0-9a-f-]{36}/\S+?/\d+/[\w:=-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\b(?:gh[pousr]|github_pat|glpat|xox[abprs]|sk|pk|rk)[-_][\w-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
"""What looks like a credential in the middle of a text."""

MASK = "***"
SHORTEST = 4
"""Secrets that are shorter are replaced where they lie, and not looked for in other texts."""


class Redaction:
    """Finds secrets first, then replaces them."""

    def __init__(self) -> None:
        self._placeholders: dict[str, str] = {}
        self._numbers: dict[float, int] = {}

    def __len__(self) -> int:
        return len(self._placeholders) + len(self._numbers)

    def learn(self, value: Any, *, secret: bool = False) -> None:
        """Find the secrets in a value."""
        match value:
            case Mapping():
                for key, item in value.items():
                    self.learn(item, secret=secret or looks_secret(key))
            case list() | tuple():
                for item in value:
                    self.learn(item, secret=secret)
            case str() if secret and value.strip() and value != MASK and "${{" not in value:
                self._placeholder(value)
            case str():
                for found in CREDENTIALS.findall(value):
                    self._placeholder(found)

    def clean(self, value: Any, *, secret: bool = False) -> Any:
        """Return the value with a placeholder for each secret."""
        match value:
            case Mapping():
                return {
                    self.text(str(key)): self.clean(item, secret=secret or looks_secret(key))
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.clean(item, secret=secret) for item in value]
            case str():
                return self._placeholders.get(value) or self.text(value)
            case int() | float() if secret and not isinstance(value, bool):
                return self._numbers.setdefault(value, len(self._numbers) + 1)
        return value

    def text(self, text: str) -> str:
        """Return a text with a placeholder for each secret in it."""
        for secret in self._longest_first():
            text = text.replace(secret, self._placeholders[secret])
        return text

    def _placeholder(self, secret: str) -> str:
        return self._placeholders.setdefault(secret, f"redacted-{len(self._placeholders) + 1}")

    def _longest_first(self) -> Iterable[str]:
        long_ones = (secret for secret in self._placeholders if len(secret) >= SHORTEST)
        return sorted(long_ones, key=len, reverse=True)


def looks_secret(key: object) -> bool:
    """Say whether secrets lie under a key of this name."""
    return isinstance(key, str) and KEYS.search(key.replace("-", "_")) is not None
