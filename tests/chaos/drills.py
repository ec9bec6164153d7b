"""What is being done when a process is killed: how it is prepared, and what it does.

A stage is a handful of runs under a token of its own. The act of a drill is done by a process
that is killed on the way; whoever never heard an answer asks again, so an act is also what the
next process begins with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.chaos.solo import QUEUE, Platform
from workflows.engine.events import Failed, StepError, Succeeded
from workflows.language.words import ErrorClass
from workflows.models import Incident, Run
from workflows.services import children, incidents, runs
from workflows.services.claiming import claim_step
from workflows.services.migrating import migrate_run
from workflows.services.orders import Order
from workflows.services.plans import pinned
from workflows.services.recording import Outcome, record_outcome
from workflows.services.recovery import recover
from workflows.services.runs import start_runs
from workflows.services.work import Taker, Work

BY = "person:driller"
MORE_THAN_A_LEASE = timedelta(seconds=61)

WHOLE = """
workflow: kill-whole
input: {type: object, properties: {orders: {type: integer, default: 3}}}
steps:
  - {id: first, uses: chaos.effect, with: {value: "${{ input.orders }}"}}
  - {id: note, set: {seen: "${{ steps.first.output.value }}"}}
  - id: spread
    parallel:
      - {id: s1, uses: chaos.effect, with: {value: 1}}
      - {id: s2, uses: chaos.effect, with: {value: 2}}
      - {id: s3, uses: chaos.effect, with: {value: "${{ vars.seen }}"}}
      - {id: s4, uses: chaos.effect, with: {fails: 1}, retry: {initial_delay: 5s}}
  - {id: left, uses: chaos.effect, needs: [spread]}
  - {id: right, uses: chaos.effect, needs: [spread]}
  - {id: join, uses: chaos.effect, needs: [left, right]}
  - id: choose
    switch:
      - when: "${{ vars.seen > 100 }}"
        steps: [{id: many, uses: chaos.effect}]
      - when: "${{ vars.seen > 1 }}"
        steps: [{id: some, uses: chaos.effect}, {id: more, uses: chaos.effect}]
  - {id: charge, uses: chaos.charge}
  - {id: last, uses: chaos.effect, with: {value: "${{ steps.first.output.value }}"}}
"""
"""A chain, a fan-out with its join, branches, a retry, a switch, and what must not be repeated."""

SMALL = """
workflow: kill-small
steps:
  - {id: first, uses: chaos.effect}
  - id: block
    parallel:
      - {id: left, uses: chaos.effect}
      - {id: right, uses: chaos.effect, with: {fails: 1}, retry: {initial_delay: 5s}}
  - {id: last, uses: chaos.effect}
"""

WRONG = """
workflow: kill-wrong
steps:
  - {id: first, uses: chaos.effect}
  - id: block
    parallel:
      - {id: left, uses: chaos.correct, with: {right: false}}
      - {id: right, uses: chaos.effect}
  - {id: last, uses: chaos.effect}
"""

TANGLE = """
workflow: kill-tangle
steps:
  - {id: lost, uses: chaos.effect, needs: []}
  - {id: uncertain, uses: chaos.charge, needs: []}
  - {id: retried, uses: chaos.effect, needs: [], retry: {initial_delay: 5s}}
  - {id: unsent, uses: chaos.effect, needs: []}
  - {id: timed, needs: [], timeout: 20s, optional: true, steps: [{id: slow, uses: chaos.effect}]}
  - {id: after, needs: [lost, unsent], uses: chaos.effect}
"""

INNER = """
workflow: kill-inner
retry: {max_attempts: 1}
input: {type: object, properties: {fails: {type: integer, default: 0}}}
steps:
  - {id: only, uses: chaos.effect, with: {fails: "${{ input.fails }}", value: 7}}
output: "${{ steps.only.output.value }}"
"""

OUTER = """
workflow: kill-outer
steps:
  - {id: call, workflow: kill-inner}
  - {id: last, uses: chaos.effect, with: {value: "${{ steps.call.output }}"}}
"""

OUTER_WRONG = """
workflow: kill-outer-wrong
steps:
  - {id: call, workflow: kill-inner, with: {fails: 1}}
  - {id: last, uses: chaos.effect, with: {value: "${{ steps.call.output }}"}}
