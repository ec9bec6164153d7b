"""The store does what the engine does in memory, whoever does what, and whoever dies doing it.

Workers, clocks, sweeps and people do what they like to a few runs of random plans, and to their
child runs, some of which wait for places; events come from outside, and runs go over to other
versions of their workflows, which not everybody has heard of. Whoever does something may be
ended before or after any of its calls to the database. What they do is told to a run in memory
too: afterwards every stored run is where its model is, and where somebody died it is where the
model is before or after a whole transaction, never between. In the end every run is played out
by those who are left, and what must hold of all that is stored is asked of the database.

`HYPOTHESIS_PROFILE=long` looks for hours where the usual profile looks for a minute.
"""

# ruff: noqa: S311 - chance here must repeat, not keep a secret

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from random import Random
from typing import Any, NoReturn
from unittest.mock import patch
from uuid import UUID

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine
from uuid_utils.compat import uuid7

from environments.services import ensure_default
from tests.engine.builders import error_of, plan_from
from tests.engine.test_properties import EVENTS
from tests.engine.versions import edited, preflight, without
from tests.support import invariants
from tests.support.seam import Crash, Seam, seam
from tests.workflows.builders import ANN, QUEUE, sql
from tests.workflows.mirror import GoesOver, Model, Twin, Writer
from workflows import store
from workflows.catalog import catalog
from workflows.engine.events import (
    Answered,
    CancelRequested,
    Claimed,
    CompensationRequested,
    Discarded,
    Drained,
    Event,
    Failed,
    Parked,
    PauseRequested,
    Replayed,
    ResumeRequested,
    SkipDecided,
    Started,
    Succeeded,
)
from workflows.engine.examined import Verdict
from workflows.engine.plan import dump_plan
from workflows.engine.states import (
    PLACE_HOLDERS,
    UNDOING,
    Reason,
    RunReason,
    RunState,
    StepState,
)
from workflows.models import Incident, Run, Step, Version, Workflow
from workflows.services import concurrency, events, incidents, recovery, runs, timers, waits
from workflows.services.claiming import claim_any_step, claim_step
from workflows.services.errors import StateRefusedError
from workflows.services.events import publish_event
from workflows.services.flights import in_flight
from workflows.services.incidents import discard_incident, replay_incident, skip_incident
from workflows.services.migrating import migrate_run, preflight_migration
from workflows.services.plans import Pinned, pinned, pinned_to
from workflows.services.progress import advance_run
from workflows.services.recording import Outcome, record_outcome
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, compensate_run, pause_run, resume_run, start_run
from workflows.services.scopes import settle_scope
from workflows.services.timers import tick
from workflows.services.waits import answer_wait
from workflows.services.work import Taker, Work, lease

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
PROFILE = settings(
    max_examples=20_000 if LONG else 45,
    stateful_step_count=60 if LONG else 40,
    derandomize=not LONG,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = [
    pytest.mark.usefixtures("committed"),
    pytest.mark.timeout(0 if LONG else 900),
]

MOST_RUNS = 3
MOST_IN_HAND = 6
BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)
A_MOMENT = timedelta(milliseconds=1)
TABLES = (
    "workflows_run, workflows_step, workflows_attempt, workflows_wait, workflows_incident,"
    " workflows_journal, workflows_receivedevent, workflows_eventeffect"
)
PLACES = 1
"""Runs of each workflow with places that there may be at a time."""

_HOLDERS = ", ".join(f"'{state}'" for state in sorted(PLACE_HOLDERS))
CROWDED = f"""
    SELECT workflow_id FROM workflows_run
    WHERE concurrency_key IS NOT NULL AND state IN ({_HOLDERS})
    GROUP BY workflow_id, concurrency_key HAVING count(*) > {PLACES}
"""  # noqa: S608 - joined from literals
TOLD_BY = (recovery, timers, waits, runs, incidents, concurrency, events)
"""The modules by which sweeps and clocks tell the engine."""

