"""Guards: steps pass the circuit breaker of what they depend on, or are parked before it.

A closed breaker costs a step one look, and only a failure is told to it. An open one parks steps
when a worker comes for them: they hold no worker and use up no try. Who is let go, and the one
trial, are chosen under the lock of the breaker's row, so exactly once whoever asks. To let a step
go is to make it due; timers do the rest. Nothing is told to a breaker that its rows do not know:
should a worker die with a trial, the next look finds what became of it.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import Any

import structlog

from workflows import store
from workflows.engine import breaker as law
from workflows.engine.breaker import Answer, Breaker, BreakerState, Passage
from workflows.engine.events import Failed, Parked, StepError, Succeeded
from workflows.engine.plan import ROOT
from workflows.engine.states import Reason
from workflows.models import ENGINE
from workflows.services.errors import NotFoundError, StateRefusedError, reason_given
from workflows.services.flights import in_flight
from workflows.services.plans import Pinned
from workflows.store import gates

log = structlog.get_logger(__name__)

LOOKED_AT_ANYWAY = timedelta(hours=1)
"""A parked step comes back by itself after that, should its gate have forgotten it."""

AT_ONCE = 1000
"""How many parked steps a well dependency gets back at a look."""

CLOCK_EVERY = timedelta(seconds=10)
"""Between two looks at a time that is up, but stands still."""

MOST_BREAKERS = 100
"""How many breakers one tick looks at."""


def is_shut(environment: str, guard: str) -> bool:
    """Say whether steps with this guard must be asked whether they may pass. One statement."""
    return gates.is_shut(environment, guard)


def pass_guard(
    pin: Pinned, path: str, attempt: int, *, environment: str, now: datetime
) -> tuple[Parked | None, Callable[[], None]]:
    """Say whether an attempt may be made: None, or that it is parked. The caller has a transaction.

    What is returned besides is to be called once the attempt is claimed, or parked.
    """
    guard = pin.plan.node(path).guard
    held = gates.hold_breaker(environment, guard)
    if held is None:
        return None, partial(gates.unpark, pin.run, path, now=now)
    held = _look(held, now=now)
    permit = gates.permit_of(pin.run, path, attempt, gate=Reason.GUARD)
    passage = law.passage(
        held.breaker,
        is_permitted=permit is not None,
        is_trial=permit is not None and permit == held.breaker.trial,
        waiting=bool(gates.waiting(held.gate, limit=1)),
        now=now,
    )
    parked = Parked(path, attempt, Reason.GUARD, now + LOOKED_AT_ANYWAY)
    row = partial(gates.park, pin.run, path, attempt, since=now, **_place(held))

    def claimed() -> None:
        gates.unpark(pin.run, path, now=now)

    def tried() -> None:
        gates.unpark(pin.run, path, now=now)
        _save(held, law.with_trial(held.breaker, row(until=now), now=now))

    def put_aside() -> None:
        gates.unpark(pin.run, path, now=now)
        row()
        _save(held, law.with_waiting(held.breaker, now=now))

    match passage:
        case Passage.THROUGH:
            return None, claimed
        case Passage.TRIAL:
            return None, tried
        case Passage.PARK:
            return parked, put_aside


def tell(
    environment: str, guard: str, outcome: Succeeded | Failed, *, is_asked: bool, now: datetime
) -> None:
    """Tell a breaker how an attempt ended; of a success only if it `is_asked`, for it is a trial.

    The attempt has been recorded. What is lost here, the next look at the breaker finds.
    """
    if isinstance(outcome, Failed) and outcome.error.error_class in law.COUNTED:
        in_flight(partial(_count, environment, guard, outcome.error, now))
    elif is_asked:
        in_flight(partial(_look_at, environment, guard, now))


def look_at_due(*, now: datetime) -> bool:
    """Let parked steps go whose breakers allow it, and say whether any breaker was due."""
    looks = (in_flight(partial(_look_at_next, now)) for _ in range(MOST_BREAKERS))
    return sum(1 for _ in takewhile(bool, looks)) > 0


def is_stopped(pin: Pinned, scope: str, *, now: datetime) -> bool:
    """Say whether a scope, or the run, has time left, for its clock has stood still.

    It does while a step in it is parked before its guard. The time is then looked at again when
    it is up by that clock. The caller has a transaction.
    """
    if not pin.plan.guards:
        return False
    limit = pin.plan.timeout if scope == ROOT else pin.plan.node(scope).timeout
    found = gates.clock_of(pin.run, scope, now=now)
    if limit is None or found is None:
        return False
    began, stopped, stands_still = found
    due = began + timedelta(seconds=limit + stopped)
    if stands_still:
        due = max(due, now + CLOCK_EVERY)
    if due <= now:
        return False
    gates.postpone(pin.run, scope, to=due, now=now)
    return True


def open_guard(*, environment: str, guard: str, why: str, by: str) -> None:
    """Open a breaker by hand: its steps are parked until a person closes it.

    Raises InputRefusedError without a reason, NotFoundError for an environment that is not there,
    and StateRefusedError when a person has opened it already.
    """
    _by_hand(environment, guard, why, by, law.opened_by_hand)


def close_guard(*, environment: str, guard: str, why: str, by: str) -> None:
    """Close a breaker by hand: what is parked is let go, a few at a time.

    Raises InputRefusedError without a reason, NotFoundError for an environment that is not there,
    and StateRefusedError when it is closed already.
    """
    _by_hand(environment, guard, why, by, law.closed_by_hand)


def _by_hand(
    environment: str, guard: str, why: str, by: str, change: Callable[..., Breaker]
) -> None:
    reason, now = reason_given(why), store.now()

    def work() -> None:
        store.act_as(by)
        gates.make_breaker(environment, guard)
        held = gates.hold_breaker(environment, guard)
        if held is None:
            raise NotFoundError("environment", environment)
        before = held.breaker
        after = change(before, f"{reason} ({by})", now=now)
        if after.state is before.state and after.held == before.held:
            how = "open, and stays so," if before.held else before.state.value.lower()
            raise StateRefusedError(f"The guard {guard} of {environment} is {how} already.")
        _save(held, after)

    in_flight(work)


def _count(environment: str, guard: str, error: StepError, now: datetime) -> None:
    held = gates.hold_breaker(environment, guard)
    if held is None:
        gates.make_breaker(environment, guard)
        held = gates.hold_breaker(environment, guard)
    if held is not None:
        store.act_as(ENGINE)
        held = _look(held, now=now)
        _save(held, law.failed(held.breaker, error, now=now))


def _look_at(environment: str, guard: str, now: datetime) -> None:
    held = gates.hold_breaker(environment, guard)
    if held is not None:
        _look(held, now=now)


def _look_at_next(now: datetime) -> bool:
    held = gates.hold_due_breaker(now=now)
    if held is not None:
        after = _look(held, now=now)
        if after.breaker.wake_at is not None and after.breaker.wake_at <= now:
            _save(after, replace(after.breaker, wake_at=now + law.LOOK_EVERY))
    return held is not None


def _look(held: gates.Held, *, now: datetime) -> gates.Held:
    """Do what is due at a breaker: hear its trial, begin one, let parked steps go."""
    store.act_as(ENGINE)
    if held.breaker.state is BreakerState.HALF_OPEN and held.breaker.trial is not None:
        answer = gates.answer_of_trial(held.breaker.trial)
        if answer is not Answer.NONE_YET or _is_due(held.breaker, now):
            held = _save(held, law.answered(held.breaker, answer, now=now))
    if not _is_due(held.breaker, now):
        return held
    gates.tidy(held.gate, now=now)
    match held.breaker:
        case Breaker(state=BreakerState.CLOSED):
            return _let_go(held, now=now)
        case Breaker(trial=None, held=False):
            return _begin_trial(held, now=now)
    return held


def _is_due(breaker: Breaker, now: datetime) -> bool:
    return breaker.wake_at is not None and breaker.wake_at <= now


def _begin_trial(held: gates.Held, *, now: datetime) -> gates.Held:
    """Choose the trial among the parked steps; where there is none, the next that comes is it."""
    chosen = gates.waiting(held.gate, limit=1, paused=False)
    if chosen:
        gates.let_go(chosen, now=now)
        return _save(held, law.with_trial(held.breaker, chosen[0], now=now))
    again = now + law.RECHECK if gates.waiting(held.gate, limit=1) else None
    return _save(held, replace(held.breaker, wake_at=again))


def _let_go(held: gates.Held, *, now: datetime) -> gates.Held:
    """Let parked steps go: as many as may be under way while it ramps up, else all of them."""
    before = held.breaker
    busy = gates.under_way(held.gate, since=before.since or now) if before.ramp else 0
    is_waited_for = bool(gates.waiting(held.gate, limit=1))
    after = law.ramped(before, waiting=is_waited_for, under_way=busy, now=now)
    free = AT_ONCE if after.ramp is None else after.ramp - busy
    if is_waited_for and free > 0:
        gates.let_go(gates.waiting(held.gate, limit=free), now=now)
    return _save(held, after)


def _save(held: gates.Held, breaker: Breaker) -> gates.Held:
    gates.save_breaker(held, breaker)
    before = held.breaker
    if breaker.state is not before.state:
        log.warning(
            "guard.moved",
            guard=held.name,
            environment=held.environment,
            before=before.state.value,
            after=breaker.state.value,
            why=breaker.why,
        )
    return replace(held, breaker=breaker)


def _place(held: gates.Held) -> dict[str, Any]:
    return {"environment_id": held.environment_id, "gate": Reason.GUARD, "name": held.name}
