"""The law of runs and steps: which state may follow which.

The tables below are the only place where this is written down. Constraints and
triggers in the database, badges on pages and the diagram in the documentation
are derived from them; `advance` proposes moves, and nothing outside this table
can be stored, not even from a SQL console.
"""

from collections.abc import Mapping
from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPENSATING = "COMPENSATING"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    COMPENSATED = "COMPENSATED"


class StepState(StrEnum):
    """Where a step of a run stands.

    WAITING holds no worker: a scope waits for the steps it owns, a caught failure
    for its fallback path, others for what comes from OUTSIDE.
    """

    PENDING = "PENDING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"
    COMPENSATING = "COMPENSATING"
    COMPENSATED = "COMPENSATED"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"


_R, _S = RunState, StepState

RUN_MOVES: Mapping[RunState, tuple[RunState, ...]] = {
    _R.PENDING: (_R.RUNNING, _R.CANCELLING),
    _R.RUNNING: (_R.COMPLETED, _R.FAILED, _R.PAUSED, _R.COMPENSATING, _R.CANCELLING),
    _R.PAUSED: (_R.RUNNING, _R.CANCELLING),
    _R.COMPENSATING: (_R.COMPENSATED, _R.FAILED, _R.CANCELLING),
    _R.CANCELLING: (_R.CANCELLED,),
    _R.COMPLETED: (),
    _R.FAILED: (_R.RUNNING, _R.COMPENSATING),
    _R.CANCELLED: (),
    _R.COMPENSATED: (),
}
"""A FAILED run goes on by a replay, so FAILED is final only until a person says otherwise."""

STEP_MOVES: Mapping[StepState, tuple[StepState, ...]] = {
    _S.PENDING: (_S.QUEUED, _S.SKIPPED, _S.CANCELLED),
    _S.QUEUED: (_S.RUNNING, _S.RETRYING, _S.CANCELLED),
    _S.RUNNING: (_S.COMPLETED, _S.FAILED, _S.RETRYING, _S.WAITING, _S.CANCELLED),
    _S.WAITING: (_S.COMPLETED, _S.FAILED, _S.CANCELLED),
    _S.RETRYING: (_S.QUEUED, _S.CANCELLED),
    _S.COMPLETED: (_S.COMPENSATING,),
    _S.FAILED: (_S.QUEUED, _S.SKIPPED),
    _S.SKIPPED: (_S.PENDING,),
    _S.CANCELLED: (_S.PENDING,),
    _S.COMPENSATING: (_S.COMPENSATED, _S.COMPENSATION_FAILED),
    _S.COMPENSATED: (),
    _S.COMPENSATION_FAILED: (_S.COMPENSATING,),
}
"""SKIPPED and CANCELLED return to PENDING only when a replay reopens the failure they ended for.

QUEUED goes to RETRYING when the step is parked: what it needs is not to be had at the moment.
"""

LIVE_STEPS = frozenset({_S.PENDING, _S.QUEUED, _S.RUNNING, _S.WAITING, _S.RETRYING})
LIVE_RUNS = frozenset({_R.PENDING, _R.RUNNING, _R.PAUSED, _R.COMPENSATING, _R.CANCELLING})
PLACE_HOLDERS = LIVE_RUNS - {_R.PENDING}
"""A run holds a place among those with its key from its begin to its end."""
FINISHED_STEPS = frozenset(StepState) - LIVE_STEPS - {_S.COMPENSATING}
FINISHED_RUNS = frozenset(RunState) - LIVE_RUNS

HANDS_ON = frozenset({_S.COMPLETED, _S.SKIPPED})
"""Where a step may hand something on: one that was skipped, what a person gave in its place."""

TO_BE_UNDONE = frozenset({_S.COMPLETED, _S.COMPENSATING})
"""While a run is undone and nothing of it is under way: the states of what is left to be undone."""

UNDOING = frozenset({_S.COMPENSATING, _S.COMPENSATED, _S.COMPENSATION_FAILED})
"""Behind these a step was completed once; for whatever counts how steps have ended it still is."""

UNDONE = frozenset({_S.COMPENSATED, _S.COMPENSATION_FAILED})
"""How far a completed step may have been undone. When it was completed stays its finish time."""


class Reason(StrEnum):
    """Why a step is where it is, when the state alone does not say."""

    WHEN = "when"
    NO_CASE = "no_case"
    NOT_TAKEN = "not_taken"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_SKIPPED = "upstream_skipped"
    EXIT = "exit"
    FAIL_FAST = "fail_fast"
    LOST_RACE = "lost_race"
    TIMEOUT = "timeout"
    RUN_CANCELLED = "run_cancelled"
    OPTIONAL = "optional"
    CHILDREN = "children"
    CATCH = "catch"
    APPROVAL = "approval"
    CALLBACK = "callback"
    EVENT = "event"
    TIME = "time"
    CHILD = "child"
    RETRY = "retry"
    WORKER_LOST = "worker_lost"
    GUARD = "guard"
    PROFILE = "profile"
    PROBE = "probe"
    LAST_PROBE = "last_probe"
    REPLAYED = "replayed"
    REOPENED = "reopened"
    SKIPPED_BY_OPERATOR = "skipped_by_operator"
    DISCARDED = "discarded"
    PARTIAL = "partial"
    GIVEN_UP = "given_up"
    """The run went over to a version that has it no more."""
    LEFT_OUT = "left_out"
    """The run went over to the version that has it when its turn had passed: it does without."""
    HELD_BACK = "held_back"
    """As above, but what is around it had failed: its turn comes if that is replayed."""


OUTSIDE = frozenset({Reason.APPROVAL, Reason.CALLBACK, Reason.EVENT, Reason.TIME, Reason.CHILD})
"""What a WAITING step waits for that no step of its run brings: each such wait is an attempt."""


class Due(StrEnum):
    """What is to be done about the child run that a step waits for, or waited for."""

    START = "start"
    """The step waits, and there is no child run yet."""
    REPLAY = "replay"
    """The step waits again for the child run that had failed, which is to go on."""
    TELL = "tell"
    """The child run has ended, and the step has not heard of it."""
    STOP = "stop"
    """The step does not wait any more, and the child run has not ended."""
    HOLD = "hold"
    """The run of the step is paused, and the child run is to be."""
    HELD = "held"
    """The child run is paused with it: nothing is due until that goes on."""
    RELEASE = "release"
    """The run of the step goes on, and the child run that was paused with it is to."""


class RunReason(StrEnum):
    """Why a run is where it is, when the state alone does not say."""

    PARKED = "parked"
    """Nothing is left to do but what a person must decide."""
    QUEUED = "queued"
    """Others hold the places that its workflow has for its key."""
    REPLACING = "replacing"
    """As above; they are being cancelled for it."""
    SKIPPED = "skipped"
    """When it was started, others held the places."""
    REPLACED = "replaced"
    """A newer run took its place."""


ASKING = frozenset({Reason.PROBE, Reason.LAST_PROBE})
"""Why an attempt asks its probe before it calls the function, or asks and calls no more."""

PARKED = frozenset({Reason.GUARD, Reason.PROFILE})
"""Why a step whose turn it is stays out of the queue: its guard is open, or no profile is free."""
