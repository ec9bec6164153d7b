"""Follow a run until it ends: a picture that moves on a terminal, lines elsewhere.

It asks the database a little question a few times a second, and costs the same for a
run of five steps and of fifty thousand. A database that is away is waited for. Who
stops watching stops nothing.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from django.core.management.base import CommandError
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone
from rich.console import Console
from rich.live import Live

from workflows.engine.states import FINISHED_RUNS, RunState, StepState
from workflows.management.door import Door, Exit
from workflows.management.output import plain, say
from workflows.management.pictures import ending, place_words, print_output, run_picture
from workflows.models import Journal, Run
from workflows.selectors.approvals import ApprovalFilter, list_approvals
from workflows.selectors.concurrency import place_in_line
from workflows.selectors.counts import steps_by_state
from workflows.selectors.incidents import IncidentFilter, list_incidents
from workflows.selectors.runs import get_run, run_document, run_facts
from workflows.selectors.steps import list_steps

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.05, 0.5, 1.3
"""Seconds between two questions: short for a short run, longer the longer it takes."""

ADVISE_EVERY = 10.0
"""Seconds between two looks at what a run that does not move may be waiting for."""

OVERLAP = timedelta(seconds=2)
"""Two transactions may commit out of the order of their lines: so long are lines read again."""

_OVER = frozenset(state.value for state in FINISHED_RUNS)
_QUIET = frozenset({StepState.PENDING, StepState.QUEUED})
_MOVING = frozenset({StepState.QUEUED, StepState.RUNNING, StepState.RETRYING})
_ACTIVE = (
    StepState.RUNNING,
    StepState.RETRYING,
    StepState.WAITING,
    StepState.FAILED,
    StepState.QUEUED,
)
_OF_OTHERS = 12
"""Lines of the terminal that the picture needs besides its steps."""


class View(Protocol):
    """What a watcher sees. Only `update` asks the database."""

    def begin(self) -> None:
        """Take a place."""

    def update(self) -> None:
        """Show where the run stands now."""

    def end(self) -> None:
        """Give the place back; what was shown last may stay."""


class Silence:
    """A view for scripts: nothing until the end."""

    def begin(self) -> None:
        """Take no place."""

    def update(self) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Leave nothing."""


class Lines(Silence):
    """A view for logs: a line for each transition since the watcher came."""

    def __init__(self, console: Console, run_id: UUID, *, from_the_start: bool) -> None:
        self.console = console
        self.feed = Feed(run_id, from_the_start=from_the_start)

    def update(self) -> None:
        """Show what the journal has got since the last time."""
        for line in self.feed.read():
            name = plain(line.path) or "the run"
            tries = [f"attempt {line.attempt}"] if line.attempt > 1 else []
            notes = ", ".join([*filter(None, [line.reason]), *tries])
            said = f"{line.at:%H:%M:%S} {name}: {line.after}"
            say(self.console, f"{said} ({notes})" if notes else said)


class Picture(Silence):
    """A view for terminals: the run and what moves in it, redrawn in place."""

    def __init__(self, console: Console, run_id: UUID) -> None:
        self.console = console
        self.run_id = run_id
        self.live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def begin(self) -> None:
        """Take a place on the terminal."""
        self.live.start()

    def update(self) -> None:
        """Redraw."""
        run = run_facts(get_run(self.run_id))
        counts = steps_by_state([self.run_id])[self.run_id]
        rows = max(self.console.height - _OF_OTHERS, 3)
        states = () if sum(counts.values()) <= rows else [state.value for state in _ACTIVE]
        steps = list_steps(self.run_id, states=states, limit=rows).rows
        now = timezone.now()
        self.live.update(
            run_picture(run, steps, total=len(steps), now=now, counts=counts), refresh=True
        )

    def end(self) -> None:
        """Leave the last picture standing."""
        self.live.stop()


class Feed:
    """The journal of a run as it grows: each line once, whenever it was committed."""

    def __init__(self, run_id: UUID, *, from_the_start: bool) -> None:
        self.lines = Journal.objects.filter(run=run_id).exclude(after__in=_QUIET)
        self.seen: set[int] = set()
        self.floor = 0
        if not from_the_start:
            newest = self.lines.order_by("-id").first()
            self.floor = newest.pk if newest else 0

    def read(self) -> list[Journal]:
        """Return the lines that are new since the last call."""
        found = list(self.lines.filter(pk__gt=self.floor).order_by("id"))
        new = [line for line in found if line.pk not in self.seen]
        self.seen |= {line.pk for line in new}
        if found:
            settled = max(line.at for line in found) - OVERLAP
            old = (line.pk for line in found if line.at < settled)
            self.floor = max(old, default=self.floor)
            self.seen = {pk for pk in self.seen if pk > self.floor}
        return new


def view_on(console: Console, run_id: UUID, *, as_json: bool, from_the_start: bool = False) -> View:
    """Return the view that fits where it will be shown."""
    if as_json:
        return Silence()
    if console.is_terminal and not console.is_dumb_terminal:
        return Picture(console, run_id)
    return Lines(console, run_id, from_the_start=from_the_start)


