"""Callbacks: what is sent to the URL of a step is received once, and told to the step.

One that comes before its step waits is kept. It is a row before anything else is done with it, so
whoever dies in between loses nothing: the step finds it when it begins to wait (`early`), or the
next sweep of recovery brings the two together.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

from workflows import store
from workflows.engine.plan import template_of
from workflows.engine.slice import linked_attempt
from workflows.engine.states import FINISHED_RUNS, FINISHED_STEPS, Reason, StepState
from workflows.language.words import StepKind
from workflows.links import callback_url
from workflows.models import Callback, Run, Step
from workflows.services.early import answer_of
from workflows.services.errors import (
    CallbackMismatchError,
    CallbackOverError,
    NotFoundError,
    refuse_unstorable,
)
from workflows.services.flights import in_flight, in_transaction
from workflows.services.plans import Pinned, pinned, plan_of_version
from workflows.services.progress import advance_run

ACTOR = "callback"

WAITING = (StepState.WAITING, Reason.CALLBACK)


class Receipt(StrEnum):
    """What became of a callback."""

    DELIVERED = "received"
    KEPT = "kept"
    ALREADY = "already received"


def receive_callback(*, run_id: UUID, path: str, attempt: int, body: Any, now: datetime) -> Receipt:
    """Take what was sent for an attempt of a step, and tell the step if it waits for it.

    Raises InputRefusedError, CallbackMismatchError and CallbackOverError.
    """
    refuse_unstorable("the body", body)
    is_new = in_transaction(partial(_keep, run_id, path, attempt, body, now))
    deliver(pin=pinned(run_id), path=path, attempt=attempt, now=now)
    if not _is_delivered(run_id, path, attempt):
        _refuse_if_over(run_id, path, attempt)
    if not is_new:
        return Receipt.ALREADY
    return Receipt.DELIVERED if _is_delivered(run_id, path, attempt) else Receipt.KEPT


@dataclass(frozen=True, slots=True)
class Link:
    """Where the callback of a step is to be sent, and which attempt of the step that is for."""

    url: str
    attempt: int


def link_of(*, run_id: UUID, path: str) -> Link:
    """Return where the callback of a step is to be sent, also before it waits.

    Raises NotFoundError.
    """
    node = pinned(run_id).plan.by_path.get(template_of(path))
    if node is None or node.kind is not StepKind.CALLBACK:
        raise NotFoundError("step that waits for a callback at", path)
    record = Step.objects.filter(run=run_id, path=path).values("state", "attempt").first()
    attempt = linked_attempt(record)
    return Link(callback_url(run_id, path, attempt), attempt)


def deliver(*, pin: Pinned, path: str, attempt: int, now: datetime) -> bool:
    """Tell a step what is kept for it; False when there is nothing, or it does not wait for it."""
    return in_flight(partial(_deliver, pin, path, attempt, now))


def _deliver(pin: Pinned, path: str, attempt: int, now: datetime) -> bool:
    kept = store.kept_callbacks(pin.run, [(path, attempt)])
    if not kept:
        return False
    [callback] = kept
    progress = advance_run(pin, answer_of(callback), now=now, actor=ACTOR)
    if not progress.decision.closings:
        return False
    store.mark_delivered([callback.id], at=now)
    return True


def _keep(run_id: UUID, path: str, attempt: int, body: Any, now: datetime) -> bool:
    """Keep a callback; False when the same has come before."""
    digest = _digest(body)
    place = {"run_id": run_id, "path": path, "attempt": attempt}
    known = Callback.objects.filter(**place).first()
    if known is None or known.delivered_at is None:
        _refuse_if_over(run_id, path, attempt)
    is_new = False
    if known is None:
        facts = {"digest": digest, "body": body, "received_at": now}
        known, is_new = Callback.objects.get_or_create(**place, defaults=facts)
    if known.digest != digest:
        raise CallbackMismatchError(
            f"Another callback has come to this URL at {known.received_at:%Y-%m-%d %H:%M:%S} UTC,"
            " with another body. The first one counts."
        )
    return is_new


def _digest(body: Any) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def _is_delivered(run_id: UUID, path: str, attempt: int) -> bool:
    place = {"run_id": run_id, "path": path, "attempt": attempt}
    return Callback.objects.filter(**place, delivered_at__isnull=False).exists()


def _refuse_if_over(run_id: UUID, path: str, attempt: int) -> None:
    """Raise CallbackOverError unless the step waits for the callback, still may, or just did."""
    why = _why_over(run_id, path, attempt)
    if why and not _is_delivered(run_id, path, attempt):
        raise CallbackOverError(why)


def _why_over(run_id: UUID, path: str, attempt: int) -> str:
    """Return why nobody waits for a callback, and nobody will; empty if somebody may."""
    run = Run.objects.filter(pk=run_id).values_list("state", "version_id").first()
    if run is None:
        return f"The run {run_id} is over and not kept any more."
    state, version_id = run
    if state in FINISHED_RUNS:
        return f"The run {run_id} is {state} and waits for nothing any more."
    step = Step.objects.filter(run=run_id, path=path).only("state", "reason", "attempt").first()
    if step is None:
        return _why_never_born(run_id, path, version_id)
    if step.attempt > attempt or (step.attempt == attempt and step.state == StepState.PENDING):
        return (
            f"This URL was for an earlier wait of the step {path}. If it waits again, it does so"
            " under a new URL, which its page shows."
        )
    if step.state == StepState.PENDING or (step.state, step.reason) == WAITING:
        return ""
    is_caught = step.state == StepState.WAITING
    busy = "is busy with its fallback" if is_caught else f"is {step.state}"
    return f"The step {path} {busy} and waits for no callback any more."


def _why_never_born(run_id: UUID, path: str, version_id: UUID) -> str:
    plan = plan_of_version(version_id)
    node = plan.by_path.get(template_of(path))
    if node is None:
        return f"The run {run_id} has no step {path} any more."
    around = [plan.path(one, path) for one in plan.ancestors(node)[:-1]]
    ended = Step.objects.filter(run=run_id, path__in=around, state__in=FINISHED_STEPS)
    if (block := ended.first()) is None:
        return ""
    return f"The block {block.path} is {block.state}, so the step {path} waits for no callback."
