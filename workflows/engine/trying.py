"""One attempt at a step: taken, ended well, ended badly, lost; and the next one.

An attempt that was lost, or interrupted, may have taken effect. What may not be repeated
blindly is then tried again only behind the answer of its probe: the next attempt bears the
reason `probe`, and its worker asks before it calls. When no try is left, it bears the reason
`last_probe`, and its worker asks and calls no more. Without an answer, a person is asked.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from workflows.engine import compensating, ending, policy, starting
from workflows.engine.decision import AttemptEnd, AttemptRecord, LateResult
from workflows.engine.draft import Draft
from workflows.engine.events import (
    Claimed,
    Ended,
    Failed,
    LeaseExpired,
    Loss,
    Parked,
    Repeat,
    RetryDue,
    StepError,
    Succeeded,
)
from workflows.engine.slice import StepView
from workflows.engine.states import ASKING, Reason, RunState, StepState
from workflows.engine.values import NO_VALUE, refusal
from workflows.language.spec import RetryPolicy
from workflows.language.words import ErrorClass

REOPENED_FOR = frozenset({Reason.FAIL_FAST, Reason.TIMEOUT})
"""Why a step may have been ended that a replay of another has go on."""


def claim(draft: Draft, event: Claimed) -> None:
    """Give the attempt to the worker, unless the run is held or ending."""
    view = draft.view(event.path)
    if not compensating.can_begin(draft.slice.run, draft.node_of(view)):
        return
    told = {} if view.reason is Reason.LAST_PROBE else {"error": None}
    draft.move(
        view,
        StepState.RUNNING,
        reason=view.reason if view.reason in ASKING else None,
        worker=event.worker,
        wake_at=event.lease_until,
        started_at=draft.now,
        **told,
    )


def park(draft: Draft, event: Parked) -> None:
    """Put a queued attempt aside; it was none, so its number is given to the next one.

    One that was to ask its probe first says so still: that must not be forgotten.
    """
    if draft.slice.run.state is not RunState.RUNNING:
        return
    view = draft.view(event.path)
    draft.move(
        view,
        StepState.RETRYING,
        reason=view.reason if view.reason in ASKING else event.reason,
        attempt=view.attempt - 1,
        wake_at=event.until,
    )


def succeed(draft: Draft, event: Succeeded) -> None:
    """Complete the step. One that was to be cancelled but did its work says so: it is done."""
    view = draft.view(event.path)
    try:
        output = ending.own_output(draft, view, event.output)
    except NO_VALUE as error:
        _fail_for_good(draft, view, refusal(error))
        return
    _record(draft, view, AttemptEnd.COMPLETED)
    ending.complete(draft, view, output)


def fail(draft: Draft, event: Failed) -> None:
    """Try again, or give the step up."""
    view, error = draft.view(event.path), event.error
    if view.cancel_requested:
        _cancelled(draft, view, error, repeat=event.repeat)
        return
    _record(draft, view, AttemptEnd.FAILED, error)
    retries = draft.node_of(view).retry
    if event.repeat is not Repeat.FREELY:
        wait = policy.delay(retries, failures=view.losses + 1, chance=draft.chance)
        _find_out(draft, view, error, event.repeat, losses=view.losses + 1, wait=wait)
        return
    if view.reason is Reason.LAST_PROBE:
        ending.give_up(draft, view, _without_effect(view, error))
        return
    failures = view.failures + 1
    if not policy.is_retried(retries, error, failures=failures):
        ending.give_up(draft, draft.touch(view, failures=failures), error)
        return
    wait = policy.delay(
        retries, failures=failures, chance=draft.chance, retry_after=error.retry_after
    )
    if _is_too_late(draft, view, wait):
        out_of_time = _out_of_time(retries, error, wait)
        ending.give_up(draft, draft.touch(view, failures=failures), out_of_time)
        return
    _try_again(draft, view, Reason.RETRY, error, wait=wait, failures=failures)


def lose(draft: Draft, event: LeaseExpired) -> None:
    """Deal with an attempt whose worker is gone: again if that is safe, else ask a person."""
    view = draft.view(event.path)
    node = draft.node_of(view)
    lost = _loss(draft, view, event.loss)
    if event.loss is Loss.OVERRAN:
        fail(draft, Failed(event.path, event.attempt, lost, event.repeat))
        return
    if view.cancel_requested:
        _cancelled(draft, view, lost, end=AttemptEnd.LOST, repeat=event.repeat)
        return
    _record(draft, view, AttemptEnd.LOST, lost)
    stopped = event.loss is Loss.STOPPED
    losses = view.losses + (not stopped)
    if event.repeat is not Repeat.FREELY:
        _find_out(draft, view, lost, event.repeat, losses=losses, wait=timedelta())
    elif losses >= node.retry.worker_lost_attempts and not stopped:
        ending.give_up(draft, draft.touch(view, losses=losses), lost)
    elif _is_too_late(draft, view, timedelta()):
        out_of_time = _out_of_time(node.retry, lost, timedelta())
        ending.give_up(draft, draft.touch(view, losses=losses), out_of_time)
    else:
        _try_again(draft, view, Reason.WORKER_LOST, lost, wait=timedelta(), losses=losses)


def _loss(draft: Draft, view: StepView, loss: Loss) -> StepError:
    """Say what became of the worker; a loss at a stop is nobody's fault and uses up no try."""
    attempt = f"during attempt {view.attempt} at {view.path}"
    worker = f"the worker {view.worker or 'unknown'}"
    match loss:
        case Loss.SILENT:
            code, message = "worker.lost", f"{worker} stopped renewing its lease {attempt}"
        case Loss.DIED:
            code, message = "worker.lost", f"{worker} died {attempt}"
        case Loss.STOPPED:
            code, message = "worker.stopped", f"{worker} was stopped {attempt}"
        case Loss.OVERRAN:
            timeout = draft.node_of(view).timeout
            time = "the longest time for any step" if timeout is None else f"{timeout:g} s"
            message = f"the time was up ({time}) and {worker} had to be ended {attempt}"
            return StepError(ErrorClass.TIMEOUT, "task.timeout", message)
        case _:
            assert_never(loss)
    return StepError(ErrorClass.WORKER_LOST, code, message)


