"""Child runs: started for the step that waits for one, told to it when they end, ended with it.

What is due is a word in the row of the wait (`Due`), written in the transaction that makes it
so: the one that opens the wait, that closes it, or in which the child ends. So whoever dies,
recovery finds what is still to be done; the message that says so (`Attend`) is only quicker.
Each thing is done in a transaction of its own, which locks a child before the wait for it and
never a parent together with its child: so ends, answers and cancels do not wait in a circle.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from workflows import store
from workflows.engine.events import Answered, StepError
from workflows.engine.operators import UNDOABLE
from workflows.engine.states import Due, Reason, RunState
from workflows.language.limits import DEEPEST_CHILD
from workflows.language.words import ErrorClass
from workflows.models import ENGINE, Incident, Run
from workflows.services import concurrency
from workflows.services.errors import (
    EnvironmentClosedError,
    InputRefusedError,
    NotAdmittedError,
    NotFoundError,
    ServiceError,
    StateRefusedError,
    TooDeepError,
)
from workflows.services.flights import in_flight, in_transaction
from workflows.services.incidents import is_out_of_time, replay_incident, replay_run
from workflows.services.orders import Order
from workflows.services.plans import pinned
from workflows.services.runs import cancel_run, pause_run, resume_run, start_child
from workflows.services.sweep import helped
from workflows.services.waits import answer_wait
from workflows.store import ChildWait

log = structlog.get_logger(__name__)

BATCH = 200
"""Waits that are read at once."""

NO_RUN = UUID(int=0)
"""An id that comes before all others, and that nothing has."""

CODES: Mapping[type[ServiceError], str] = {
    NotFoundError: "child.unknown",
    InputRefusedError: "child.input",
    EnvironmentClosedError: "child.environment",
}
"""The codes of steps whose child runs cannot be started."""

COME_TO_NOTHING = frozenset({RunState.CANCELLED, RunState.COMPENSATED})
"""A child run that ended so does not go on: a replay of its step starts another."""

DUE_OF: Mapping[RunState, Due] = {RunState.COMPLETED: Due.TELL, RunState.FAILED: Due.REPLAY}
"""What is due about a child run that is waited for again, by where it stands."""


def attend(*, run_id: UUID) -> int:
    """Do what is due about the child runs of a run and what comes of that; return how much it was.

    Safe at any time and many at once.
    """
    done = 0
    while made := _go_over(run_id):
        done += made
    return done


def _go_over(run_id: UUID) -> int:
    done, after = 0, NO_RUN
    while found := in_flight(partial(store.due_children, run_id, after=after, limit=BATCH)):
        done += sum(helped(run_id, one.path, partial(_see_to, one)) for one in found)
        after = found[-1].id
    return done


def _see_to(one: ChildWait) -> bool:
    return SEEN_TO_BY[one.due](one)


def _start(one: ChildWait) -> bool:
    """Have the child run go on that the step has waited for before, or start one."""
    if not one.request.get("anew"):
        previous = in_flight(partial(store.previous_child, one.run, one.path, one.attempt))
        if previous is not None and (adopted := _adopt(one, previous)) is not None:
            return adopted
    try:
        order, by = _order(one)
        is_started = start_child(order=order, wait=one.id, by=by)
    except ServiceError as error:
        return _answer(one, error=_refusal(one, error))
    log.debug("child.started", run=str(one.run), path=one.path, workflow=one.workflow)
    return is_started


def _adopt(one: ChildWait, previous: UUID) -> bool | None:
    """Have the step wait for the child run that there is; None when that has come to nothing.

    One that is being cancelled still may do something, so its end is awaited before another is
    started.
    """

    def work() -> bool | None:
        held = store.hold_run(previous)
        if held is None or held[0] in COME_TO_NOTHING:
            return None
        state, error = held
        if state is RunState.CANCELLING:
            return False
        if state is RunState.FAILED and not _can_go_on(previous, state, error):
            return None
        return store.link_child(one.id, previous, DUE_OF.get(state))

    return in_transaction(work)


def _can_go_on(run_id: UUID, state: RunState, error: Mapping[str, Any] | None) -> bool:
    is_open = Incident.objects.filter(run_id=run_id, resolution="").exists()
    return is_open or is_out_of_time(state, error)


def _order(one: ChildWait) -> tuple[Order, str]:
    """Return the child run to be started, and who has started what it is part of."""
    level = in_flight(partial(store.level_of, one.run, most=DEEPEST_CHILD)) + 1
    if level > DEEPEST_CHILD:
        message = (
            f"{one.workflow} would be child run number {level}, one inside the other, and"
            f" {DEEPEST_CHILD} are allowed. Does a workflow call itself without an end?"
        )
        raise TooDeepError(message)
    parent = Run.objects.select_related("environment").only("started_by", "environment__name")
    found = parent.get(pk=one.run)
    home = found.environment.name
    place = one.request.get("environment", home)
    if not in_flight(partial(store.standing, one.run, place)).is_admitted:
        message = (
            f"The environment {place} does not admit runs that steps in {home} start."
            f" Add {home} to what {place} admits, then replay the step."
        )
        raise NotAdmittedError(message)
    order = Order(
        workflow=one.workflow,
        input=one.request["input"],
        environment=place,
        version=one.request.get("version"),
        idempotency_key=f"child:{one.id}",
        parent=one.run,
        parent_path=one.path,
        is_under_way=place == home,
    )
    return order, found.started_by


def _refusal(one: ChildWait, error: ServiceError) -> StepError:
    code = CODES.get(type(error), error.code)
    findings = error.findings if isinstance(error, InputRefusedError) else ()
    reasons = "".join(f" {finding['path']}: {finding['message']}." for finding in findings)
    message = f"The child run of {one.path} was not started. {error}{reasons}"
    details = {"workflow": one.workflow, **({"findings": list(findings)} if findings else {})}
    return StepError(ErrorClass.PERMANENT, code, message, details=details)


def _replay(one: ChildWait) -> bool:
    """Have a child run that has failed go on; if nobody can, start another."""
    child = _child_of(one)
    try:
        replay_run(run_id=child, by=one.request.get("by", ENGINE))
    except ServiceError as error:
        log.info("child.not_replayed", run=str(child), reason=str(error))
    if Run.objects.filter(pk=child, state=RunState.FAILED.value).exists():
        in_flight(partial(store.start_anew, one.id, Due.REPLAY))
    else:
        in_flight(partial(store.replayed, one.id))
    return True


def _tell(one: ChildWait) -> bool:
    """Tell the step how its child run has ended."""
    child = Run.objects.select_related("workflow").filter(pk=_child_of(one)).first()
    if one.closed_at is not None:
        return _tell_late(one, child)
    if child is None:
        message = f"The child run {one.child} of {one.path} is not there any more."
        return _answer(one, error=StepError(ErrorClass.PERMANENT, "child.gone", message))
    if child.state == RunState.COMPLETED:
        return _answer(one, output=child.output, child=child)
    return _answer(one, error=_failure(child), child=child)


def _tell_late(one: ChildWait, child: Run | None) -> bool:
    """Have a step go on that failed with its child run, now that this has come to a good end."""
    incident = Incident.objects.filter(run_id=one.run, path=one.path, resolution="").first()
    if child is not None and child.state == RunState.COMPLETED and incident is not None:
        note = f"Its child run {child.pk} has been completed after all."
        try:
            replay_incident(incident_id=incident.pk, note=note, by=ENGINE)
        except ServiceError as error:
            log.info("child.not_awaited", run=str(one.run), path=one.path, reason=str(error))
    in_flight(partial(store.seen_to, one.id, Due.TELL))
    return True


def _failure(child: Run) -> StepError:
    """Return the end of a child run as the failure of the step that waits for it."""
    name = f"the child run {child.pk} of {child.workflow.name}"
    link = {"run": str(child.pk), "workflow": child.workflow.name}
    if child.state == RunState.CANCELLED:
        why = f": {child.error['message']}" if child.error else ""
        message = f"{name} was cancelled{why}"
        return StepError(ErrorClass.CANCELLED, "child.cancelled", message, details=link)
    if child.error is None:
        message = f"{name} is {child.state}"
        return StepError(ErrorClass.PERMANENT, "child.failed", message, details=link)
    error = StepError.from_dict(child.error)
    message = f"{name} failed: {error.message}"
    return replace(error, message=message, details={**error.details, **link})


def _is_to_be_undone(parent: UUID, child: UUID) -> bool:
    """Say whether a run is being undone, and its child run says how it is."""
    ending = Run.objects.filter(pk=parent).values_list("ending", flat=True).first()
    if not ending or not ending.get("undo"):
        return False
    state = Run.objects.filter(pk=child).values_list("state", flat=True).first()
    return state in UNDOABLE and pinned(child).plan.can_be_undone


def _answer(
    one: ChildWait, *, output: Any = None, error: StepError | None = None, child: Run | None = None
) -> bool:
    answer = Answered(
        one.path,
        Reason.CHILD,
        output,
        error,
        attempt=one.attempt,
        answer=None if child is None else {"run": str(child.pk), "state": child.state},
    )
    return answer_wait(pin=pinned(one.run), answer=answer, now=store.now(), by=ENGINE)


def _hold(one: ChildWait) -> bool:
    """Pause a child run with its parent; one that has yet to begin is held back (`_fill`).

    All or nothing: what was due may have been called back meanwhile.
    """
    child = _child_of(one)

    def work() -> bool:
        found = store.hold_run(child)
        has_begun = found is None or found[0] is not RunState.PENDING
        is_held = not has_begun or _did(pause_run, one)
        is_due = store.seen_to(one.id, Due.HOLD, then=Due.HELD if is_held else None)
        if not is_due:
            transaction.set_rollback(True)
        return is_due

    return in_transaction(work)


def _release(one: ChildWait) -> bool:
    """Have a child run go on with its parent, or begin if it has yet to and there is a place.

    It is noted first: a child run that ends as it goes on has its end due then.
    """
    child = _child_of(one)

    def work() -> bool:
        store.hold_run(child)
        is_due = store.seen_to(one.id, Due.RELEASE)
        if is_due:
            _did(resume_run, one)
        return is_due

    done = in_transaction(work)
    concurrency.fill_after(run_id=child)
    return done


def _child_of(one: ChildWait) -> UUID:
    """Return the child run of a wait; where there is none, an id that no run has."""
    return one.child or NO_RUN


def _did(operate: Callable[..., object], one: ChildWait) -> bool:
    """Have a child run do as its parent does; one that is not so inclined stays as it is."""
    try:
        operate(run_id=_child_of(one), by=one.request.get("by", ENGINE))
    except StateRefusedError:
        return False
    return True


def _stop(one: ChildWait) -> bool:
    """Cancel a child run that nobody waits for any more; undo it where its parent is undone."""
    child, by = _child_of(one), one.closed_by or ENGINE
    try:
        cancel_run(run_id=child, compensate=_is_to_be_undone(one.run, child), by=by)
    except ServiceError as error:
        log.info("child.not_cancelled", run=str(one.child), reason=str(error))
    in_flight(partial(store.seen_to, one.id, Due.STOP))
    return True


SEEN_TO_BY: Mapping[Due, Callable[[ChildWait], bool]] = {
    Due.START: _start,
    Due.REPLAY: _replay,
    Due.TELL: _tell,
    Due.STOP: _stop,
    Due.HOLD: _hold,
    Due.RELEASE: _release,
}
"""What is done about each thing that may be due; nothing is while a child run is HELD."""
