"""Events: received once, then handed out to the steps that wait for them, and to triggers.

The row of an event says how far it has been handed out, so whoever goes on after a crash begins
where that was noted; what was done twice is met by the fence of the step, and by the
idempotency key of a run. A step that begins to wait looks back for what came before it: so of an
event and a step that come at the same time, one always sees the other.

A step that waits when an event comes is woken by it, whatever else of its run is. A step that
begins to wait later takes it only if the event has neither woken a step of its run before, nor
started the run: so a loop that waits for events takes one after the other, each once.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from uuid_utils.compat import uuid7

from workflows import store
from workflows.dispatch import Look
from workflows.engine import listening
from workflows.engine.events import Answered
from workflows.engine.states import Reason, StepState
from workflows.language import correlation, expressions
from workflows.language.expressions import ExpressionError
from workflows.models import EffectKind, EventEffect, Run, Trigger
from workflows.services import outbox
from workflows.services.envelopes import envelopes
from workflows.services.errors import (
    InputRefusedError,
    NotFoundError,
    ServiceError,
    StateRefusedError,
)
from workflows.services.flights import in_flight, in_transaction
from workflows.services.plans import pinned_to
from workflows.services.progress import advance_run
from workflows.services.report import Report, each
from workflows.services.runs import start_run
from workflows.services.sweep import helped
from workflows.store.events import NO_KEY, NOBODY, StoredEvent, WaitingStep

LARGEST_BATCH = 1000
"""Events that are published at once."""

BATCH = 50
"""Events that are taken at a time."""

PAGE = 200
"""Waiting steps, or early events, that are looked at with one statement."""

HELD_FOR = timedelta(seconds=30)
"""How long an event is left to whoever hands it out; a page takes a second at most."""

WITHIN = 2.0
"""Seconds that are spent on handing out at a time: others wait for the engine as well."""


Triggers = Mapping[UUID, Sequence[Trigger]]


@dataclass(frozen=True, slots=True)
class Published:
    """An event as it was published, and whether it is new: the same twice is one event."""

    id: UUID
    event: Mapping[str, Any]
    received_at: datetime
    created: bool


def publish_event(*, event: Mapping[str, Any], by: str) -> Published:
    """Receive a CloudEvent; one that is known already changes nothing.

    Raises InputRefusedError with all that is wrong with it.
    """
    [published] = _publish(envelopes([event], many=False), by)
    return published


def publish_events(*, events: Sequence[Mapping[str, Any]], by: str) -> list[Published]:
    """Receive many CloudEvents, all or none.

    Raises InputRefusedError with all that is wrong with any.
    """
    if len(events) > LARGEST_BATCH:
        message = f"{len(events)} events at once are too many; publish at most {LARGEST_BATCH}."
        raise InputRefusedError(message)
    return _publish(envelopes(list(events), many=True), by)


def _publish(accepted: Sequence[dict[str, Any]], by: str) -> list[Published]:
    rows = [(uuid7(), event) for event in accepted]

    def work() -> list[Published]:
        stored = store.insert_events(rows, now=store.now(), by=by)
        transaction.on_commit(lambda: outbox.send([Look()]))
        return [
            Published(known, event, received_at, created=known == id_)
            for (id_, event), (known, received_at) in zip(rows, stored, strict=True)
        ]

    return in_transaction(work) if rows else []


def hand_out(*, now: datetime) -> int:
    """Hand out what has come, and look back for who began to wait; return how much that did.

    Safe many at once. What there is no time for is left for the next call.
    """
    if not store.has_events_to_hand_out(now=now):
        return 0
    until = time.monotonic() + WITHIN
    return _hand_out_all(now, until) + _look_back_for_all(until)


def _hand_out_all(now: datetime, until: float) -> int:
    done = 0
    take = partial(store.take_events, now=now, until=now + HELD_FOR, limit=BATCH)
    while time.monotonic() < until and (taken := in_flight(take)):
        # Read behind the commit of what was taken: who comes later looks back for it.
        fields = {kind: store.fields_waited_for(kind) for kind in {one.type for one in taken}}
        triggers = {kind: _triggers(kind) for kind in fields}
        ended: list[UUID] = []
        for event in taken:
            if time.monotonic() > until:
                break
            done += _start_runs(event, triggers[event.type])
            is_ended, woken = _hand_out(event, _keys(event, fields[event.type]), until)
            done += woken
            ended += [event.id] if is_ended else []
        store.events_were_handed(ended, again_at=None)
        left = [event.id for event in taken if event.id not in set(ended)]
        store.events_were_handed(left, again_at=store.now())
    return done


def _hand_out(event: StoredEvent, keys: Sequence[str], until: float) -> tuple[bool, int]:
    """Offer an event to waiting steps a page at a time; say whether that was all, and to how many.

    How far it was handed out is noted with each page but the last.
    """
    done, last = 0, event.handed_to or NOBODY
    while True:
        page = store.page_of_waiting(event.type, keys=keys, after=last, limit=PAGE)
        done += sum(_offer(event, step) for step in page if _is_it(event, step))
        if len(page) < PAGE:
            return True, done
        last = page[-1].id
        store.events_were_handed([event.id], again_at=store.now() + HELD_FOR, to=last)
        if time.monotonic() > until:
            return False, done


def _keys(event: StoredEvent, fields: Sequence[str]) -> list[str]:
    """Return the keys by which steps may wait for an event."""
    named = listening.named(event.envelope)
    found = (correlation.key_in(named, correlation.field_of(field)) for field in fields)
    return [NO_KEY, *(key for key in found if key is not None)]


def _look_back_for_all(until: float) -> int:
    """Offer those who began to wait what came before them."""
    done, last = 0, NOBODY
    while time.monotonic() < until and (page := store.unsought(after=last, limit=PAGE)):
        newest = store.newest_events(list({step.type for step in page}))
        sought: list[UUID] = []
        for step in page:
            if step.type in newest and newest[step.type] >= step.opened_at - _since(step):
                done += helped(step.run, step.path, partial(_look_back, step, sought))
            else:
                sought.append(step.id)
            if time.monotonic() > until:
                break
        store.were_sought(sought, now=store.now())
        last = page[-1].id
    return done


def _look_back(step: WaitingStep, sought: list[UUID]) -> bool:
    """Offer a step what came before it, the oldest first; without trouble it is then `sought`."""
    early = (one for one in _early(step) if _is_it(one, step))
    woken = any(_wake(event, step) for event in early)
    sought.append(step.id)
    return woken


def _early(step: WaitingStep) -> Iterator[StoredEvent]:
    """Yield the events that a step may have been too late for, and that its run has not taken."""
    least = correlation.least_with(step.key) if step.key else None
    since, last = step.opened_at - _since(step), None
    while True:
        page = store.page_of_events(step, since=since, least=least, after=last, limit=PAGE)
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]


def _is_it(event: StoredEvent, step: WaitingStep) -> bool:
    """Say whether an event is what a step waits for, and has not come too early for it."""
    is_recent = event.received_at >= step.opened_at - _since(step)
    return is_recent and listening.is_it(step.request, listening.named(event.envelope))


def _since(step: WaitingStep) -> timedelta:
    usual = settings.ORCHESTRATOR["EARLY_EVENT_SECONDS"]
    seconds = step.request.get("since")
    return timedelta(seconds=usual if seconds is None else seconds)


def _offer(event: StoredEvent, step: WaitingStep) -> bool:
    return helped(step.run, step.path, partial(_wake_now_or_later, event, step))


def _wake_now_or_later(event: StoredEvent, step: WaitingStep) -> bool:
    """Wake a step with an event, or with an older one if nobody has looked for these yet.

    Where there is trouble, have the step look back for it later.
    """
    try:
        return _wake(event, step) if step.is_sought else _look_back(step, [])
    except Exception:
        store.were_sought([step.id], now=None)
        raise


def _wake(event: StoredEvent, step: WaitingStep) -> bool:
    """Wake a step with an event, and say whether it still waited and the event was not taken."""
    pin, actor = pinned_to(step.run, step.version), f"event:{event.id}"
    told = {"event": str(event.id), "id": event.given_id, "source": event.source}

    def work() -> bool:
        now = store.now()
        key = key_of(event.source, event.given_id)
        if store.has_taken(step.run, event.id, key=key, before=step.opened_at):
            return False
        answered = Answered(
            step.path,
            Reason.EVENT,
            output=listening.content(event.envelope),
            attempt=step.attempt,
            answer=told,
        )
        progress = advance_run(pin, answered, now=now, actor=actor)
        woken = any(
            move.after.path == step.path and move.before is StepState.WAITING
            for move in progress.decision.moves
        )
        if woken:
            store.note_woken(uuid7(), event.id, step, at=now, by=actor)
        return woken

    return in_flight(work)


def key_of(source: str, given_id: str) -> str:
    """Return the idempotency key of the runs that an event starts: one for each workflow."""
    identity = f"{source}\n{given_id}".encode()
    return f"event:{hashlib.sha256(identity).hexdigest()}"


def _start_runs(event: StoredEvent, triggers: Triggers) -> int:
    """Start a run of each workflow that has a trigger for the event, unless there is one."""
    if not triggers or event.handed_to is not None:
        return 0
    noted = EventEffect.objects.filter(event=event.id).exclude(kind=EffectKind.WOKE.value)
    done = set(noted.values_list("workflow_id", flat=True))
    return sum(
        helped(
            None,
            f"start of {found[0].workflow.name} by {event.id}",
            partial(_start_run, event, workflow, found, f"event:{event.id}"),
        )
        for workflow, found in triggers.items()
        if workflow not in done
    )


def _triggers(event_type: str) -> Triggers:
    """Return the triggers for events of a type, by workflow, in the order of the document."""
    found = Trigger.objects.filter(type=event_type).select_related("workflow", "version")
    found = found.defer("version__source", "version__document", "version__plan")
    triggers: dict[UUID, list[Trigger]] = {}
    for one in found.order_by("workflow", "number"):
        triggers.setdefault(one.workflow_id, []).append(one)
    return triggers


def _start_run(event: StoredEvent, workflow: UUID, triggers: Sequence[Trigger], by: str) -> bool:
    """Start the run that the first trigger which asks for the event wants; note it, or why not."""
    try:
        return _start_what_fits(event, workflow, triggers, by)
    except Exception as error:
        if store.cure_of(error) is not None:
            raise  # It passes: whoever hands the event out next starts the run.
        reason = f"The platform had trouble, see its log: {type(error).__name__}."
        _note_start(event, workflow, None, reason, by)
        raise


def _start_what_fits(
    event: StoredEvent, workflow: UUID, triggers: Sequence[Trigger], by: str
) -> bool:
    named = listening.named(event.envelope)
    trigger = next((one for one in triggers if listening.is_it(one.rule, named)), None)
    if trigger is None:
        return False
    key = key_of(event.source, event.given_id)
    run = Run.objects.filter(workflow=workflow, idempotency_key=key).values_list("pk", flat=True)
    run_id, reason = run.first(), ""
    if run_id is None:
        try:
            run_id = start_run(
                workflow=trigger.workflow.name,
                version=trigger.version.number,
                input=_input(trigger, named),
                idempotency_key=key,
                by=by,
            ).run.pk
        except (ServiceError, ExpressionError) as error:
            reason = _why_refused(error)
    _note_start(event, workflow, run_id, reason, by)
    return run_id is not None


def _note_start(event: StoredEvent, workflow: UUID, run: UUID | None, reason: str, by: str) -> None:
    store.note_start(uuid7(), event.id, workflow, run=run, reason=reason, at=store.now(), by=by)


def _input(trigger: Trigger, named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the input that a trigger makes of an event. Raises InputRefusedError."""
    template = trigger.rule.get("input")
    value = (
        listening.content(named)
        if template is None
        else expressions.render(template, {"event": named})
    )
    if isinstance(value, Mapping):
        return value
    given = expressions.kind_of(value)
    message = f"The input of a run is an object, and the event gives {given}."
    raise InputRefusedError(f"{message} Give the trigger an input.")


