"""Runs: start what was ordered, hold runs, let them go on, end them, undo what they have done."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from workflows import store
from workflows.dispatch import Attend
from workflows.engine.compensating import INCOMPLETE
from workflows.engine.events import (
    CancelRequested,
    CompensationRequested,
    Event,
    PauseRequested,
    ResumeRequested,
    StepError,
)
from workflows.engine.operators import UNDOABLE
from workflows.engine.states import LIVE_RUNS, RunReason, RunState
from workflows.models import Run, runs_with_names
from workflows.services import concurrency
from workflows.services.closing import close_incidents
from workflows.services.errors import (
    IdempotencyMismatchError,
    StateRefusedError,
)
from workflows.services.flights import in_flight, once_in_transaction, send
from workflows.services.orders import Checked, Order, check_order, check_orders
from workflows.services.patience import patiently
from workflows.services.plans import (
    pinned,
    pinned_to,
)
from workflows.services.progress import Beginning, advance_run, begin_runs, begin_runs_ahead
from workflows.services.report import Report, each
from workflows.services.sending import dispatches_of, send_queued
from workflows.store.concurrency import Key

BATCH = 200
"""Runs that are started in one transaction, by one statement, when many are ordered at once."""

BATCH_STEPS = 5_000
"""Steps of the graphs of such runs, at most, but for a single one that is larger."""

THE_RUN_ITSELF = "workflows_run_pkey"
"""The constraint that a second try of a start meets when the first came through unheard."""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A run, and whether it is new: the same idempotency key twice is one run."""

    run: Run
    created: bool


@dataclass(frozen=True, slots=True)
class RefusedOrder:
    """An order among many that was refused by itself: its key was used for something else."""

    order: Order
    error: IdempotencyMismatchError


def start_run(  # noqa: PLR0913 - the keys of an order, by name
    *,
    workflow: str,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
    environment: str | None = None,
    version: int | None = None,
    idempotency_key: str | None = None,
    by: str,
) -> StartedRun:
    """Start one run; the same key with the same input returns the run that there is.

    Raises NotFoundError, InputRefusedError, EnvironmentClosedError, IdempotencyMismatchError.
    """
    order = Order(workflow, input, environment, version, idempotency_key)
    [one] = start_runs(orders=[order], by=by)
    if isinstance(one, RefusedOrder):
        raise one.error
    return one


def start_runs(*, orders: Sequence[Order], by: str) -> list[StartedRun | RefusedOrder]:
    """Start many runs, two hundred in a transaction. All orders are checked before any is begun.

    What a key was used for is known only when its run is begun, others having been started: so
    such an order is answered as refused in its place, and the rest as what became of them.
    Raises NotFoundError, InputRefusedError and EnvironmentClosedError; then nothing was started.
    """
    started: list[StartedRun | RefusedOrder] = []
    for batch in _batches(check_orders(orders)):
        started += _start_batch(batch, by)
    return started


def start_child(*, order: Order, wait: UUID, by: str) -> bool:
    """Start the child run that a wait is for, once; False when it waits for none any more.

    Raises NotFoundError, InputRefusedError, EnvironmentClosedError, IdempotencyMismatchError.
    """
    one = check_order(order)
    is_started = in_flight(partial(_start_linked, one, wait, by))
    if is_started and one.plan.concurrency is not None:
        concurrency.fill_after(run_id=one.id)
    return is_started


def _start_linked(one: Checked, wait: UUID, by: str) -> bool:
    beginnings = concurrency.admitted([one.beginning])
    if not store.link_child(wait, one.id):
        return False
    [is_new] = begin_runs(beginnings, now=store.now(), actor=by)
    if not is_new:
        message = f"The key {one.order.idempotency_key} was used to start another run."
        raise IdempotencyMismatchError(message)
    return True


def _batches(checked: Iterable[Checked]) -> Iterator[list[Checked]]:
    """Cut orders into batches, smaller ones where the graphs are large."""
    batch: list[Checked] = []
    steps = 0
    for one in checked:
        size = len(one.plan.nodes)
        if batch and (len(batch) == BATCH or steps + size > BATCH_STEPS):
            yield batch
            batch, steps = [], 0
        batch.append(one)
        steps += size
    if batch:
        yield batch


def _start_batch(batch: Sequence[Checked], by: str) -> list[StartedRun | RefusedOrder]:
    """Start runs in one transaction; a key that was used before is the run that there is."""
    begun: Sequence[StartedRun | None]
    try:
        begun = _start_ahead(batch, by) or in_flight(partial(_start_all, batch, by))
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != THE_RUN_ITSELF:
            raise
        begun = [None] * len(batch)
    _give_places(batch, begun)
    return [
        run or patiently(partial(_existing, one)) for run, one in zip(begun, batch, strict=True)
    ]