def follow(run_id: UUID, view: View, *, errors: Console, timeout: float | None) -> None:
    """Watch the run until it has ended.

    Raises CommandError with a status of its own when the time is up or somebody pressed Ctrl-C.
    """
    began = time.monotonic()
    watcher = _Watcher(run_id, view, errors)
    pause = FIRST_PAUSE
    view.begin()
    try:
        while not watcher.look(time.monotonic() - began):
            left = pause
            if timeout is not None:
                left = min(pause, timeout - (time.monotonic() - began))
                if left <= 0:
                    raise CommandError(_left(run_id, "Time is up"), returncode=Exit.TIMED_OUT)
            time.sleep(left)
            pause = min(pause * GROWTH, LONGEST_PAUSE)
    except KeyboardInterrupt:
        raise CommandError(_left(run_id, "Detached"), returncode=Exit.DETACHED) from None
    finally:
        view.end()


class _Watcher:
    """Looks at the run through a view, and outlives a database that is away for a while."""

    def __init__(self, run_id: UUID, view: View, errors: Console) -> None:
        self.run_id = run_id
        self.view = view
        self.errors = errors
        self.away = False
        self.advice = ""
        self.advise_at = ADVISE_EVERY

    def look(self, waited: float) -> bool:
        """Show where the run stands after `waited` seconds; say whether it has ended."""
        try:
            state = Run.objects.values_list("state", flat=True).get(pk=self.run_id)
            self.view.update()
            self._advise(state, waited)
        except (OperationalError, InterfaceError):
            connection.close()
            if not self.away:
                self._tell("The database is away. Waiting for it; the run is not affected.")
            self.away = True
            return False
        if self.away:
            self._tell("The database is back.")
        self.away = False
        return state in _OVER

    def _advise(self, state: str, waited: float) -> None:
        """Say what a run that does not move is waiting for, once for each reason."""
        if waited < self.advise_at:
            return
        self.advise_at = waited + ADVISE_EVERY
        advice = advice_on(self.run_id, state, steps_by_state([self.run_id])[self.run_id])
        if advice not in {"", self.advice}:
            self.advice = advice
            self._tell(advice)

    def _tell(self, sentence: str) -> None:
        say(self.errors, sentence, "yellow")


def advice_on(run_id: UUID, state: str, counts: Mapping[str, int]) -> str:
    """Say what a run that does not move waits for, if its steps' counts tell."""
    if state == RunState.PAUSED:
        return f"The run is paused. Let it go on: manage.py run resume {run_id}"
    if state == RunState.PENDING:
        return _what_holds_its_place(run_id)
    if StepState.QUEUED in counts and counts.keys() <= _QUIET:
        return (
            "No worker has taken a step yet. Is the platform running (`make run`), and has the "
            "environment a worker?"
        )
    if StepState.FAILED in counts and not counts.keys() & _MOVING:
        return (
            "The run waits for a person to decide about a failed step: "
            f"manage.py incident list --run {run_id}"
        )
    if StepState.WAITING in counts and not counts.keys() & _MOVING:
        return _whom_it_asks(run_id)
    return ""


def _what_holds_its_place(run_id: UUID) -> str:
    place = place_in_line(Run.objects.get(pk=run_id))
    if place is None:
        return ""
    behind = f": manage.py run show {place['runs'][0]}" if place["runs"] else "."
    return f"The run waits for {place_words(place)}, and begins by itself when it is left{behind}"


def _whom_it_asks(run_id: UUID) -> str:
    asked = list_approvals(ApprovalFilter(run=run_id), now=timezone.now(), limit=3).rows
    groups = " and ".join(dict.fromkeys(one["group"] for one in asked))
    return groups and (
        f"The run waits for {groups} to decide: manage.py approval list --run {run_id}"
    )


def watch_to_the_end(
    door: Door,
    run_id: UUID,
    *,
    as_json: bool,
    timeout: float | None,
    from_the_start: bool = False,
) -> None:
    """Watch the run until it has ended, and show how.

    Raises CommandError with status 1 if it did not end COMPLETED.
    """
    view = view_on(door.page, run_id, as_json=as_json, from_the_start=from_the_start)
    follow(run_id, view, errors=door.errors, timeout=timeout)
    run = get_run(run_id)
    sentence = ending(run_facts(run), now=timezone.now())
    if as_json:
        door.print_json(run_document(run))
    if run.state != RunState.COMPLETED:
        raise CommandError(f"{sentence}\n{_what_now(run_id)}".rstrip(), returncode=Exit.FAILED)
    if not as_json:
        door.say(sentence)
        print_output(door.page, run_facts(run))


def _what_now(run_id: UUID) -> str:
    open_ones = list_incidents(IncidentFilter(run=run_id), limit=3).rows
    return "\n".join(
        f"{one['path']} needs a person: manage.py incident show {one['id']}" for one in open_ones
    )


def _left(run_id: UUID, why: str) -> str:
    return f"{why}; the run goes on. Watch it again: manage.py run watch {run_id}"