"""

MOVED = SMALL.replace("kill-small", "kill-moved")
MOVED_ON = """
workflow: kill-moved
steps:
  - {id: begin, uses: chaos.effect}
  - id: all
    parallel:
      - {id: more, uses: chaos.effect}
      - {id: left, uses: chaos.effect}
      - {id: right, uses: chaos.effect, with: {fails: 1}, retry: {initial_delay: 5s}}
  - {id: between, uses: chaos.effect}
  - {id: last, uses: chaos.effect}
"""
"""A run in the middle of the one goes over to the other: steps are renamed, others come to it."""

DEFINITIONS = (WHOLE, SMALL, WRONG, TANGLE, INNER, OUTER, OUTER_WRONG, MOVED, MOVED_ON)


@dataclass(frozen=True, slots=True)
class Stage:
    """The runs of one kill, known by the beginning of their keys, and the children of those."""

    token: str

    @property
    def runs(self) -> list[Run]:
        """The runs in the order of their keys, then their children, and so on."""
        level, found = self.tops, []
        while level:
            found += level
            level = list(Run.objects.filter(parent__in=level).order_by("parent_path", "id"))
        return found

    @property
    def tops(self) -> list[Run]:
        """The runs that no step has started."""
        found = Run.objects.filter(idempotency_key__startswith=f"{self.token}-")
        return list(found.order_by("idempotency_key"))

    @property
    def run(self) -> Run:
        """The only run that no step has started."""
        [run] = self.tops
        return run

    def start(self, workflow: str, *, number: int = 1, version: int | None = None) -> None:
        """Start the runs; a second time, they are there already."""
        keys = [f"{self.token}-{n}" for n in range(number)]
        orders = [Order(workflow, version=version, idempotency_key=key) for key in keys]
        start_runs(orders=orders, by=BY)

    def claim(self, path: str, attempt: int = 1) -> Work:
        """Have a worker take an attempt, and never be heard of again."""
        taker, now = Taker("worker-that-dies", QUEUE), timezone.now()
        pin = pinned(self.run.pk)
        work = claim_step(pin=pin, path=path, attempt=attempt, taker=taker, now=now)
        assert work is not None, f"{path} {attempt} could not be claimed"
        return work

    def incident(self, **wanted: Any) -> Incident:
        """The first incident of the runs."""
        return Incident.objects.filter(run__in=self.runs, **wanted).order_by("id")[:1].get()


def new_stage() -> Stage:
    return Stage(f"k{uuid7()}")


def _started(workflow: str) -> Callable[[Stage], None]:
    return lambda stage: stage.start(workflow)


def _half_done(stage: Stage) -> None:
    """Leave a run with a step in each state that a command may meet."""
    stage.start("kill-small")
    first = stage.claim("first")
    _record(first, Succeeded(first.path, first.attempt))
    stage.claim("block.left")
    _fail(stage.claim("block.right"))


def _paused(stage: Stage) -> None:
    _half_done(stage)
    runs.pause_run(run_id=stage.run.pk, by=BY)


def _failed(stage: Stage) -> None:
    stage.start("kill-wrong")
    Platform().serve()


def _tangled(stage: Stage) -> None:
    stage.start("kill-tangle")
    for path in ("lost", "uncertain", "timed.slow"):
        stage.claim(path)
    _fail(stage.claim("retried"))


def _called(stage: Stage) -> None:
    """Leave a run that waits for a child run, of which a worker has a step."""
    stage.start("kill-outer")
    children.attend(run_id=stage.run.pk)
    child = Run.objects.get(parent=stage.run.pk)
    taker, now = Taker("worker-that-dies", QUEUE), timezone.now()
    claim_step(pin=pinned(child.pk), path="only", attempt=1, taker=taker, now=now)


def _cancelled(stage: Stage) -> None:
    """Cancel, and do what is to be done about the child run."""
    runs.cancel_run(run_id=stage.run.pk, by=BY)
    children.attend(run_id=stage.run.pk)


def _held_by_its_parent(stage: Stage) -> None:
    """Pause, and do what is to be done about the child run."""
    if stage.run.state == "RUNNING":
        runs.pause_run(run_id=stage.run.pk, by=BY)
    children.attend(run_id=stage.run.pk)


def _held(stage: Stage) -> None:
    _called(stage)
    _held_by_its_parent(stage)


def _resumed(stage: Stage) -> None:
    """Resume, and do what is to be done about the child run."""
    if stage.run.state == "PAUSED":
        runs.resume_run(run_id=stage.run.pk, by=BY)
    children.attend(run_id=stage.run.pk)


def _failed_below(stage: Stage) -> None:
    stage.start("kill-outer-wrong")
    Platform().serve()


def _replayed_from_above(stage: Stage) -> None:
    if stage.run.state == "FAILED":
        incidents.replay_run(run_id=stage.run.pk, by=BY)
    children.attend(run_id=stage.run.pk)


def _to_be_moved(stage: Stage) -> None:
    """Leave a run that has done its first step, and that nobody is at: what is begun has a name."""
    stage.start("kill-moved", version=1)
    _record(first := stage.claim("first"), Succeeded(first.path, first.attempt))


def _moved(stage: Stage) -> None:
    migrate_run(run_id=stage.run.pk, mapping={"first": "begin", "block": "all"}, by=BY)


_HELD: dict[str, Work] = {}
"""What a worker was at when the run of a stage went over."""


def _moved_meanwhile(stage: Stage) -> None:
    """Have a run go over of which a worker has a step, which has its name still."""
    stage.start("kill-moved", version=1)
    _record(first := stage.claim("first"), Succeeded(first.path, first.attempt))
    _record(right := stage.claim("block.right"), Succeeded(right.path, right.attempt))
    _record(left := stage.claim("block.left"), Succeeded(left.path, left.attempt))
    _HELD[stage.token] = stage.claim("last")
    mapping = {"first": "begin", "block": "all", "all.more": None, "between": None}
    migrate_run(run_id=stage.run.pk, mapping=mapping, by=BY)


def _recorded_after(stage: Stage) -> None:
    _record(_HELD[stage.token], Succeeded("last", 1))


def _fail(work: Work) -> None:
    error = StepError(ErrorClass.TRANSIENT, "chaos.broken", "It broke.")
    _record(work, Failed(work.path, work.attempt, error))


def _record(work: Work, outcome: Outcome) -> None:
    taker = Taker("worker-that-dies", QUEUE)
    record_outcome(work=work, outcome=outcome, taker=taker, run_on=False, now=timezone.now())


def _nothing(stage: Stage) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Drill:
    """`prepare` sets the stage, `act` is cut short and then begun again, `then` follows it."""

    prepare: Callable[[Stage], None]
    act: Callable[[Stage], object]
    then: Callable[[Stage], object] = _nothing


DRILLS: Mapping[str, Drill] = {
    "work": Drill(_started("kill-whole"), lambda _: Platform().serve()),
    "start": Drill(_nothing, lambda stage: stage.start("kill-small", number=3)),
    "child": Drill(_started("kill-outer"), lambda _: Platform().serve()),
    "child_cancel": Drill(_called, _cancelled),
    "child_pause": Drill(_called, _held_by_its_parent, then=_resumed),
    "child_resume": Drill(_held, _resumed),
    "child_replay": Drill(_failed_below, _replayed_from_above),
    "pause": Drill(
        _half_done,
        lambda stage: runs.pause_run(run_id=stage.run.pk, by=BY),
        then=lambda stage: runs.resume_run(run_id=stage.run.pk, by=BY),
    ),
    "resume": Drill(_paused, lambda stage: runs.resume_run(run_id=stage.run.pk, by=BY)),
    "cancel": Drill(_half_done, lambda stage: runs.cancel_run(run_id=stage.run.pk, by=BY)),
    "replay": Drill(
        _failed,
        lambda stage: incidents.replay_incident(
            incident_id=stage.incident().pk, arguments={"right": True}, by=BY
        ),
    ),
    "replay_run": Drill(
        _failed,
        lambda stage: incidents.replay_run(run_id=stage.run.pk, by=BY),
    ),
    "skip": Drill(
        _failed,
        lambda stage: incidents.skip_incident(
            incident_id=stage.incident().pk, output={"right": None}, by=BY
        ),
    ),
    "discard": Drill(
        _failed,
        lambda stage: incidents.discard_incident(
            incident_id=stage.incident().pk, note="It is given up.", by=BY
        ),
    ),
    "migrate": Drill(_to_be_moved, _moved),
    "migrate_meanwhile": Drill(_moved_meanwhile, _recorded_after),
    "sweep": Drill(_tangled, lambda _: recover(now=timezone.now() + MORE_THAN_A_LEASE)),
}