def _retry_until(draft: Draft, view: StepView) -> datetime | None:
    """Return the time after which no retry of the step starts: it is counted from its first."""
    limit = draft.node_of(view).retry.max_duration
    if limit is None or view.retry_until is not None:
        return view.retry_until
    return (view.started_at or draft.now) + ending.seconds(limit)


def _is_too_late(draft: Draft, view: StepView, wait: timedelta) -> bool:
    until = _retry_until(draft, view)
    return until is not None and draft.now + wait > until


def _out_of_time(retries: RetryPolicy, error: StepError, wait: timedelta) -> StepError:
    """Return why the step fails of which another attempt could only start too late."""
    message = (
        f"{error.message.rstrip('.')}; it is not tried again, for that could only be in"
        f" {wait.total_seconds():g} s, and all attempts together have {retries.max_duration:g} s"
    )
    return replace(error, message=message)


def _find_out(  # noqa: PLR0913 - the facts of one attempt, named
    draft: Draft,
    view: StepView,
    error: StepError,
    repeat: Repeat,
    *,
    losses: int,
    wait: timedelta,
) -> None:
    """Have the next attempt ask the probe first; where none can be asked any more, a person.

    Once the tries are used up it only asks, as many times again: that has no effect itself.
    """
    tries = draft.node_of(view).retry.worker_lost_attempts
    if repeat is Repeat.NEVER or losses >= 2 * tries:
        unasked = " Its probe could not tell." if repeat is Repeat.AFTER_PROBE else ""
        doubt = ending.uncertain(draft, view, error, unasked)
        told = error if error.error_class is ErrorClass.TIMEOUT else doubt
        ending.give_up(draft, draft.touch(view, losses=losses), told, incident=doubt)
        return
    is_last = losses >= tries or _is_too_late(draft, view, wait)
    reason = Reason.LAST_PROBE if is_last else Reason.PROBE
    _try_again(draft, view, reason, error, wait=wait, losses=losses)


def _without_effect(view: StepView, answer: StepError) -> StepError:
    """Return why the step fails of which the probe said, when no try was left, that it may."""
    last = view.error or answer
    message = (
        f"{last.message.rstrip('.')}; it took no effect, as its probe says, and no try is left"
    )
    return replace(last, message=message)


def _try_again(
    draft: Draft,
    view: StepView,
    reason: Reason,
    error: StepError,
    *,
    wait: timedelta,
    **budget: int,
) -> None:
    """Have another attempt made after a while, or at once; `budget` is what has been used up."""
    due = draft.now + wait
    until = {"retry_until": late} if (late := _retry_until(draft, view)) else {}
    waiting = draft.move(
        view, StepState.RETRYING, reason=reason, error=error, wake_at=due, **budget, **until
    )
    if not wait:
        starting.queue(draft, waiting, reason)


def retry(draft: Draft, event: RetryDue) -> None:
    """Queue the next attempt."""
    view = draft.view(event.path)
    starting.queue(draft, view, view.reason)


def keep_late(draft: Draft, event: Succeeded | Failed) -> None:
    """Keep the result of an attempt that is no longer the step's own, unless it is known."""
    view = draft.slice.steps.get(event.path)
    if view is not None and _is_known(view, event):
        return
    match event:
        case Succeeded(path, attempt, output):
            draft.decision.late.append(LateResult(path, attempt, output=output))
        case Failed(path, attempt, error):
            draft.decision.late.append(LateResult(path, attempt, error=error))


def _is_known(view: StepView, event: Succeeded | Failed) -> bool:
    """Say whether the step is where it is by this very word, which has come twice.

    An attempt has one worker, so only that worker's own word can have completed it.
    """
    taken = view.attempt - (view.state is StepState.QUEUED)
    if taken != event.attempt:
        return False
    match event:
        case Succeeded():
            return view.state is StepState.COMPLETED
        case Failed(error=error):
            known = view.error
            return known is not None and (known.code, known.message) == (error.code, error.message)


def _fail_for_good(draft: Draft, view: StepView, error: StepError) -> None:
    """Give the step up, or let it go if it was to end anyway."""
    if view.cancel_requested:
        _cancelled(draft, view, error)
        return
    _record(draft, view, AttemptEnd.FAILED, error)
    ending.give_up(draft, view, error)


def _cancelled(
    draft: Draft,
    view: StepView,
    error: StepError,
    *,
    end: AttemptEnd = AttemptEnd.CANCELLED,
    repeat: Repeat = Repeat.FREELY,
) -> None:
    """End a step that is to end; one that may have taken effect is left to a person.

    But one that heeded the request is as it was asked to be, unless a replay could begin it again.
    """
    _record(draft, view, end, error)
    heeded = error.error_class is ErrorClass.CANCELLED and view.reason not in REOPENED_FOR
    if repeat is Repeat.FREELY or heeded:
        draft.move(view, StepState.CANCELLED, reason=view.reason, error=None)
    else:
        ending.leave_in_doubt(draft, view, error, repeat)
    draft.later(Ended(view.path))


def _record(draft: Draft, view: StepView, end: AttemptEnd, error: StepError | None = None) -> None:
    draft.decision.attempts.append(AttemptRecord(view, end, error))
