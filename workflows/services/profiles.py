"""Profiles: a step that asks for one waits, holding nothing, and has it to itself while it runs.

Who is next is decided under the lock of the pool's row. A profile that becomes free is kept for
whoever has waited longest, and that step is made due. An attempt that ends cleanly gives its
profile back with the context that the task has left in it, before its outcome is recorded; one
that does not, for its worker was lost or its time was up, leaves it tainted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from environments.errors import UnreadableError
from environments.states import ProfileState
from workflows import store
from workflows.engine.events import Failed, Parked, StepError, Succeeded
from workflows.engine.states import Reason
from workflows.language.limits import too_large, unstorable
from workflows.language.words import ErrorClass
from workflows.models import ENGINE
from workflows.services.errors import (
    InputRefusedError,
    NotFoundError,
    StateRefusedError,
    as_sentence,
    reason_given,
)
from workflows.services.flights import in_flight
from workflows.services.plans import Pinned
from workflows.store import gates, profiles

log = structlog.get_logger(__name__)

LOOKED_AT_ANYWAY = timedelta(hours=1)
"""A step that waits comes back by itself after that, should its pool have forgotten it."""

UNCLEAN = frozenset({"task.timeout", "task.memory", "task.exit"})
"""The codes of errors with which a task ends in the middle of what it was doing."""

AT_ONCE = 100
"""How many profiles of a pool are handed out at a time."""

SETTLED_AFTER = timedelta(seconds=10)
"""So long after a step took a profile nobody asks what became of it: it may be on its way."""

Done = Callable[[], None]


@dataclass(slots=True)
class Profile:
    """A profile that an attempt has. The task reads and changes `context`; None cannot be read."""

    run: UUID
    name: str
    pool: str
    environment: str
    context: Any = field(repr=False)
    refusal: StepError | None = None
    id: int = 0
    turn: int = 0
    """Which of the folders that the profile has had is its own now."""
    keeps_folder: bool = True
    """Whether the folder outlasts the attempt."""
    soiled: str | None = None
    """Why it must not be leased again as it has been left."""


def lease_profile(
    pin: Pinned, path: str, attempt: int, *, environment: str, now: datetime
) -> tuple[Parked | None, Done]:
    """Find an attempt its profile, or have it wait. The caller has a transaction.

    What is returned besides is to be called once the attempt is claimed, or parked. Where there
    is no such pool the attempt goes on, to be refused by `profile_of`.
    """
    node = pin.plan.node(path)
    pool = profiles.hold_pool(environment, node.pool)
    if pool is None:
        return None, _nothing
    found = profiles.reserved(pool, pin.run, path, attempt)
    if found is None and not gates.waiting(pool.gate, limit=1, paused=False):
        found = next(iter(profiles.free(pool, limit=1)), None)

    def taken() -> None:
        gates.unpark(pin.run, path, now=now)
        for_run = node.keeps_profile
        profiles.lease(found or 0, pin.run, path, attempt, for_run=for_run, taken=True, now=now)

    def put_aside() -> None:
        gates.unpark(pin.run, path, now=now)
        gates.park(
            pin.run,
            path,
            attempt,
            environment_id=pool.environment_id,
            gate=Reason.PROFILE,
            name=pool.name,
            since=now,
        )

    if found is not None:
        return None, taken
    return Parked(path, attempt, Reason.PROFILE, now + LOOKED_AT_ANYWAY), put_aside


def let_go_of(pin: Pinned, path: str, attempt: int) -> None:
    """Have others lease what was kept for an attempt that cannot be made now."""
    profiles.unreserve(pin.run, path, attempt)


def profile_of(pin: Pinned, path: str, attempt: int, *, environment: str) -> Profile:
    """Return the profile that a claimed attempt has, or why it has none."""
    pool = pin.plan.node(path).pool
    found = profiles.leased(pin.run, path, attempt)
    if found is None:
        message = (
            f"there is no pool of profiles {pool} in the environment {environment}, so {path} was"
            " not carried out; make it, with a profile in it, and replay the step"
        )
        refusal = StepError(ErrorClass.PERMANENT, "profile.no_pool", message)
        return Profile(pin.run, "", pool, environment, None, refusal)
    # Loaded here: whoever leases no profiles has no need of cryptography.
    from environments.vault import unseal

    try:
        context = unseal(environment, found.sealed) if found.sealed else {}
    except UnreadableError as error:
        refusal = StepError(ErrorClass.PERMANENT, "profile.unreadable", str(error))
        return Profile(pin.run, found.name, pool, environment, None, refusal)
    return Profile(
        pin.run,
        found.name,
        pool,
        environment,
        context,
        id=found.id,
        turn=found.turn,
        keeps_folder=found.keeps_folder or found.for_run,
    )


def give_back(profile: Profile, outcome: Succeeded | Failed, *, now: datetime) -> None:
    """Take a profile back from an attempt that is over, and keep it for who waits for it."""
    mine = (profile.run, outcome.path, outcome.attempt)
    why = _unclean(outcome) or profile.soiled or _unstorable(profile.context)
    if why is not None:
        in_flight(partial(_taint, *mine, why))
        return
    sealed = None
    if profile.context is not None:
        from environments.vault import seal

        sealed = seal(profile.environment, profile.context)

    def work() -> None:
        pool = profiles.give_back(*mine, context=sealed, now=now)
        if pool is not None:
            _hand_out(pool, now)

    in_flight(work)


def taint(run_id: UUID, attempts: Iterable[tuple[str, int]], *, why: str) -> None:
    """Have nobody use the profiles of attempts that ended in the middle until a person has."""
    for path, attempt in attempts:
        in_flight(partial(_taint, run_id, path, attempt, why))


def release_run(run_id: UUID, *, now: datetime) -> None:
    """Take back what a run has kept, if it has ended."""
    in_flight(partial(_release_runs, run_id, now))


def sweep(*, now: datetime) -> list[str]:
    """Find what was left over by whoever died, and say what was done about it."""
    lines = []
    for run_id, path, attempt in in_flight(partial(profiles.abandoned, before=now - SETTLED_AFTER)):
        taint(run_id, [(path, attempt)], why=f"attempt {attempt} at {path} did not give it back")
        lines.append(f"run {run_id} step {path}: its profile was not given back, so it is tainted")
    in_flight(partial(_release_runs, None, now))
    for pool in in_flight(
        lambda: [*profiles.give_up_reservations(), *profiles.pools_to_hand_out()]
    ):
        in_flight(partial(_hand_out, pool, now))
    return lines


def hand_out(pool: int, *, now: datetime) -> None:
    """Keep what is free of a pool for those who have waited longest, and make them due."""
    in_flight(partial(_hand_out, pool, now))


def create_profile(*, pool: int, name: str, context: Mapping[str, Any], by: str) -> int:
    """Make a profile, free at once, with its context sealed; return its id.

    Raises NotFoundError, and InputRefusedError for a name that is taken or a context that cannot
    be kept.
    """
    _refuse_context(context)
    from environments.vault import seal

    def work() -> int:
        store.act_as(by)
        held = profiles.hold_pool_of(pool)
        if held is None:
            raise NotFoundError("pool", pool)
        made = profiles.make(pool, name, seal(held.environment, dict(context)))
        if made is None:
            raise InputRefusedError(f"The pool {held.name} has a profile named {name} already.")
        _hand_out(pool, store.now())
        return made

    return in_flight(work)


def replace_context(*, profile: int, context: Mapping[str, Any], by: str) -> None:
    """Give a profile another context, such as after a new login; it is clean then.

    Raises NotFoundError, StateRefusedError while a step has it, and InputRefusedError.
    """
    _refuse_context(context)
    from environments.vault import seal

    def work() -> None:
        store.act_as(by)
        held = _held(profile)
        _refuse_leased(held)
        pool = profiles.hold_pool_of(held.pool)
        if pool is not None:
            profiles.replace(profile, seal(pool.environment, dict(context)), now=store.now())

    in_flight(work)


def clear_profile(*, profile: int, why: str, by: str) -> None:
    """Have a tainted profile leased again: somebody has looked, and it is well.

    Raises NotFoundError, InputRefusedError without a reason, and StateRefusedError.
    """
    _move(profile, ProfileState.FREE, (ProfileState.TAINTED,), why, by)


def empty_folder(*, profile: int, by: str) -> None:
    """Have whoever leases a profile next find its working folder empty.

    Raises NotFoundError, and StateRefusedError while a step has it.
    """

    def work() -> None:
        store.act_as(by)
        held = _held(profile)
        if held.state == ProfileState.LEASED:
            message = (
                f"The profile {held.name} is leased, and a step may be using its folder. Try"
                " again when that has ended."
            )
            raise StateRefusedError(message)
        profiles.turn(profile)

    in_flight(work)


@dataclass(slots=True)
class Resealed:
    """What became of what is sealed, in numbers."""

    sealed_anew: int = 0
    sealed_already: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    """By environment: this process lacks the key."""


def reseal_all() -> Resealed:
    """Seal all contexts under the newest key of their environments, a batch at a time."""
    total, after = Resealed(), 0
    while batch := in_flight(partial(_reseal_some, after)):
        for profile, environment, is_fresh in batch:
            after = profile
            if is_fresh is None:
                total.unreadable[environment] = total.unreadable.get(environment, 0) + 1
            elif is_fresh:
                total.sealed_anew += 1
            else:
                total.sealed_already += 1
    return total


def _reseal_some(after: int) -> list[tuple[int, str, bool | None]]:
    """Seal the next contexts anew; say of each whether that was needed, None: it is unreadable."""
    from environments.vault import reseal

    done: list[tuple[int, str, bool | None]] = []
    for profile, environment, context in profiles.sealed(after=after, limit=AT_ONCE):
        try:
            fresh = reseal(environment, context)
        except UnreadableError:
            done.append((profile, environment, None))
            continue
        if fresh is not None:
            profiles.reseal(profile, fresh)
        done.append((profile, environment, fresh is not None))
    return done


def disable_profile(*, profile: int, why: str, by: str) -> None:
    """Have a profile leased no more.

    Raises NotFoundError, InputRefusedError without a reason, and StateRefusedError.
    """
    _move(profile, ProfileState.DISABLED, (ProfileState.FREE, ProfileState.TAINTED), why, by)


def enable_profile(*, profile: int, why: str, by: str) -> None:
    """Have a profile leased again that was disabled.

    Raises NotFoundError, InputRefusedError without a reason, and StateRefusedError.
    """
    _move(profile, ProfileState.FREE, (ProfileState.DISABLED,), why, by)


def _move(
    profile: int, state: ProfileState, allowed: tuple[ProfileState, ...], why: str, by: str
) -> None:
    """Move a profile by hand. Raises NotFoundError, InputRefusedError, StateRefusedError."""
    reason = reason_given(why)

    def work() -> None:
        store.act_as(by)
        held = _held(profile)
        if held.state not in allowed:
            wanted = " or ".join(one.value.lower() for one in allowed)
            message = f"The profile {held.name} is {held.state.lower()}, not {wanted}."
            raise StateRefusedError(message)
        profiles.move(profile, state, f"{reason} ({by})")
        _hand_out(held.pool, store.now())

    in_flight(work)


def _held(profile: int) -> profiles.Held:
    found = profiles.hold(profile)
    if found is None:
        raise NotFoundError("profile", profile)
    return found


def _refuse_leased(held: profiles.Held) -> None:
    if held.state == ProfileState.LEASED:
        message = (
            f"The profile {held.name} is leased, and what you give it now would be"
            " overwritten. Try again when its step has ended."
        )
        raise StateRefusedError(message)


def _refuse_context(context: Any) -> None:
    if reason := _unstorable(context):
        raise InputRefusedError(as_sentence(reason))


def _hand_out(pool_id: int, now: datetime) -> None:
    pool = profiles.hold_pool_of(pool_id)
    if pool is None:
        return
    gates.tidy(pool.gate, now=now)
    waiting = profiles.parked(gates.waiting(pool.gate, limit=AT_ONCE, paused=False))
    for profile, run_id in profiles.idle(pool):
        mine = next((one for one in waiting if one[1] == run_id), None)
        if mine is not None:
            waiting.remove(mine)
            _keep_for(profile, mine, now)
    if waiting:
        for profile, one in zip(profiles.free(pool, limit=len(waiting)), waiting, strict=False):
            _keep_for(profile, one, now)


def _keep_for(profile: int, parking: tuple[int, UUID, str, int], now: datetime) -> None:
    parked, run_id, path, attempt = parking
    profiles.lease(profile, run_id, path, attempt, now=now)
    gates.let_go([parked], now=now)


def _taint(run_id: UUID, path: str, attempt: int, why: str) -> None:
    store.act_as(ENGINE)
    if profiles.taint(run_id, path, attempt, why=why):
        log.warning("profile.tainted", run=str(run_id), path=path, attempt=attempt, why=why)


def _release_runs(run_id: UUID | None, now: datetime) -> None:
    for pool in profiles.release_runs(run_id):
        _hand_out(pool, now)


def _unclean(outcome: Succeeded | Failed) -> str | None:
    if isinstance(outcome, Failed) and outcome.error.code in UNCLEAN:
        return (
            f"attempt {outcome.attempt} at {outcome.path} ended in the middle: {outcome.error.code}"
        )
    return None


def _unstorable(context: Any) -> str | None:
    """Return why a context cannot be kept; what is in it is not said."""
    if context is None:
        return None
    name = "the context of the profile"
    if not isinstance(context, Mapping):
        return f"{name} is no object"
    try:
        return unstorable(name, context) or too_large(name, context)
    except (TypeError, ValueError):
        return f"{name} is not JSON"


def _nothing() -> None:
    """Do nothing."""
