"""A circuit breaker: what it makes of failures, of time, of a trial and of people. Pure.

CLOSED lets every step pass and counts failures; enough of them within the window open it. OPEN
lets none pass until it has cooled down. HALF_OPEN lets one pass, the trial: its end closes the
breaker, or opens it again for longer. After that it ramps up: of the steps that were parked a few
are let go, and twice as many each time that those get through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from workflows.engine.events import StepError
from workflows.language.words import ErrorClass


class BreakerState(StrEnum):
    """Whether steps may use the dependency."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


_B = BreakerState

BREAKER_MOVES: Mapping[BreakerState, tuple[BreakerState, ...]] = {
    _B.CLOSED: (_B.OPEN,),
    _B.OPEN: (_B.HALF_OPEN, _B.CLOSED),
    _B.HALF_OPEN: (_B.CLOSED, _B.OPEN),
}

COUNTED = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMEOUT})
"""The classes of errors that say that the dependency is in trouble."""

OUR_CODES = ("environment.", "expression.", "probe.", "step.", "task.", "value.", "worker.")
"""What codes of errors begin with that do not come from the dependency."""

LOOK_EVERY = timedelta(seconds=1)
"""Between two looks at a breaker that lets parked steps go."""

RECHECK = timedelta(seconds=5)
"""Between two looks at whether a trial is still under way: its end is told, but may be lost."""

RAMP_FIRST = 1
"""What ramping up begins with: the trial has got through, twice as many come next."""

RAMP_LAST = 256
"""So many at a time through, the dependency is well: the others are let go without counting."""

LONGER = 2.0
"""How many times longer each cool-down is than the one before."""


class Answer(StrEnum):
    """What a step that was let through says of the dependency."""

    NONE_YET = "none_yet"
    WELL = "well"
    BADLY = "badly"
    NEVER = "never"
    """It ended without having asked, or nobody knows."""


class Passage(StrEnum):
    """What becomes of a step that comes to the breaker."""

    THROUGH = "through"
    TRIAL = "trial"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class Rule:
    """When a breaker opens, and for how long. Times are in seconds."""

    threshold: int = 5
    window: int = 60
    cool_down: int = 30
    longest_cool_down: int = 900


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where a breaker stands.

    `failures` are those that count, the oldest first; `since` is when the state began; `trial` the
    parking whose step is the trial; `ramp` how many parked steps may be under way at a time while
    it ramps up; `wake_at` when somebody must look at it again. `held`: a person has opened it, and
    only a person closes it.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: tuple[datetime, ...] = ()
    cool_down: float = 0.0
    since: datetime | None = None
    trial_at: datetime | None = None
    trial: int | None = None
    ramp: int | None = None
    held: bool = False
    why: str = ""
    wake_at: datetime | None = None
    rule: Rule = field(default_factory=Rule)


def answer_of(error: StepError | None) -> Answer:
    """Return what the end of an attempt says of the dependency; no error is an attempt that did.

    A refusal of the dependency is an answer: it is there.
    """
    if error is None:
        return Answer.WELL
    if error.error_class in COUNTED:
        return Answer.BADLY
    if error.error_class in {ErrorClass.PERMANENT, ErrorClass.BUSINESS} and not (
        error.code.startswith(OUR_CODES)
    ):
        return Answer.WELL
    return Answer.NEVER


def failed(breaker: Breaker, error: StepError, *, now: datetime) -> Breaker:
    """Count a failure; open the breaker when it is one too many. Only a closed one counts."""
    if breaker.state is not BreakerState.CLOSED or error.error_class not in COUNTED:
        return breaker
    rule = breaker.rule
    recent = tuple(
        moment for moment in breaker.failures if moment > now - timedelta(seconds=rule.window)
    )
    counted = (*recent, now)[-rule.threshold :]
    if len(counted) < rule.threshold:
        return replace(breaker, failures=counted)
    why = f"{len(counted)} failures within {rule.window} s, the last: {error.code}: {error.message}"
    return _open(breaker, why, now=now)