LAST = 3
"""Transactions are of so many events at most: one about the oldest run, and some that make way."""

CALLS = st.integers(1, 14)
CUTS = st.none() | st.none() | st.tuples(CALLS, st.booleans())
"""Where whoever acts is ended: at which of its calls, and whether after it; mostly nowhere."""

LONG_CUTS = st.none() | st.none() | st.tuples(st.integers(1, 40), st.booleans())
"""The same of what takes more calls."""

PICKS = st.integers(0, 999)
LATENESS = st.sampled_from([0, 0, 0, 1, 2])
"""How many versions ago whoever acts has heard of the run."""

WORKERS = st.integers(0, 2)


@dataclass(slots=True)
class InHand:
    """What a worker knows of an attempt that it has claimed, as long as it lives."""

    work: Work
    taker: Taker


@dataclass(slots=True)
class Told:
    """Which transactions the services have begun, in their order: the run and what it is told."""

    events: list[tuple[UUID, tuple[Event, ...]]] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear what sweeps and clocks tell the engine; but not what is taken back."""
        with ExitStack() as heard:
            for module in TOLD_BY:
                advance = partial(self._advance, module.advance_run)
                heard.enter_context(patch.object(module, "advance_run", advance))
            demand = partial(self._demand_room, concurrency.demand_room)
            heard.enter_context(patch.object(concurrency, "demand_room", demand))
            yield

    def _advance(self, advance: Any, pin: Any, *events: Event, **facts: Any) -> Any:
        self.events.append((pin.run, events))
        return advance(pin, *events, **facts)

    def _demand_room(self, demand: Any, pin: Any, progress: Any) -> None:
        try:
            demand(pin, progress)
        except StateRefusedError:
            last = max(place for place, (run, _) in enumerate(self.events) if run == pin.run)
            del self.events[last]
            raise


class _Strict:
    """Takes the place of the log of sweeps, which forgive what they meet in one run."""

    def exception(self, event: str, **facts: Any) -> NoReturn:
        raise AssertionError(f"{event}: {facts}")


class Crowd(RuleBasedStateMachine):
    """Everybody who has to do with runs, each able to die at any call to the database."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING
        self.twins: list[Twin] = []
        self.children: list[str] = []
        self.published = 0
        self.names = count(1)
        self.was_refused = False
        self.hands: list[InHand] = []
        self.lives = [0, 0, 0]
        self.acknowledged: dict[UUID, tuple[int, Any]] = {}
        self._entered = seam()
        self.seam: Seam = self._entered.__enter__()
        self._patches = [
            patch("workflows.store.now", lambda: self.now),
            patch("workflows.services.sweep.log", _Strict()),
        ]
        for one in self._patches:
            one.start()

    # What may happen

    @initialize(chance=st.randoms(use_true_random=False))
    def begin(self, chance: Any) -> None:
        ensure_default()
        if Run.objects.filter(finished_at=None).exists():
            sql(f"TRUNCATE {TABLES} CASCADE")
        for few in (FEW, {}):
            name = f"c{uuid7()}"
            _store(name, Writer(chance, calm=False, children=self.children).document() | few)
            self.children.append(name)
        self.start(chance, None)

    @precondition(lambda self: len(self.twins) < MOST_RUNS)
    @rule(chance=st.randoms(use_true_random=False), cut=CUTS)
    def start(self, chance: Any, cut: tuple[int, bool] | None) -> None:
        name = f"w{uuid7()}"
        _store(name, Writer(chance, calm=False, children=self.children).document())
        order = {"workflow": name, "environment": "default", "idempotency_key": "k", "by": ANN}
        self.pass_time(0)

        if self.do(lambda: start_run(**order), cut) is None:
            start_run(**order)

        run = Run.objects.get(workflow__name=name)
        pin = pinned(run.pk)
        twin = Twin(pin, Model(pin.plan, {}, self.now))
        self.twins.append(twin)
        twin.told.append((self.now, frozenset(), Started()))
        twin.settle(certain=1)

    @rule(
        pick=PICKS,
        worker=WORKERS,
        cut=CUTS,
        wrong=st.sampled_from([0, 0, 0, 0, 1, -1]),
        old=LATENESS,
    )
    def claim(
        self, pick: int, worker: int, cut: tuple[int, bool] | None, wrong: int, old: int
    ) -> None:
        queued = self.steps_in(StepState.QUEUED) or self.steps_in(*StepState)
        if not queued:
            return
        twin, path, attempt = queued[pick % len(queued)]
        taker, pin = self.taker(worker), _known(twin, path, old)
        self.pass_time(0)

        claimed = Claimed(path, attempt + wrong, taker.worker, self.now + lease())
        self.tell(twin, *twin.heard(pin, claimed))
        work = self.do(
            lambda: claim_step(
                pin=pin, path=path, attempt=attempt + wrong, taker=taker, now=self.now
            ),
            cut,
            of=worker,
        )

        self.settle(twin)
        self.take(work, taker)

    @rule(pick=PICKS, worker=WORKERS, cut=CUTS, old=LATENESS)
    def claim_any(self, pick: int, worker: int, cut: tuple[int, bool] | None, old: int) -> None:
        queued = self.steps_in(StepState.QUEUED)
        if not queued:
            return
        twin, path, _ = queued[pick % len(queued)]
        taker = self.taker(worker, fan=twin.model.step(path).scope)
        pin = _known(twin, path, old)
        self.pass_time(0)

        work = self.do(lambda: claim_any_step(pin=pin, taker=taker, now=self.now), cut, of=worker)

        self.hear_of_claims(twin, taker, together=False)
        self.settle(twin)
        self.take(work, taker)

    @precondition(lambda self: self.hands)
    @rule(
        pick=PICKS,
        how=st.sampled_from(["well"] * 5 + ["transient", "permanent", "business", "interrupted"]),
        run_on=st.sampled_from([0, 1, 3]),
        seen=st.sampled_from([True, True, False]),
        cut=CUTS,
    )
    def finish(
        self, pick: int, how: str, run_on: int, seen: bool, cut: tuple[int, bool] | None
    ) -> None:
        """Record an outcome; whoever did it already does it twice, and is late."""
        held = self.hands[pick % len(self.hands)]
        work, twin = held.work, self.twin_of(held.work.run)
        worker = int(held.taker.worker[1])
        outcome = _outcome(work, how)
        self.pass_time(0)

        self.tell(twin, *twin.heard(work.pinned, outcome), unsettled=held.taker.unsettled)
        done: list[Any] = []
        self.do(
            lambda: done.append(
                record_outcome(
                    work=work if seen else replace(work, seen=None),
                    outcome=outcome,
                    taker=replace(held.taker, quick=lambda _: True, width=run_on),
                    run_on=bool(run_on),
                    now=self.now,
                )
            ),
            cut,
            of=worker,
        )

        self.hear_of_claims(twin, held.taker, together=held.taker.fan is None)
        self.settle(twin)
        if done:
            for following in done[0]:
                self.take(following, held.taker)
            self.acknowledge(twin, outcome)

    @rule(
        pick=PICKS,
        wrong=st.sampled_from([0, 0, 0, 1, -1]),
        well=st.booleans(),
        cut=CUTS,
        old=LATENESS,
    )
    def answer(
        self, pick: int, wrong: int, well: bool, cut: tuple[int, bool] | None, old: int
    ) -> None:
        """What a step waits for comes from outside, or what it once waited for."""
        waits = [
            (twin, *place)
            for twin in self.twins
            for place, one in sorted(twin.model.waits.items())
            if one.kind not in {Reason.CHILD, Reason.EVENT}
        ]
        if not waits:
            return
        twin, path, attempt = waits[pick % len(waits)]
        error = None if well else error_of("http.404", "business")
        kind = twin.model.waits[path, attempt].kind
        meant = Reason.CALLBACK if kind is Reason.TIME else kind
        answer = Answered(path, meant, {"n": attempt}, error, attempt + wrong)
        pin = _known(twin, path, old)
        self.pass_time(0)

        self.tell(twin, *twin.heard(pin, answer))
        self.do(lambda: answer_wait(pin=pin, answer=answer, now=self.now, by=ANN), cut)

        self.settle(twin)

    @rule(type=st.sampled_from(EVENTS), cut=CUTS)
    def publish(self, type: str, cut: tuple[int, bool] | None) -> None:  # noqa: A002
        """An event comes: sweeps hand it out. Who heard no answer sends it again."""
        self.published += 1
        event = {
            "specversion": "1.0",
            "id": str(self.published),
            "source": "/crowd",
            "type": type,
            "data": {"n": 1},
        }
        self.pass_time(0)

        for at in (cut, None):
            self.do(
                lambda: publish_event(event={**event, "type": type, "data": {"n": 1}}, by=ANN), at
            )

    @precondition(lambda self: self.hands)
    @rule(pick=PICKS)
    def renew(self, pick: int) -> None:
        work = self.hands[pick % len(self.hands)].work
        twin, until = self.twin_of(work.run), self.now + lease()

        if store.renew(work.run, work.path, work.attempt, until=until) is not None:
            row = twin.model.rows[work.path]
            row.view = row.view._replace(wake_at=until)

        self.settle(twin)

    @rule(seconds=st.sampled_from([1, 6, 11, 31, 61]))
    def pass_time(self, seconds: float) -> None:
        """Let time pass, and never stand: no two things happen at the same time."""
        self.now += timedelta(seconds=seconds) + A_MOMENT

    @rule(of=st.sampled_from([recover, recover, tick]), cut=CUTS)
    def sweep(self, of: Callable[..., Any], cut: tuple[int, bool] | None) -> None:
        self.pass_time(0)
        told = Told()

        with told.listening():
            done = self.do(lambda: of(now=self.now), cut)

        self.meet_children(told)
        for run_id, together in told.events:
            self.tell(self.twin_of(run_id), *together)
        last = Counter(run_id for run_id, _ in told.events[-LAST:])
        for twin in self.twins:
            unsure = last[twin.id] if done is None else 0
            twin.settle(certain=len(twin.told) - unsure)
        assert sql(CROWDED) == 0
        if done is not None and of is recover:
            wanting = (StepState.RUNNING, StepState.RETRYING)
            assert not store.due_steps(*wanting, now=self.now, limit=1)

    @rule(pick=PICKS, cut=CUTS, old=LATENESS)
    def settle_late(self, pick: int, cut: tuple[int, bool] | None, old: int) -> None:
        """The body of a chord comes, or comes once more."""
        twin = self.twins[pick % len(self.twins)]
        scopes = sorted({row.view.scope for row in twin.model.rows.values()})
        if not scopes:
            return
        scope = scopes[pick % len(scopes)]
        pin = _known(twin, scope, old)
        self.pass_time(0)

        self.tell(twin, *twin.heard(pin, Drained(scope)))
        self.do(lambda: settle_scope(pin=pin, scope=scope, now=self.now), cut)

        self.settle(twin)

    @rule(pick=PICKS, wrong=st.sampled_from([0, 0, 0, 1, -1]), cut=CUTS, old=LATENESS)
    def put_aside(self, pick: int, wrong: int, cut: tuple[int, bool] | None, old: int) -> None:
        """What a step needs is not to be had: its attempt is parked, or one that is not queued."""
        found = self.steps_in(StepState.QUEUED)
        if not found:
            return
        twin, path, attempt = found[pick % len(found)]
        self.pass_time(0)
        event = Parked(path, attempt + wrong, Reason.GUARD, self.now + timedelta(seconds=20))
        pin = _known(twin, path, old)

        self.tell(twin, *twin.heard(pin, event))
        self.do(lambda: in_flight(partial(advance_run, pin, event, now=self.now)), cut)

        self.settle(twin)

    @rule(
        pick=PICKS,
        what=st.sampled_from([*["pause", "resume"] * 3, "resume", "cancel", "cancel+", "undo"]),
        cut=CUTS,
    )
    def command(self, pick: int, what: str, cut: tuple[int, bool] | None) -> None:
        twin = self.twins[pick % len(self.twins)]
        service, event = COMMANDS[what]
        if isinstance(event, CompensationRequested):
            event = CompensationRequested(twin.model.error or event.error)
        self.pass_time(0)

        self.tell(twin, event)
        self.do(lambda: service(run_id=twin.id, by=ANN), cut)

        self.settle(twin)

    @rule(
        pick=PICKS,
        what=st.sampled_from(["replay", "replay", "correct", "skip", "discard"]),
        cut=CUTS,
    )
    def resolve(self, pick: int, what: str, cut: tuple[int, bool] | None) -> None:
        incidents = Incident.objects.filter(run__in=[twin.id for twin in self.twins])
        found = list(incidents.order_by("id").values_list("pk", "run_id", "path", "resolution"))
        if not found:
            return
        incident, run_id, path, resolution = found[pick % len(found)]
        twin = self.twin_of(run_id)
        self.pass_time(0)

        known = what == "correct" and twin.pin.knows(path)
        given = CORRECTED.get(twin.model.plan.node(path).uses) if known else None
        if not resolution:
            self.tell(twin, _decided(what, path, given))
        self.do(lambda: _resolve(what, incident, given), cut)

        self.settle(twin)

    @rule(
        pick=PICKS,
        seed=st.integers(0, 2**32),
        strict=st.sampled_from([False, False, True]),
        cut=LONG_CUTS,
    )
    def migrate(self, pick: int, seed: int, strict: bool, cut: tuple[int, bool] | None) -> None:
        """A run goes over to another version, or is told why not; `strict` gives nothing up."""
        twin = self.twins[pick % len(self.twins)]
        version = Version.objects.select_related("workflow").get(pk=twin.pin.version)
        document, renamed = edited(json.loads(version.source), Random(seed), self.names)
        into = pinned_to(twin.id, _store(version.workflow.name, document).pk)
        mapping = renamed if strict else without(twin.model, into.plan, renamed)
        number = Version.objects.get(pk=into.version).number
        found = preflight(twin.model, into.plan, mapping)
        self.pass_time(0)

        [said] = preflight_migration(run_ids=[twin.id], version=number, mapping=mapping)
        assert set(said.findings) == set(found.findings)
        if found.verdict is Verdict.SAFE:
            self.tell(twin, GoesOver(into, mapping))
        self.do(lambda: migrate_run(run_id=twin.id, version=number, mapping=mapping, by=ANN), cut)

        is_said = self.was_refused is (found.verdict is not Verdict.SAFE)
        assert is_said or self.seam.has_ended
        self.settle(twin)

    # How it is done

    def do(
        self, work: Callable[[], Any], cut: tuple[int, bool] | None, *, of: int | None = None
    ) -> Any:
        """Do it; None if whoever does it died, and then a worker's memory is gone."""
        call, after = cut or (10_000, False)
        self.was_refused = False
        self.seam.cut(call, after=after)
        try:
            return work() or ()
        except StateRefusedError:
            self.was_refused = True
            return ()
        except Crash:
            connection.close()
            if of is not None:
                self.die(of)
            return None
        finally:
            self.seam.mend()

    def die(self, worker: int) -> None:
        """Forget what the worker knew; another takes its place."""
        name = self.taker(worker).worker
        self.hands = [one for one in self.hands if one.taker.worker != name]
        self.lives[worker] += 1

    def taker(self, worker: int, *, fan: str | None = None) -> Taker:
        return Taker(f"w{worker}.{self.lives[worker]}", QUEUE, fan=fan)

    def take(self, work: Any, taker: Taker) -> None:
        if isinstance(work, Work):
            self.hands.append(InHand(work, taker))
            del self.hands[:-MOST_IN_HAND]

    def tell(
        self,
        twin: Twin,
        *events: Event | GoesOver,
        unsettled: frozenset[str] = frozenset(),
    ) -> None:
        twin.told.append((self.now, unsettled, *events))

    def settle(self, twin: Twin) -> None:
        """Compare the twins; what somebody who died was doing may have been done or not."""
        if self.was_refused:
            twin.told.clear()
        twin.settle(certain=0 if self.seam.has_ended else len(twin.told))

    def meet_children(self, told: Told) -> None:
        """Have a twin of each child run that has been started; one that waits begins later."""
        for twin in self.twins:  # which grows meanwhile: child runs have child runs
            known = [one.id for one in self.twins]
            for run in Run.objects.filter(parent=twin.id).exclude(pk__in=known).order_by("id"):
                self.twins.append(self.child(run, told))

    def child(self, run: Run, told: Told) -> Twin:
        pin = pinned(run.pk)
        twin = Twin(pin, Model(pin.plan, {}, self.now))
        if run.state == RunState.PENDING or (run.pk, (Started(),)) in told.events:
            reason = RunReason(run.reason or RunReason.QUEUED)
            twin.model.run = replace(twin.model.run, reason=reason)
        else:
            twin.told.append((self.now, frozenset(), Started()))
        return twin

    def hear_of_claims(self, twin: Twin, taker: Taker, *, together: bool) -> None:
        """Tell the model which steps the worker has taken, for it may choose them itself."""
        known = {
            (path, row.view.attempt)
            for path, row in twin.model.rows.items()
            if row.view.state is StepState.RUNNING and row.view.worker == taker.worker
        }
        mine = Step.objects.filter(run=twin.id, state="RUNNING", worker=taker.worker)
        for path, attempt in mine.values_list("path", "attempt"):
            if (path, attempt) not in known:
                claimed = Claimed(path, attempt, taker.worker, self.now + lease())
                if together and twin.told:
                    twin.told[-1] = (*twin.told[-1], claimed)
                else:
                    twin.told.append((self.now, taker.unsettled, claimed))

    def acknowledge(self, twin: Twin, outcome: Outcome) -> None:
        step = Step.objects.filter(run=twin.id, path=outcome.path).first()
        if step and step.state == "COMPLETED" and step.attempt == outcome.attempt:
            self.acknowledged[step.pk] = (step.attempt, step.output)

    def twin_of(self, run_id: UUID) -> Twin:
        return next(twin for twin in self.twins if twin.id == run_id)

    def steps_in(self, *states: StepState) -> list[tuple[Twin, str, int]]:
        return [
            (twin, path, row.view.attempt)
            for twin in self.twins
            for path, row in twin.model.rows.items()
            if row.view.state in states and twin.model.plan.nodes[row.view.node].uses
        ]

    # How it ends

    def teardown(self) -> None:
        try:
            if self.twins and not any(twin.told for twin in self.twins):
                self.to_the_end()
        finally:
            for one in self._patches:
                one.stop()
            self._entered.__exit__(None, None, None)

    def to_the_end(self) -> None:
        """Let those who are left do the rest, and ask the database what has come of it."""
        self.hands.clear()
        known = 0
        for _ in range(60):
            if all(map(self.rests, self.twins)) and len(self.twins) == known:
                break
            known = len(self.twins)
            for twin in self.twins:
                if twin.model.state is RunState.PAUSED:
                    self.command(self.twins.index(twin), "resume", None)
            self.work_off()
            self.pass_time(61)
            self.sweep(recover, None)
        ids = [twin.id for twin in self.twins]
        for _ in range(3):
            self.sweep(recover, None)
        assert all(map(self.rests, self.twins)), [
            (twin.model.state, twin.model.states()) for twin in self.twins
        ]
        assert invariants.left_over(runs=ids) == []
        for known, was in self.acknowledged.items():
            step = Step.objects.get(pk=known)
            assert step.state == "COMPLETED" or step.state in UNDOING
            assert (step.attempt, step.output) == was

    def rests(self, twin: Twin) -> bool:
        """Say whether a run has ended, or waits for a person, maybe for one of its child runs."""
        parked = any(one.model.is_parked for one in self.twins)
        waits = parked and any(one.kind is Reason.CHILD for one in twin.model.waits.values())
        return twin.model.finished or twin.model.is_parked or waits

    def work_off(self) -> None:
        while queued := [
            one
            for one in self.steps_in(StepState.QUEUED)
            if one[0].model.state in (RunState.RUNNING, RunState.COMPENSATING)
        ]:
            self.claim(self.steps_in(StepState.QUEUED).index(queued[0]), 0, None, 0, 0)
            while self.hands:
                self.finish(len(self.hands) - 1, "well", True, True, None)
                del self.hands[:1]


