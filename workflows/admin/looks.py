"""How the states of runs and steps look: derived from the sets of `engine.states`.

A state that is added there gets the tone of its set; only its icon must be given, and
a test misses it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime

from environments.badges import Look, badge
from workflows.engine.states import (
    FINISHED_RUNS,
    FINISHED_STEPS,
    LIVE_STEPS,
    OUTSIDE,
    Reason,
    RunReason,
    RunState,
    StepState,
)
from workflows.models import Run, Step, Wait

State = RunState | StepState

ICONS: Mapping[str, str] = {
    "PENDING": "radio_button_unchecked",
    "QUEUED": "hourglass_top",
    "RUNNING": "play_circle",
    "WAITING": "more_horiz",
    "RETRYING": "autorenew",
    "PAUSED": "pause_circle",
    "COMPLETED": "check_circle",
    "FAILED": "error",
    "SKIPPED": "redo",
    "CANCELLED": "block",
    "CANCELLING": "block",
    "COMPENSATING": "undo",
    "COMPENSATED": "undo",
    "COMPENSATION_FAILED": "report",
}

REASONS: Mapping[Reason, str] = {
    Reason.WHEN: "its condition was false",
    Reason.NO_CASE: "no branch was true",
    Reason.NOT_TAKEN: "another branch was taken",
    Reason.UPSTREAM_FAILED: "a step it needs has failed",
    Reason.UPSTREAM_SKIPPED: "a step it needs was skipped",
    Reason.EXIT: "the run ended early",
    Reason.FAIL_FAST: "another step failed and ended the block",
    Reason.LOST_RACE: "another branch was faster",
    Reason.TIMEOUT: "its time was up",
    Reason.RUN_CANCELLED: "the run was cancelled",
    Reason.OPTIONAL: "it failed, and is optional",
    Reason.CHILDREN: "waits for the steps inside it",
    Reason.CATCH: "its fallback path has taken over",
    Reason.APPROVAL: "waits for a decision of people",
    Reason.CALLBACK: "waits for its callback",
    Reason.EVENT: "waits for its event",
    Reason.TIME: "waits for its time to come",
    Reason.CHILD: "waits for its child run to end",
    Reason.RETRY: "a retry is due",
    Reason.WORKER_LOST: "its worker was lost",
    Reason.GUARD: "parked: the guard of what it depends on is open",
    Reason.PROFILE: "parked: no profile of its pool is free",
    Reason.PROBE: "nobody knows whether it took effect: its probe is asked first",
    Reason.LAST_PROBE: "nobody knows whether it took effect: its probe is asked, and no more done",
    Reason.REPLAYED: "replayed by a person",
    Reason.REOPENED: "a replay reopened it",
    Reason.SKIPPED_BY_OPERATOR: "skipped by a person",
    Reason.DISCARDED: "given up by a person",
    Reason.PARTIAL: "some of its items have failed",
    Reason.GIVEN_UP: "given up by a migration: the new version does not have it",
    Reason.LEFT_OUT: "left out by a migration: its turn had passed",
    Reason.HELD_BACK: "new by a migration: its turn comes if what has failed is replayed",
}

RUN_REASONS: Mapping[str, str] = {
    RunReason.PARKED: "parked: waits for a person",
    RunReason.QUEUED: "waits for a place",
    RunReason.REPLACING: "waits for the runs that it replaces",
    RunReason.SKIPPED: "skipped: others held the places",
    RunReason.REPLACED: "replaced by a newer run",
}

_BY_ROWS = {
    "forked": "taken over from another run",
    "migrated": "went over to another version",
}
_WORDS: Mapping[str, str] = (
    {one.value: said for one, said in REASONS.items()} | dict(RUN_REASONS) | _BY_ROWS
)


def look_of(state: str) -> Look:
    """Return how a state of a run or a step looks."""
    return Look(_tone(state), ICONS[state])


def words_of(state: str) -> str:
    """Return the state as people write it."""
    return state.replace("_", " ").capitalize()


def state_badge(state: str, reason: str = "") -> SafeString:
    """Return the badge of a state; what is behind it shows when it is pointed at."""
    return badge(words_of(state), look_of(state), title=reason_words(reason))


def run_badge(run: Run) -> SafeString:
    """Return the badge of a run's state, and beside it why it is there and whether it is late."""
    said = [RUN_REASONS.get(run.reason, run.reason), "late" if run.sla_breached_at else ""]
    if not any(said):
        return state_badge(run.state)
    more = ", ".join(filter(None, said))
    return format_html('{} <span class="soft">{}</span>', state_badge(run.state), more)


def reason_words(reason: str) -> str:
    """Return why a step or a run is where it is, in words; nothing if its state says it all."""
    return _WORDS.get(reason, reason.replace("_", " ")) if reason else ""


def waiting_words(steps: Iterable[Step]) -> dict[tuple[UUID, str], str]:
    """Return what steps wait for from outside, since when and until when, by run and path.

    One query, and none where no step waits so.
    """
    waiting = {
        (step.run_id, step.path): step
        for step in steps
        if step.state == StepState.WAITING and step.reason in OUTSIDE
    }
    if not waiting:
        return {}
    open_ones = Wait.objects.filter(
        run__in={run for run, _ in waiting},
        path__in={path for _, path in waiting},
        closed_at=None,
    )
    return {
        place: _waiting(waiting[place], wait)
        for wait in open_ones.defer("answer")
        if (place := (wait.run_id, wait.path)) in waiting
    }


def progress_words(step: Step) -> str:
    """Return how far a loop has come; nothing of any other step."""
    if step.born is None:
        return ""
    ended = step.ok + step.failed + step.skipped + step.upstream_failed
    of = f"{ended:,} of {step.total:,}" if step.total else f"{ended:,} of {step.born:,} begun"
    return f"{of}, {step.failed:,} failed" if step.failed else of


def loop_words(step: Step) -> str:
    """Return what a loop waits for, and how far it has come; nothing of any other step."""
    if step.born is None:
        return ""
    said = f"{progress_words(step)} ended"
    if step.state != StepState.WAITING or step.reason != Reason.CHILDREN:
        return ", ".join(filter(None, [reason_words(step.reason), said]))
    ended = step.ok + step.failed + step.skipped + step.upstream_failed
    if step.total is None and step.wake_at and ended == step.born:
        rounds = "1 round has" if ended == 1 else f"{ended:,} rounds have"
        return f"{rounds} ended, the next begins at {_moment(step.wake_at)}"
    return f"{reason_words(step.reason)}: {said}"


def _waiting(step: Step, wait: Wait) -> str:
    if wait.kind == Reason.TIME and step.wake_at:
        return f"waits until {_moment(step.wake_at)}, since {_moment(wait.opened_at)}"
    said = reason_words(wait.kind) + (f" ({wait.name})" if wait.name else "")
    said += f" since {_moment(wait.opened_at)}"
    return f"{said}, until {_moment(step.wake_at)} at the latest" if step.wake_at else said


def _moment(moment: datetime) -> str:
    return f"{localtime(moment):%Y-%m-%d %H:%M:%S}"


def _tone(state: str) -> str:
    if "FAILED" in state:
        return "bad"
    if state == RunState.COMPLETED:
        return "ok"
    if state in FINISHED_RUNS | FINISHED_STEPS or state == StepState.PENDING:
        return "quiet"
    if state in {StepState.QUEUED, StepState.RUNNING, StepState.WAITING} & LIVE_STEPS:
        return "busy"
    return "care"
