"""Places: a workflow may say how many of its runs with the same key there are at a time.

A run holds a place from its begin to its end, also while it is paused, parked or coming to its
end. Whoever gives a place away holds the lock of its key (`store.concurrency`), so never are there
more than the limit. Those that find none wait as PENDING rows, and begin in the order of their
creation when one is left: `Vacated` is the hint, `LEFT_BEHIND` finds what no hint came for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from workflows import store
from workflows.engine.events import CancelRequested, Started, StepError
from workflows.engine.plan import Concurrency
from workflows.engine.states import PLACE_HOLDERS, RunReason, RunState
from workflows.language import expressions
from workflows.language.expressions import ExpressionError
from workflows.language.words import ConcurrencyPolicy, ErrorClass
from workflows.services.closing import close_incidents
from workflows.services.errors import InputRefusedError, StateRefusedError
from workflows.services.flights import in_transaction
from workflows.services.plans import Pinned, pinned
from workflows.services.progress import Beginning, Progress, advance_run
from workflows.store import concurrency as rows
from workflows.store.concurrency import Key, Occupancy

BATCH = 100
"""Runs that are begun, or cancelled to make way, in one transaction."""

LONGEST_KEY = 200
"""Characters of a concurrency key, as many as its column takes."""


def key_of(concurrency: Concurrency, names: Mapping[str, Any]) -> str:
    """Return the key of a run to be.

    Raises InputRefusedError where the input gives none, or one that is too long.
    """
    try:
        value = expressions.render(concurrency.key, names)
    except ExpressionError as error:
        raise InputRefusedError(f"The input gives no concurrency key: {error}.") from error
    key = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if len(key) > LONGEST_KEY:
        message = f"The concurrency key has {len(key)} characters; have it give at most"
        raise InputRefusedError(f"{message} {LONGEST_KEY}.")
    return key


def admitted(beginnings: Sequence[Beginning]) -> list[Beginning]:
    """Say of runs to be, in the order of their creation, which begin, and which wait or do not.

    Locks their keys: the caller holds the transaction, and stores them in it.
    """
    keys = {key for one in beginnings if (key := _key(one)) is not None}
    if not keys:
        return list(beginnings)
    taken = rows.hold_places(keys)
    return [_admitted(one, taken) for one in beginnings]


def _key(one: Beginning) -> Key | None:
    key = one.new.concurrency_key
    return None if key is None else (one.new.workflow, key)


def _admitted(one: Beginning, taken: Mapping[Key, Occupancy]) -> Beginning:
    key, concurrency = _key(one), one.pinned.plan.concurrency
    if key is None or concurrency is None:
        return one
    place = taken[key]
    if place.held < concurrency.limit and not place.is_waited_for:
        place.held += 1
        return one
    if concurrency.policy is ConcurrencyPolicy.SKIP:
        return replace(
            one,
            new=replace(one.new, waits=RunReason.QUEUED),
            refusal=_told("skipped", key, f"{place.held} of {concurrency.limit} are under way"),
        )
    place.is_waited_for = True
    is_newest = concurrency.policy is ConcurrencyPolicy.REPLACE
    reason = RunReason.REPLACING if is_newest else RunReason.QUEUED
    return replace(one, new=replace(one.new, waits=reason))


def _told(what: str, key: Key, why: str) -> StepError:
    message = f"The run was {what}: of the runs with the concurrency key {key[1]!r}, {why}."
    return StepError(ErrorClass.CANCELLED, f"concurrency.{what}", message)


def fill_after(*, run_id: UUID) -> int:
    """Have those begin that have waited for the place which a run has left; return how many."""
    key = rows.key_of(run_id)
    return 0 if key is None else fill(key=key)


def fill(*, key: Key) -> int:
    """Give the places of a key away, and return how many runs have begun. Safe many at once.

    Where the newest that waits is to replace the others, those are cancelled first.
    """
    return in_transaction(partial(_fill, key))


def _fill(key: Key) -> int:
    rows.hold_places([key])
    _make_way(key)
    held = rows.hold_places([key])[key].held
    begun = 0
    for run_id, limit in rows.first_waiting(key, limit=BATCH):
        if held >= limit:
            break
        if rows.is_waiting(run_id) and not rows.is_held_back(run_id):
            advance_run(pinned(run_id), Started(), now=store.now())
            held, begun = held + 1, begun + 1
    return begun


def _make_way(key: Key) -> None:
    newest = rows.newest_waiting(key)
    if newest is None or newest.reason != RunReason.REPLACING:
        return
    error = _told("replaced", key, f"{newest.id} is newer, started by {newest.started_by}")
    for run_id in rows.superseded(key, limit=newest.limit, batch=BATCH):
        asked = CancelRequested(RunReason.REPLACED, error)
        advance_run(pinned(run_id), asked, now=store.now(), actor=newest.started_by)
        close_incidents(run_id, newest.started_by)


def demand_place(one: Beginning) -> None:
    """Raise StateRefusedError unless there is a place for a run; lock its key meanwhile."""
    [admitted_one] = admitted([one])
    if admitted_one.new.waits is not None:
        raise StateRefusedError(
            f"No place is free for another run with the concurrency key"
            f" {one.new.concurrency_key!r}. Try again when one is."
        )


def hold_for_one(one: Beginning) -> None:
    """Lock the key of a run that may be about to begin, until the transaction ends."""
    if (key := _key(one)) is not None:
        rows.hold_places([key])


def hold_for(pin: Pinned) -> None:
    """Lock the key of a run that may be about to go on, until the transaction ends."""
    if pin.plan.concurrency is not None and (key := rows.key_of(pin.run)) is not None:
        rows.hold_places([key])


def demand_room(pin: Pinned, progress: Progress) -> None:
    """Raise StateRefusedError where a run that was over goes on without a place being free."""
    goes_on = any(
        move.before is RunState.FAILED and move.after.state in PLACE_HOLDERS
        for move in progress.decision.run_moves
    )
    if pin.plan.concurrency is None or not goes_on:
        return
    key = rows.key_of(pin.run)
    if key is None or rows.hold_places([key])[key].held <= pin.plan.concurrency.limit:
        return
    raise StateRefusedError(
        f"The run {pin.run} cannot go on now: the run {rows.other_holder(key, pin.run)} has its"
        f" place among those with the concurrency key {key[1]!r}. Wait until that has ended, or"
        " cancel it."
    )
