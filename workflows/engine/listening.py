"""Listening for events: what a waiting step asks of one, and whether an event is it.

What the run knows is fixed when the step begins to wait: the request holds what `match`
reads of it, and no more. So an event is held against thousands of requests without a
look at their runs, and what changes in a run meanwhile changes nothing.
"""

from collections.abc import Mapping
from typing import Any

from workflows.engine.plan import Listening
from workflows.language import correlation, expressions
from workflows.language.expressions import ExpressionError

ATTRIBUTES = ("id", "source", "type", "subject", "time", "data")
"""What an expression may always ask of an event; what it does not have is null."""

Request = Mapping[str, Any]


def request(listening: Listening, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step that begins to wait asks of events.

    Raises ExpressionError where no event could ever be it.
    """
    match = listening.match
    asked: dict[str, Any] = {"match": match, "since": listening.since}
    if isinstance(match, str):
        asked["known"] = expressions.pruned(match, names)
    if key := _key(match, names):
        asked["key"] = key
    return asked


def is_it(asked: Request, event: Mapping[str, Any]) -> bool:
    """Say whether an event is what is asked for; one for which `match` has no value is not."""
    match = asked.get("match")
    if match is None:
        return True
    try:
        return expressions.truth(match, {**asked.get("known", {}), "event": event})
    except ExpressionError:
        return False


def named(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event as expressions name it."""
    return {**dict.fromkeys(ATTRIBUTES), **envelope}


def content(envelope: Mapping[str, Any]) -> Any:
    """Return the data of an event; what is not text, in base64."""
    return envelope.get("data", envelope.get("data_base64"))


def _key(match: str | bool | None, names: Mapping[str, Any]) -> str | None:
    equality = correlation.equality(match)
    if equality is None:
        return None
    try:
        value = expressions.evaluate(equality.known, names)
    except ExpressionError:
        if equality.whole:
            raise
        return None
    return correlation.key(equality.field, value)
