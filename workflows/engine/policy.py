"""Retry policy: whether a failed attempt is repeated, and after which delay."""

from datetime import timedelta
from random import Random

from workflows.engine.events import StepError
from workflows.language.spec import RetryPolicy
from workflows.language.words import ErrorClass

RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.TIMEOUT})
"""The classes that are worth another try when the policy names none."""

PATIENCE = timedelta(seconds=30)
"""A queued step that nobody has claimed by then may have lost its message: it is sent again."""

NEVER_RETRIED = frozenset({ErrorClass.UNCERTAIN, ErrorClass.CANCELLED})
"""No policy can ask for these: the one might do a thing twice, the other was asked for."""


def is_retried(policy: RetryPolicy, error: StepError, *, failures: int) -> bool:
    """Say whether the step may be tried again after its `failures`-th failure."""
    if error.error_class in NEVER_RETRIED or failures >= policy.max_attempts:
        return False
    if error.matches(policy.give_up_on):
        return False
    if policy.retry_on:
        return error.matches(policy.retry_on)
    return error.error_class in RETRIED


def delay(
    policy: RetryPolicy, *, failures: int, chance: Random, retry_after: float | None = None
) -> timedelta:
    """Return how long to wait after the `failures`-th failure.

    Exponential with a ceiling: `min(max_delay, initial_delay * multiplier ** (failures - 1))`,
    times `1 ± jitter`; `full` draws from zero to the delay. What a server asks for wins.
    """
    if retry_after is not None:
        return timedelta(seconds=max(0.0, retry_after))
    times = min(failures - 1, 1000)
    try:
        seconds = min(policy.max_delay, policy.initial_delay * policy.multiplier**times)
    except OverflowError:
        seconds = policy.max_delay
    if policy.jitter == "full":
        return timedelta(seconds=chance.uniform(0.0, seconds))
    spread = float(policy.jitter)
    return timedelta(seconds=seconds * chance.uniform(1.0 - spread, 1.0 + spread))
