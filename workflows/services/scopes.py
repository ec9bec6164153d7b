"""Scopes: items of loops are begun, and what nothing lives in any more is ended."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from workflows import store
from workflows.engine.events import Drained, Refilled
from workflows.services.flights import in_flight
from workflows.services.plans import Pinned
from workflows.services.progress import advance_run


def refill_loops(*, pin: Pinned, loops: Sequence[str], now: datetime) -> None:
    """Begin items of loops that have room for some; of a run that has been removed, of none."""
    with suppress(store.NoRunError):
        in_flight(lambda: advance_run(pin, *map(Refilled, loops), now=now))


def settle_scope(*, pin: Pinned, scope: str, now: datetime) -> None:
    """End a scope of which nothing lives any more; a scope that still lives is left alone.

    A run that has been removed meanwhile has nothing to settle.
    """
    with suppress(store.NoRunError):
        in_flight(lambda: advance_run(pin, Drained(scope), now=now))
