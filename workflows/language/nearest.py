"""The known word that is nearest to an unknown one, for the hint of a refusal."""

from collections.abc import Collection
from difflib import get_close_matches

_SHOWN = 12
_LONGEST = 100


def nearest(word: str, known: Collection[str]) -> str | None:
    """Return the word of `known` that looks most like `word`, if any looks like it."""
    if len(word) > _LONGEST:
        return None
    return next(iter(get_close_matches(word, sorted(known), n=1)), None)


def did_you_mean(word: str, known: Collection[str], things: str) -> str:
    """Return a hint: the nearest known word, or else the known words."""
    if (match := nearest(word, known)) is not None:
        return f"did you mean {match}?"
    if not known:
        return f"there are no {things} here"
    shown = ", ".join(sorted(known)[:_SHOWN])
    return f"known {things}: {shown}{', ...' if len(known) > _SHOWN else ''}"