def _start_ahead(batch: Sequence[Checked], by: str) -> list[StartedRun | None] | None:
    """Start runs with one statement; None where a transaction is needed, or is under way."""
    if connection.in_atomic_block or any(one.concurrency_key is not None for one in batch):
        return None
    now = store.now()
    beginnings = [one.beginning for one in batch]
    order = _in_order(batch)

    def begin() -> list[bool] | None:
        return begin_runs_ahead([beginnings[place] for place in order], now=now, actor=by)

    stored = patiently(begin)
    if stored is None:
        return None
    return _those_begun(batch, beginnings, dict(zip(order, stored, strict=True)), now, by)


def _start_all(batch: Sequence[Checked], by: str) -> list[StartedRun | None]:
    """Start runs; the caller holds the transaction."""
    now = store.now()
    beginnings = concurrency.admitted([one.beginning for one in batch])
    order = _in_order(batch)
    stored = begin_runs([beginnings[place] for place in order], now=now, actor=by)
    return _those_begun(batch, beginnings, dict(zip(order, stored, strict=True)), now, by)


def _in_order(batch: Sequence[Checked]) -> list[int]:
    """Return the places of orders by their keys, so that two callers with the same can wait."""
    return sorted(range(len(batch)), key=lambda place: batch[place].reason)


def _those_begun(
    batch: Sequence[Checked],
    beginnings: Sequence[Beginning],
    begun: Mapping[int, bool],
    now: datetime,
    by: str,
) -> list[StartedRun | None]:
    """Return the runs that are new; None for one of which there is a run with its key already."""
    return [
        _started(one, beginnings[place], now, by) if begun[place] else None
        for place, one in enumerate(batch)
    ]


def _give_places(batch: Sequence[Checked], begun: Sequence[StartedRun | None]) -> None:
    """Make way for those that replace others; and give away what was kept for one that is none."""
    keys: set[Key] = {
        (one.version.workflow_id, one.concurrency_key)
        for one, run in zip(batch, begun, strict=True)
        if one.concurrency_key is not None
        and (run is None or run.run.reason == RunReason.REPLACING)
    }
    for key in sorted(keys, key=str):
        concurrency.fill(key=key)
    for run in begun:
        if run is not None and run.run.reason == RunReason.REPLACING:
            run.run.refresh_from_db(fields=["state", "reason", "started_at"])


def _started(one: Checked, beginning: Beginning, now: datetime, by: str) -> StartedRun:
    run = Run(
        id=one.id,
        workflow=one.version.workflow,
        version=one.version,
        environment=one.environment,
        state=RunState.RUNNING.value,
        input=one.input,
        idempotency_key=one.order.idempotency_key,
        concurrency_key=one.concurrency_key,
        started_by=by,
        created_at=now,
        started_at=now,
    )
    if beginning.new.waits is not None:
        run.state, run.reason = RunState.PENDING.value, beginning.new.waits.value
        run.started_at = None
    if beginning.refusal is not None:
        run.state, run.reason = RunState.CANCELLED.value, RunReason.SKIPPED.value
        run.error, run.finished_at = beginning.refusal.as_dict(), now
    return StartedRun(run, created=True)


def _existing(one: Checked) -> StartedRun | RefusedOrder:
    """Return the run that there is: begun by a try that nobody heard of, or with the same key."""
    found = runs_with_names()
    if (run := found.filter(pk=one.id).first()) is not None:
        send_queued(pinned_to(run.pk, run.version_id), one.environment.name)
        return StartedRun(run, created=True)
    key = one.order.idempotency_key
    run = found.get(workflow=one.version.workflow_id, idempotency_key=key)
    if run.input != one.input:
        message = (
            f"The key {key} was used on {run.created_at:%Y-%m-%d %H:%M:%S} UTC to start the run"
            f" {run.pk} of {one.order.workflow} with another input. Use a new key."
        )
        return RefusedOrder(one.order, IdempotencyMismatchError(message))
    return StartedRun(run, created=False)


def pause_run(*, run_id: UUID, by: str) -> Run:
    """Hold a run and its child runs: what a worker has begun is finished, nothing else is started.

    Raises NotFoundError and StateRefusedError.
    """
    return _operate(run_id, by, "paused", frozenset({RunState.RUNNING}), PauseRequested())


def resume_run(*, run_id: UUID, by: str) -> Run:
    """Let a paused run go on, and the child runs that were paused with it.

    Raises NotFoundError and StateRefusedError.
    """
    return _operate(run_id, by, "resumed", frozenset({RunState.PAUSED}), ResumeRequested())