COMMANDS: dict[str, tuple[Callable[..., Any], Event]] = {
    "pause": (pause_run, PauseRequested()),
    "resume": (resume_run, ResumeRequested()),
    "cancel": (cancel_run, CancelRequested()),
    "cancel+": (partial(cancel_run, compensate=True), CancelRequested(undo=True)),
    "undo": (compensate_run, CompensationRequested(error_of())),
}


FEW = {"concurrency": {"key": "all", "limit": PLACES}, "on_failure": "fail"}
"""What a workflow says of whose runs there are few; one that parked would keep its place."""


def _store(name: str, document: dict[str, Any]) -> Version:
    """Store a definition as it is: that of a crowd need make no sense to its reader."""
    workflow, _ = Workflow.objects.get_or_create(name=name)
    others = {key: value for key, value in document.items() if key != "steps"}
    plan = plan_from(*document["steps"], **others)
    return Version.objects.create(
        workflow=workflow,
        number=workflow.versions.count() + 1,
        source=json.dumps(document),
        document={},
        plan=dump_plan(plan),
        environment="default",
        created_by=ANN,
    )


def _known(twin: Twin, path: str, old: int) -> Pinned:
    """Return the run in a version that somebody may take it to be in who tells of a step."""
    pins = twin.pins(path)
    return pins[min(old, len(pins) - 1)]


