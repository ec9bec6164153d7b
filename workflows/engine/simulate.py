"""Run a plan in memory on a virtual clock: the same engine, no database, no worker.

A week takes no time (`workflows.engine.clock`). What a task would do is told by a `Stub`; what it
is handed is resolved as a worker would. This is the dry run of authors, and the model that the
real store is tested against.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from workflows.engine import approving
from workflows.engine.clock import FOREVER, Clock
from workflows.engine.decision import Decision
from workflows.engine.events import Answered, Repeat
from workflows.engine.plan import Plan
from workflows.engine.simulation import Simulation
from workflows.engine.states import Reason
from workflows.engine.stubs import (
    Call,
    Outside,
    RepeatOf,
    Result,
    Stub,
    at_once,
    built_in,
    freely,
)

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""When a simulated run begins, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Alone:
    """A world in which tasks are done, what is waited for comes, and nothing else ever happens."""

    stub: Stub = built_in
    repeat_of: RepeatOf = freely
    outside: Outside = at_once

    def perform(self, run: Simulation, call: Call) -> Result:  # noqa: ARG002 - the shape of every World
        """Do what the stub does."""
        return self.stub(call)

    def repeat(self, uses: str) -> Repeat:
        """Say what was said of the task type."""
        return self.repeat_of(uses)

    def hear(self, clock: "Clock", run: Simulation, decision: Decision, now: datetime) -> None:
        """Have come what the run waits for; time comes by itself."""
        for awaited in decision.waits:
            result = None if awaited.kind is Reason.TIME else self.outside(awaited)
            if result is None:
                continue
            then, output = now + timedelta(seconds=result.seconds), result.output
            if awaited.kind is Reason.APPROVAL and output is None:
                output = approving.assumed(awaited.request, at=then)
            answer = Answered(awaited.path, awaited.kind, output, result.error, awaited.attempt)
            clock.tell(run, answer, then)


def simulate(  # noqa: PLR0913 - what a dry run can be told, each by its name
    plan: Plan,
    *,
    stub: Stub = built_in,
    repeat: RepeatOf = freely,
    outside: Outside = at_once,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
    environment: Mapping[str, Any] | None = None,
    start: datetime = EPOCH,
    seed: int = 0,
    until: timedelta = FOREVER,
) -> Simulation:
    """Run `plan` to its end, or until nothing can happen any more, and return where it stands.

    `seed` fixes the jitter. A step is taken by a worker as soon as it is queued.
    """
    run = Simulation(plan, dict(input or {}), start, environment=dict(environment or {}))
    clock = Clock(Alone(stub, repeat, outside), Random(seed))  # noqa: S311 - chance that must repeat
    clock.begin(run)
    clock.play(until=start + until)
    return run
