"""The store does what the engine does in memory, whoever does what in whatever order.

Each event of a random world is told to a run in memory and to a stored run: outcomes with
what was seen ahead or without, so by the guarded way or under the locks. After each of them
every row is what the model says.
"""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from environments.services import ensure_default
from tests.engine.builders import EPOCH, Play
from tests.engine.test_properties import Author, World
from tests.workflows.builders import ANN, QUEUE, sql
from workflows.engine.events import Claimed, Event, Failed, Started, Succeeded
from workflows.engine.plan import Plan, dump_plan
from workflows.models import Attempt, Incident, Journal, Run, Step, Version, Workflow
from workflows.services.plans import Pinned, pinned
from workflows.services.progress import advance_run, in_flight
from workflows.services.runs import start_run
from workflows.services.steps import Taker, Work, claim_step, record_outcome

pytestmark = pytest.mark.usefixtures("committed")

PATIENT = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
TAKER = Taker("worker", QUEUE)


def stored(plan: Plan) -> Pinned:
    """Store a plan as it is, and start a run of it."""
    ensure_default()
    workflow = Workflow.objects.create(name=f"w{uuid7()}")
    Version.objects.create(
        workflow=workflow,
        number=1,
        document={},
        plan=dump_plan(plan),
        environment="default",
        created_by=ANN,
    )
    return pinned(start_run(workflow=workflow.name, environment="default", by=ANN).run.pk)


@dataclass(slots=True)
class Mirrored(Play):
    """A run in memory, and beside it a stored one that is told the same."""

    pin: Pinned = field(default=None, kw_only=True)  # type: ignore[assignment]
    dice: Random = field(default_factory=Random, kw_only=True)
    works: dict[tuple[str, int], Work] = field(default_factory=dict, kw_only=True)
    guarded: int = 0

    def decide(self, *events: Event) -> None:
        Play.decide(self, *events)
        for event in events:
            self.tell(event)
        self.close_what_is_settled()
        assert self.stored_steps() == self.model_steps(), events
        assert self.stored_run() == self.model_run(), events

    def tell(self, event: Event) -> None:
        match event:
            case Started():
                pass
            case Claimed(path, attempt):
                work = claim_step(
                    pin=self.pin, path=path, attempt=attempt, taker=TAKER, now=self.now
                )
                if work is not None:
                    self.works[path, attempt] = work
            case Succeeded(path, attempt) | Failed(path, attempt) if (path, attempt) in self.works:
                self.record(self.works[path, attempt], event)
            case _:
                in_flight(partial(advance_run, self.pin, event, now=self.now, actor=ANN))

    def record(self, work: Work, event: Succeeded | Failed) -> None:
        if self.dice.random() < 0.3:
            work = replace(work, seen=None)
        after = record_outcome(
            work=work,
            outcome=event,
            taker=TAKER,
            run_on=self.dice.random() < 0.5,
            now=self.now,
        )
        if after is not None:
            self.works[after.path, after.attempt] = after
            lease = self.now
            Play.decide(self, Claimed(after.path, after.attempt, TAKER.worker, lease))

    def close_what_is_settled(self) -> None:
        """Do what the services do about incidents, of which the engine knows nothing."""
        sql(
            "UPDATE workflows_incident i SET resolution = 'replayed', resolved_by = 'x',"
            " resolved_at = now() FROM workflows_step s WHERE s.id = i.step_id"
            " AND i.run_id = %s AND s.state <> 'FAILED' AND i.resolution = ''",
            self.pin.run,
        )

    def model_steps(self) -> dict[str, tuple[Any, ...]]:
        return {
            path: (
                row.view.state,
                row.view.reason or "",
                row.view.attempt,
                row.view.failures,
                row.view.losses,
                (row.view.tally.ok, row.view.tally.failed),
                (row.view.tally.skipped, row.view.tally.upstream_failed),
                row.view.cancel_requested,
                row.view.wake_at is None,
                row.view.error.as_dict() if row.view.error else None,
                row.output,
            )
            for path, row in self.rows.items()
        }

    def stored_steps(self) -> dict[str, tuple[Any, ...]]:
        return {
            row.path: (
                row.state,
                row.reason,
                row.attempt,
                row.failures,
                row.losses,
                (row.ok, row.failed),
                (row.skipped, row.upstream_failed),
                row.cancel_requested,
                row.wake_at is None,
                row.error,
                row.output,
            )
            for row in Step.objects.filter(run=self.pin.run)
        }

    def model_run(self) -> tuple[Any, ...]:
        return (
            self.run.state,
            self.run.ending.status if self.run.ending else None,
            self.variables,
            self.output,
            self.error.as_dict() if self.error else None,
            Counter((line.path, line.before, line.after) for line in self.journal),
            Counter((one.step.path, one.step.attempt, one.end) for one in self.attempts),
            Counter((one.path, one.attempt, one.error.code) for one in self.incidents),
        )

    def stored_run(self) -> tuple[Any, ...]:
        row = Run.objects.get(pk=self.pin.run)
        mine = {"run": self.pin.run}
        lines = Journal.objects.filter(**mine).values_list("path", "before", "after")
        tries = Attempt.objects.filter(**mine).values_list("step__path", "number", "end")
        incidents = Incident.objects.filter(**mine).values_list("path", "attempt", "code")
        return (
            row.state,
            row.ending["status"] if row.ending else None,
            row.vars,
            row.output,
            row.error,
            Counter(lines),
            Counter(tries),
            Counter(incidents),
        )


def mirrored(plan: Plan, dice: Random) -> Mirrored:
    """Start a run in memory and a stored one."""
    pin = stored(plan)
    run = Mirrored(plan, {}, EPOCH, now=datetime.now(UTC), pin=pin, dice=dice)
    run.decide(Started())
    return run


@PATIENT
@given(st.integers(0, 2**40))
def test_a_stored_run_is_what_the_model_says_after_every_event(seed: int) -> None:
    chance = Random(seed)
    run = mirrored(Author(chance, calm=False).plan(), Random(seed))
    world = World(run, chance)

    for _ in range(chance.randint(0, 40)):
        world.step(people=True)
    world.to_the_end()