CORRECTED: dict[str, dict[str, Any]] = {
    "log": {"message": "corrected"},
    "shell.run": {"command": ["true"]},
    "bank.pay": {"ledger": "/nowhere"},
}
"""What each task is given instead; what calls none is given nothing."""


def _outcome(work: Work, how: str) -> Outcome:
    path, attempt = work.path, work.attempt
    match how:
        case "well":
            return Succeeded(path, attempt, {"n": attempt})
        case "interrupted":
            error = error_of("task.timeout", "timeout")
            return Failed(path, attempt, error, catalog().repeat(work.uses))
        case "transient":
            return Failed(path, attempt, error_of("http.503", "transient"))
        case _:
            return Failed(path, attempt, error_of("http.404", how))


def _decided(what: str, path: str, given: dict[str, Any] | None) -> Event:
    match what:
        case "replay" | "correct":
            return Replayed(path, given)
        case "skip":
            return SkipDecided(path, {"skipped": True})
        case _:
            return Discarded(path)


def _resolve(what: str, incident: UUID, given: dict[str, Any] | None) -> Incident:
    match what:
        case "replay" | "correct":
            return replay_incident(incident_id=incident, arguments=given, by=ANN)
        case "skip":
            return skip_incident(incident_id=incident, output={"skipped": True}, by=ANN)
        case _:
            return discard_incident(incident_id=incident, note="It is given up.", by=ANN)


def test_stored_runs_are_what_the_model_says_whoever_dies_at_whichever_call() -> None:
    run_machine(Crowd, settings=PROFILE)
