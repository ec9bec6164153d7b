"""What a `match` asks of an event before all else: a field of it that equals a known value.

`event.data.order == input.order_id` holds only for events of one order. Told ahead, an
event and those who wait for it find each other by an index; the whole `match` is
still asked of whatever is found. Where there is no such equality, nothing is told.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from workflows.language import syntax
from workflows.language.tokens import CLOSING, OPENING, Reading, Token, all_tokens

LONGEST = 400
"""Characters of a key, which is in an index."""

SEPARATOR = "\x1f"
"""Between the field and the value of a key; JSON never has it as it is."""

_WEAKER = frozenset({"||", "?", ":"})
_RELATIONS = frozenset({"==", "!=", "<", ">", "<=", ">=", "in"})


@dataclass(frozen=True, slots=True)
class Equality:
    """The field of the event, as the names that lead to it, and the expression it equals.

    `whole`: the match asks nothing else.
    """

    field: tuple[str, ...]
    known: str
    whole: bool


@lru_cache(maxsize=4096)
def equality(match: str | bool | None) -> Equality | None:
    """Return an equality that must hold wherever `match` does, if one can be told."""
    single = syntax.template(match.strip()).single if isinstance(match, str) else None
    if single is None or single.problems:
        return None
    tokens = all_tokens(single.source)
    if any(token.text in _WEAKER for token in _outer(tokens)):
        return None
    parts = list(_split(tokens, "&&"))
    found = [
        Equality(field, _source(single.source, known), len(parts) == 1)
        for part in parts
        for field, known in _equalities(part)
    ]
    # One that names something tells runs apart; one with a literal only kinds of events.
    return next((one for one in found if syntax.expression(one.known).chains), None) or (
        found[0] if found else None
    )


def key(field: Sequence[str], value: Any) -> str | None:
    """Return a text that is equal where field and value are; None for what no index can find.

    It begins with the field, as `field_of` reads it.
    """
    if value is None or not isinstance(value, bool | int | float | str):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    names = json.dumps(field, separators=(",", ":"), ensure_ascii=False)
    made = f"{names}{SEPARATOR}{json.dumps(value, ensure_ascii=False)}"
    return made if len(made) <= LONGEST else None


def field_of(text: str) -> list[str]:
    """Return the field of a key."""
    names: list[str] = json.loads(text.partition(SEPARATOR)[0])
    return names


def key_in(event: Mapping[str, Any], field: Sequence[str]) -> str | None:
    """Return the key that an event has at a field, if it has a value there."""
    value: Any = event
    for name in field:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return key(field, value)


def least_with(text: str) -> dict[str, Any]:
    """Return the least that an event with this key contains."""
    field, _, found = text.partition(SEPARATOR)
    value: Any = json.loads(found)
    for name in reversed(json.loads(field)):
        value = {name: value}
    whole: dict[str, Any] = value
    return whole


def _outer(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield what stands in no bracket."""
    depth = 0
    for token in tokens:
        if token.kind == "mark" and token.text in OPENING:
            depth += 1
        elif token.kind == "mark" and token.text in CLOSING:
            depth -= 1
        elif depth == 0 and token.kind in {"mark", "name"}:
            yield token


def _split(tokens: Sequence[Token], mark: str) -> Iterator[Sequence[Token]]:
    start = 0
    for token in _outer(tokens):
        if token.text == mark:
            place = tokens.index(token)
            yield tokens[start:place]
            start = place + 1
    yield tokens[start:]


def _equalities(part: Sequence[Token]) -> Iterator[tuple[tuple[str, ...], Sequence[Token]]]:
    """Yield the field that a part of the match asks for, and what it is to equal."""
    if [token.text for token in _outer(part) if token.text in _RELATIONS] != ["=="]:
        return
    left, right = _split(part, "==")
    for asked, known in ((left, right), (right, left)):
        if field := _field(asked, known):
            yield field, known


def _field(asked: Sequence[Token], known: Sequence[Token]) -> tuple[str, ...]:
    """Return the field of the event that is asked for, if the other side knows no event."""
    reading = Reading(list(asked))
    if not known or not reading.is_chain or reading.chains[0].root != "event":
        return ()
    if any(chain.root == "event" for chain in Reading(list(known)).chains):
        return ()
    names = [name for name in reading.chains[0].keys if isinstance(name, str)]
    return tuple(names) if len(names) == len(reading.chains[0].keys) else ()


def _source(text: str, tokens: Sequence[Token]) -> str:
    return text[tokens[0].offset : tokens[-1].offset + len(tokens[-1].text)]