def cancel_run(*, run_id: UUID, compensate: bool = False, by: str) -> Run:
    """End a run: at once what no worker holds, the rest when its worker lets go.

    With `compensate`, what it has done is then undone; it ends COMPENSATED, not CANCELLED.
    Its incidents are closed, but for those of effects that are uncertain: they are as they were.
    Raises NotFoundError and StateRefusedError.
    """
    if compensate:
        event = CancelRequested(undo=True)
        return _operate(run_id, by, "cancelled and undone", UNDOABLE, event)
    allowed = LIVE_RUNS - {RunState.CANCELLING}
    return _operate(run_id, by, "cancelled", allowed, CancelRequested())


def compensate_run(*, run_id: UUID, by: str) -> Run:
    """Undo what a failed run has done: each completed step that says how, the last one first.

    Raises NotFoundError and StateRefusedError.
    """
    pin = pinned(run_id)

    def work() -> Run:
        concurrency.hold_for(pin)
        found = runs_with_names()
        run = found.select_for_update(of=("self",)).get(pk=run_id)
        if run.state != RunState.FAILED:
            hint = "Cancel it with its undo instead." if run.state in UNDOABLE else ""
            raise _refusal(run_id, run.state, "undone", [RunState.FAILED], hint)
        error = StepError.from_dict(run.error or {})
        event = CompensationRequested(error)
        progress = advance_run(pin, event, now=store.now(), actor=by)
        if not progress.decision.run_moves:
            raise StateRefusedError(_why_not_undone(run_id, error))
        concurrency.demand_room(pin, progress)
        return found.get(pk=run_id)

    return once_in_transaction(work)


def _why_not_undone(run_id: UUID, error: StepError) -> str:
    if error.code == INCOMPLETE:
        return (
            f"The run {run_id} has been undone as far as that could be. Replay, skip or discard"
            " the incidents of what is left."
        )
    return (
        f"Nothing of the run {run_id} can be undone: no step of it that was completed says how,"
        " with `compensate`."
    )


def _operate(run_id: UUID, by: str, verb: str, allowed: frozenset[RunState], event: Event) -> Run:
    pin = pinned(run_id)

    def work() -> Run:
        state = Run.objects.values_list("state", flat=True).get(pk=run_id)
        if state not in allowed:
            raise _refusal(run_id, state, verb, allowed)
        now = store.now()
        store.act_as(by)
        if not isinstance(event, CancelRequested):
            store.lock_run(run_id)
        progress = advance_run(pin, event, now=now, actor=by)
        if not progress.decision.run_moves:
            found = progress.held.run.state if progress.held else state
            raise _refusal(run_id, found, verb, allowed)
        if isinstance(event, CancelRequested):
            close_incidents(run_id, by)
        run = runs_with_names().get(pk=run_id)
        if pin.plan.has_children:
            _have_children_follow(run_id, event, by)
        if isinstance(event, ResumeRequested):
            ready = dispatches_of(pin, run.environment.name, store.queued(run_id))
            send(ready)
        return run

    return once_in_transaction(work)


def _have_children_follow(run_id: UUID, event: Event, by: str) -> None:
    """Have child runs be paused, or go on, with the run; the end of one is told in any case."""
    match event:
        case PauseRequested():
            store.hold_children(run_id, by=by)
        case ResumeRequested():
            store.release_children(run_id, by=by)
        case _:
            return
    send([Attend(run_id)])


def _refusal(
    run_id: UUID, state: str, verb: str, allowed: Iterable[RunState], hint: str = ""
) -> StateRefusedError:
    """Return why a run is left as it is; without a `hint`, with the states in which it is not."""
    usual = f"A run can be {verb} while it is {' or '.join(sorted(allowed))}."
    return StateRefusedError(f"The run {run_id} is {state} and cannot be {verb}. {hint or usual}")


def pause_many(*, run_ids: Iterable[UUID], by: str) -> Report:
    """Hold each run, and report which could not be."""
    return each("Pause", run_ids, lambda run_id: pause_run(run_id=run_id, by=by))


def resume_many(*, run_ids: Iterable[UUID], by: str) -> Report:
    """Let each run go on, and report which could not."""
    return each("Resume", run_ids, lambda run_id: resume_run(run_id=run_id, by=by))


def cancel_many(*, run_ids: Iterable[UUID], compensate: bool = False, by: str) -> Report:
    """End each run, undoing it if asked to, and report which could not be."""
    return each(
        "Cancel",
        run_ids,
        lambda run_id: cancel_run(run_id=run_id, compensate=compensate, by=by),
    )


def compensate_many(*, run_ids: Iterable[UUID], by: str) -> Report:
    """Undo what each failed run has done, and report which could not be."""
    return each("Undo", run_ids, lambda run_id: compensate_run(run_id=run_id, by=by))