def _why_refused(error: ServiceError | ExpressionError) -> str:
    findings = getattr(error, "findings", ())
    told = "; ".join(f"{one.get('path', '')}: {one['message']}" for one in findings)
    return f"{error} {told}".strip()


def start_again(*, event_id: UUID, by: str) -> Report:
    """Start the runs that an event should have started and that were refused.

    As the newest versions of their workflows say. Raises NotFoundError, and StateRefusedError
    when nothing was refused.
    """
    event = store.stored_event(event_id)
    if event is None:
        raise NotFoundError("event", event_id)
    refused = EventEffect.objects.filter(event=event_id, kind=EffectKind.REFUSED.value)
    workflows = list(refused.order_by("id").values_list("workflow_id", flat=True))
    if not workflows:
        raise StateRefusedError(f"No start by the event {event_id} was refused.")
    return each("Start", workflows, lambda workflow: _start_again(event, workflow, by))


def _start_again(event: StoredEvent, workflow: UUID, by: str) -> None:
    triggers = [*Trigger.objects.filter(workflow=workflow, type=event.type).order_by("number")]
    if not _start_run(event, workflow, triggers, by):
        effect = EventEffect.objects.filter(event=event.id, workflow=workflow)
        reason = effect.filter(kind=EffectKind.REFUSED.value).values_list("reason", flat=True)
        raise StateRefusedError(reason.first() or "No trigger of the workflow asks for it.")
