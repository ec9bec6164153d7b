"""The virtual clock: plays what is due in one or several runs, in the order of its time.

Time passes only from one due moment to the next. The clock does what workers and timers would do;
everything else that happens, a `World` tells it.
"""

import heapq
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import count
from random import Random
from typing import Protocol

from workflows.engine.advance import advance, requirement
from workflows.engine.decision import Decision
from workflows.engine.draft import names_of
from workflows.engine.events import (
    Claimed,
    Event,
    Failed,
    LeaseExpired,
    Refilled,
    Repeat,
    RetryDue,
    Started,
    StepError,
    Succeeded,
    TimedOut,
    repeat_of,
)
from workflows.engine.plan import ROOT
from workflows.engine.simulation import Simulation
from workflows.engine.slice import Requirement, StepView, reading
from workflows.engine.states import ASKING, Reason, RunState, StepState
from workflows.engine.stubs import Call, Result
from workflows.engine.values import reads_of
from workflows.language import expressions
from workflows.language.expressions import ExpressionError
from workflows.language.words import ErrorClass

FOREVER = timedelta(days=36_500)


class World(Protocol):
    """Whatever is not the run itself: its workers, people, other systems, other runs."""

    def perform(self, run: Simulation, call: Call) -> Result:
        """Do what a worker is asked to do."""

    def repeat(self, uses: str) -> Repeat:
        """Say whether a task type may be repeated when nobody knows whether it took effect."""

    def hear(self, clock: "Clock", run: Simulation, decision: Decision, now: datetime) -> None:
        """Hear what was decided and stored; what is to come of it is said to the clock."""


Happening = Callable[[datetime], Iterable[Event]]
"""What comes from outside at a moment; which events it is may depend on where the run stands."""


class Clock:
    """Plays what is due in one or several runs, in the order of its time."""

    def __init__(self, world: World, chance: Random) -> None:
        self.world = world
        self.chance = chance
        self.order = count()
        self.due: list[tuple[datetime, int, Simulation, Happening]] = []

    def begin(self, run: Simulation) -> None:
        """Start a run at the time that it names as its start."""
        self.tell(run, Started(), run.started_at)
        self._give_time(run, run.started_at)

    def tell(self, run: Simulation, event: Event, moment: datetime) -> None:
        """Have the run hear an event at a moment."""
        self.later(run, moment, lambda _: (event,))

    def later(self, run: Simulation, moment: datetime, happening: Happening) -> None:
        """Have something happen to the run at a moment."""
        heapq.heappush(self.due, (moment, next(self.order), run, happening))

    def play(self, *, until: datetime) -> None:
        """Let time pass until a moment, or until nothing is due any more."""
        while self.due and self.due[0][0] <= until:
            now, _, run, happening = heapq.heappop(self.due)
            for event in happening(now):
                self._decide(run, event, now)

    def _decide(self, run: Simulation, event: Event, now: datetime) -> None:
        events = [event]
        while events:
            wanted = Requirement()
            for one in events:
                wanted |= requirement(run.plan, one)
            held = run.load(wanted)
            decision = advance(run.plan, held, *events, now=now, chance=self.chance)
            run.write(decision, now=now)
            for move in decision.moves:
                self._follow(run, move.after, now)
            for turn in decision.run_moves:
                if turn.before is RunState.PAUSED:
                    self._look_at_time(run, now)
                    self._take_queued(run, now)
                elif turn.before is RunState.FAILED and turn.after.state is RunState.RUNNING:
                    self._give_time(run, now)
            self.world.hear(self, run, decision, now)
            events = [*decision.follow_ups, *map(Refilled, decision.left)]

    def _give_time(self, run: Simulation, now: datetime) -> None:
        """Have the run end when its time is up, counted from now: it begins, or goes on anew."""
        if run.plan.timeout is not None:
            run.deadline_at = now + timedelta(seconds=run.plan.timeout)
            self._look_at_time(run, now)

    def _look_at_time(self, run: Simulation, now: datetime) -> None:
        """Have the run end when its time is up; that is not heard while it is held."""
        moment = run.deadline_at

        def end(_: datetime) -> Iterable[Event]:
            return [TimedOut(ROOT)] if run.deadline_at == moment else []

        if moment is not None:
            self.later(run, max(moment, now), end)

    def _take_queued(self, run: Simulation, now: datetime) -> None:
        """Have the steps taken that nobody could take while the run was held."""
        for row in run.rows.values():
            self._follow(run, row.view, now, only=StepState.QUEUED)

    def _follow(
        self, run: Simulation, view: StepView, now: datetime, only: StepState | None = None
    ) -> None:
        """Do what a worker or the timer would do about the row as it now stands."""
        if run.rows[view.path].view is not view or only not in {None, view.state}:
            return
        match view.state:
            case StepState.QUEUED:
                taken = Claimed(view.path, view.attempt, "simulation", now + FOREVER)
                self.tell(run, taken, now)
            case StepState.RUNNING if view.cancel_requested:
                error = StepError(ErrorClass.CANCELLED, "step.cancelled", "cancelled while running")
                self.tell(run, Failed(view.path, view.attempt, error), now)
            case StepState.RUNNING if view.worker:
                self._perform(run, view, now)
            case StepState.RETRYING if view.wake_at is not None:
                self.tell(run, RetryDue(view.path, view.attempt), view.wake_at)
            case StepState.WAITING if view.wake_at is not None:
                self.tell(run, TimedOut(view.path), view.wake_at)

    def _perform(self, run: Simulation, view: StepView, now: datetime) -> None:
        result = self._result(run, view)
        node = run.plan.nodes[view.node]
        if node.timeout is not None and result.seconds > node.timeout:
            message = f"took longer than its {node.timeout:g} seconds"
            late = StepError(ErrorClass.TIMEOUT, "task.timeout", message)
            result = Result(error=late, seconds=node.timeout)
        after = now + timedelta(seconds=result.seconds)
        self.tell(run, self._outcome(run, view, result), after)

    def _outcome(self, run: Simulation, view: StepView, result: Result) -> Event:
        if result.error is None:
            return Succeeded(view.path, view.attempt, result.output)
        node = run.plan.nodes[view.node]
        repeat = repeat_of(self.world.repeat(node.uses), node.idempotent)
        match result.error.error_class:
            case ErrorClass.WORKER_LOST:
                return LeaseExpired(view.path, view.attempt, repeat)
            case ErrorClass.TIMEOUT | ErrorClass.UNCERTAIN:
                return Failed(view.path, view.attempt, result.error, repeat)
        return Failed(view.path, view.attempt, result.error)

    def _result(self, run: Simulation, view: StepView) -> Result:
        node = run.plan.nodes[view.node]
        template, reads = node.arguments, node.call
        if (corrected := run.rows[view.path].arguments) is not None:
            template, reads = corrected, reads_of(run.plan, node, corrected)
        held = run.load(reading(run.plan, reads, view.path))
        try:
            names = names_of(run.plan, held, node, view.path, reads)
            arguments = expressions.render(dict(template), names)
        except ExpressionError as error:
            return Result(error=StepError(ErrorClass.PERMANENT, "expression.error", str(error)))
        asks, only = view.reason in ASKING, view.reason is Reason.LAST_PROBE
        call = Call(view.path, view.attempt, node.uses, arguments, asks, only)
        return self.world.perform(run, call)
