"""A whole platform in one process, for drills that end it: worker, broker, beat and a target.

The broker is a list of this process, gone with it. The worker does with a message what
`workers.tasks` does, by the same services and the same `run_on`. The target is a file: every
effect that a step has on the world is a line of it, written before the step's outcome is known
to the database.
"""

import json
import os
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, assert_never
from uuid import UUID

from django.utils import timezone

from tests.support.publisher import RECORDER
from workers.context import TaskContext
from workers.errors import TaskError
from workers.registry import task
from workers.segment import run_on
from workflows.dispatch import Attend, Dispatch, FanOut, Line, Look, Refill, Segment, Vacated
from workflows.language.words import ErrorClass
from workflows.models import Journal, Run, Step
from workflows.services import children, claiming, concurrency, scopes
from workflows.services.plans import pinned, pinned_to
from workflows.services.recovery import recover
from workflows.services.timers import tick
from workflows.services.work import Taker

TARGET = "CHAOS_TARGET"
"""The environment variable that names the file of effects."""

QUEUE = "env.default.default"
ROUND = timedelta(seconds=31)
"""What passes of the platform's time while nobody does anything: more than a lease."""

MOST_ROUNDS = 40


@task("chaos.effect")
def effect(context: TaskContext, fails: int = 0, value: int = 0) -> dict[str, Any]:
    """Have an effect that may be repeated; the first `fails` attempts fail after it."""
    _apply(context)
    if context.attempt <= fails:
        raise TaskError("It broke.", code="chaos.broken", error_class=ErrorClass.TRANSIENT)
    return {"value": value}


@task("chaos.charge", idempotent=False)
def charge(context: TaskContext) -> dict[str, Any]:
    """Have an effect that must not be repeated blindly."""
    _apply(context)
    return {"charged": True}


@task("chaos.correct")
def correct(context: TaskContext, right: bool) -> dict[str, Any]:
    """Fail for good until a person has corrected the argument."""
    _apply(context)
    if not right:
        raise TaskError("It is wrong.", code="chaos.wrong", error_class=ErrorClass.PERMANENT)
    return {"right": True}


@dataclass(frozen=True, slots=True)
class Effect:
    """A line of the target's ledger."""

    key: str
    path: str
    attempt: int
    pid: int


def _apply(context: TaskContext) -> None:
    line = json.dumps([context.idempotency_key, context.path, context.attempt, os.getpid()])
    with Path(os.environ[TARGET]).open("a") as target:
        target.write(f"{line}\n")


def effects_of(run_id: UUID) -> list[Effect]:
    """Return what the steps of a run have done to the world, in the order in which they did."""
    lines = Path(os.environ[TARGET]).read_text().splitlines()
    effects = [Effect(*json.loads(line)) for line in lines]
    return [one for one in effects if one.key.startswith(f"{run_id}:")]


@dataclass(slots=True)
class Platform:
    """Delivers messages, and lets time pass when there is none."""

    worker: str = field(default_factory=lambda: f"worker-{os.getpid()}")
    rounds: int = 0

    def serve(self) -> None:
        """Go on until no run can go on by itself."""
        while self.rounds < MOST_ROUNDS:
            self.deliver()
            if not self.has_work():
                return
            self.sweep()
        raise AssertionError(f"still not at rest after {MOST_ROUNDS} rounds: {self.unfinished()}")

    def has_work(self) -> bool:
        """Say whether a worker, the clock or a sweep still has something to do."""
        return Run.objects.filter(state__in=["PENDING", "RUNNING", "CANCELLING"]).exists()

    def unfinished(self) -> list[Any]:
        """Return the steps that have not ended, for a message."""
        live = Step.objects.filter(run__finished_at=None, finished_at=None)
        return list(live.values_list("run", "path", "state", "attempt"))

    def sweep(self) -> None:
        """Let a lease's time pass, and do what beat asks for."""
        self.rounds += 1
        now = timezone.now() + self.rounds * ROUND
        tick(now=now)
        recover(now=now)

    def deliver(self) -> None:
        """Carry out every message there is, and those that come of it."""
        messages = deque(RECORDER.sent)
        RECORDER.forget()
        while messages:
            self.carry_out(messages.popleft())
            messages += RECORDER.sent
            RECORDER.forget()

    def carry_out(self, message: Dispatch) -> None:  # noqa: C901 - the table of messages
        """Do what the Celery tasks do with a message."""
        match message:
            case Segment():
                self._begin_at(message, "")
            case Line(segments):
                following = [*(one.path for one in segments[1:]), ""]
                for segment, brings in zip(segments, following, strict=True):
                    if not self._begin_at(segment, brings):
                        return
            case FanOut():
                for _ in range(message.width):
                    self._take(message)
                pin = pinned_to(message.run, message.version)
                scopes.settle_scope(pin=pin, scope=message.scope, now=timezone.now())
            case Refill(run, version, loops):
                pin = pinned_to(run, version)
                scopes.refill_loops(pin=pin, loops=loops, now=timezone.now())
            case Look():
                tick(now=timezone.now())
            case Attend(run):
                children.attend(run_id=run)
            case Vacated(run):
                concurrency.fill_after(run_id=run)
            case _:
                assert_never(message)

    def _begin_at(self, segment: Segment, brings: str) -> bool:
        taker = Taker(self.worker, segment.queue, brought=brings)
        work = claiming.claim_step(
            pin=pinned_to(segment.run, segment.version),
            path=segment.path,
            attempt=segment.attempt,
            taker=taker,
            now=timezone.now(),
        )
        return run_on([] if work is None else [work], taker, began=time.monotonic())

    def _take(self, fan: FanOut) -> None:
        taker = Taker(self.worker, fan.queue, fan=fan.scope)
        pin = pinned_to(fan.run, fan.version)
        work = claiming.claim_any_step(pin=pin, taker=taker, now=timezone.now())
        if work is not None:
            run_on([work], taker, began=time.monotonic())
            claiming.has_queued(pin=pin, taker=taker)


def redeliver(runs: Collection[Run]) -> None:
    """Have every message that the runs can ever have sent be delivered once more."""
    for run in runs:
        before = run.migrations.values_list("before_id", flat=True)
        pins = [*(pinned_to(run.pk, version) for version in before), pinned(run.pk)]
        lines = Journal.objects.filter(run=run, after="QUEUED", attempt__gt=0).order_by("id")
        scopes = Step.objects.filter(run=run, state="WAITING").values_list("path", flat=True)
        for pin in pins:
            for path, attempt in lines.values_list("path", "attempt"):
                if pin.knows(path):
                    RECORDER.sent.append(Segment(run.pk, pin.version, path, attempt, QUEUE))
            for scope in filter(pin.knows, scopes):
                RECORDER.sent.append(FanOut(run.pk, pin.version, QUEUE, 2, scope))