def passage(
    breaker: Breaker, *, is_permitted: bool, is_trial: bool, waiting: bool, now: datetime
) -> Passage:
    """Say what becomes of a step. It `is_permitted` when it was parked and has been let go."""
    match breaker.state:
        case BreakerState.CLOSED:
            free = breaker.ramp is None or is_permitted or not waiting
            return Passage.THROUGH if free else Passage.PARK
        case BreakerState.OPEN:
            cooled = breaker.trial_at is not None and breaker.trial_at <= now
            return Passage.TRIAL if cooled and not breaker.held else Passage.PARK
        case BreakerState.HALF_OPEN:
            if breaker.trial is None:
                return Passage.TRIAL
            return Passage.THROUGH if is_trial else Passage.PARK


def with_trial(breaker: Breaker, parking: int, *, now: datetime) -> Breaker:
    """Have one step try whether the dependency is well again."""
    begun = replace(breaker, trial=parking, trial_at=None, wake_at=now + RECHECK)
    if breaker.state is BreakerState.HALF_OPEN:
        return begun
    return replace(begun, state=BreakerState.HALF_OPEN, since=now)


def with_waiting(breaker: Breaker, *, now: datetime) -> Breaker:
    """Have somebody look when a parked step may go: it has been parked just now."""
    if breaker.wake_at is not None or breaker.held:
        return breaker
    due = breaker.trial_at if breaker.state is BreakerState.OPEN else None
    return replace(breaker, wake_at=max(due or now, now) if due else now + LOOK_EVERY)


def answered(breaker: Breaker, answer: Answer, *, now: datetime) -> Breaker:
    """Hear how the trial stands."""
    match answer:
        case Answer.NONE_YET:
            return replace(breaker, wake_at=now + RECHECK)
        case Answer.WELL:
            return _close(breaker, "the trial step went well", now=now)
        case Answer.BADLY:
            return _open(breaker, "the trial step failed", now=now)
        case Answer.NEVER:
            return replace(breaker, trial=None, wake_at=now)


def ramped(breaker: Breaker, *, waiting: bool, under_way: int, now: datetime) -> Breaker:
    """Go on ramping up: twice as many, if half of those that may be under way are through."""
    if not waiting:
        return replace(breaker, ramp=None, wake_at=None)
    if breaker.ramp is None or breaker.ramp > RAMP_LAST:
        return replace(breaker, ramp=None, wake_at=now + LOOK_EVERY)
    wider = breaker.ramp * 2 if under_way <= breaker.ramp // 2 else breaker.ramp
    return replace(breaker, ramp=wider, wake_at=now + LOOK_EVERY)


def opened_by_hand(breaker: Breaker, why: str, *, now: datetime) -> Breaker:
    """Open the breaker until a person closes it."""
    return replace(_open(breaker, why, now=now), held=True, trial_at=None, wake_at=None)


def closed_by_hand(breaker: Breaker, why: str, *, now: datetime) -> Breaker:
    """Close the breaker; what is parked is let go a few at a time."""
    return _close(breaker, why, now=now)


def _open(breaker: Breaker, why: str, *, now: datetime) -> Breaker:
    cool_down = _cool_down(breaker, now)
    trial_at = now + timedelta(seconds=cool_down)
    return replace(
        breaker,
        state=BreakerState.OPEN,
        failures=(),
        cool_down=cool_down,
        since=now,
        trial_at=trial_at,
        trial=None,
        ramp=None,
        held=False,
        why=why,
        wake_at=trial_at,
    )


def _cool_down(breaker: Breaker, now: datetime) -> float:
    """Return the seconds until a trial; longer than before if it has not been well for long."""
    rule = breaker.rule
    was = breaker.cool_down
    calm = timedelta(seconds=was + rule.window)
    if not was or breaker.since is None or now - breaker.since > calm:
        return float(rule.cool_down)
    return min(was * LONGER, float(max(rule.longest_cool_down, rule.cool_down)))


def _close(breaker: Breaker, why: str, *, now: datetime) -> Breaker:
    return replace(
        breaker,
        state=BreakerState.CLOSED,
        failures=(),
        since=now,
        trial_at=None,
        trial=None,
        ramp=RAMP_FIRST,
        held=False,
        why=why,
        wake_at=now,
    )
