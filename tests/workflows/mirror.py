"""A stored run and its model: the same run in memory, told the same, and the two compared.

`Twin` is both of them. What is compared is everything that a run is made of: every field of every
row, the journal, the attempts with what came too late for them, the incidents.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from uuid import UUID

from tests.engine.builders import Play
from tests.engine.test_properties import Author
from tests.engine.versions import migrate
from workflows.engine.decision import LateResult
from workflows.engine.events import Claimed, Drained, Event, Parked
from workflows.engine.examined import Mapped, Verdict
from workflows.engine.plan import ROOT
from workflows.engine.simulation import StepRow
from workflows.engine.states import FINISHED_RUNS, RunReason, StepState
from workflows.models import Attempt, Incident, Journal, Run, Step, Wait
from workflows.services.plans import Pinned

Picture = dict[str, Any]

TIMED = frozenset({StepState.RUNNING, StepState.RETRYING, StepState.WAITING})
"""In these states the time to look again is part of the law; of a queued row it is housekeeping."""

USES = ["log", "log", "log", "shell.run", "bank.pay"]
"""What may be repeated, what may not, and what may be after its probe was asked."""


class Writer(Author):
    """Writes documents in which nothing but what is told has a say: no jitter, no equal times."""

    def __init__(self, chance: Random, *, calm: bool, children: Sequence[str] = ()) -> None:
        super().__init__(chance, calm=calm)
        self.children += children

    def fill(self, step: dict[str, Any], kind: str, depth: int) -> None:
        super().fill(step, kind, depth)
        if kind == "uses":
            step["uses"] = self.chance.choice(USES)
            step["retry"] |= {"jitter": 0, "initial_delay": self.chance.choice([0, 5])}
            if self.rarely():
                step["with"] = {"message": self.chance.choice(self.readings())}
        elif "timeout" in step:
            step["timeout"] += self.count / 100

    def undo(self) -> dict[str, Any]:
        uses = self.chance.choice(USES)
        retry = {"max_attempts": 2, "jitter": 0, "initial_delay": self.chance.choice([0, 5])}
        return {"uses": uses, "retry": retry, "with": {"message": "${{ error.code }}"}}

    def readings(self) -> list[str]:
        """Return what an argument may read, so that a claim has more to ask for."""
        return [
            "${{ vars }}",
            "${{ run.id }}",
            f"${{{{ steps.s{self.chance.randint(1, self.count)}.state }}}}",
        ]


@dataclass(frozen=True, slots=True)
class GoesOver:
    """A run goes over to another version: not an event, for that is two of them and more."""

    into: Pinned
    mapping: Mapped


@dataclass(slots=True)
class Model(Play):
    """A run in memory. `unsettled` are the scopes that somebody else will settle."""

    unsettled: frozenset[str] = frozenset()

    def copy(self) -> "Model":
        """Return another run in memory that stands where this one does."""
        return replace(
            self,
            rows={path: replace(row) for path, row in self.rows.items()},
            journal=list(self.journal),
            variables=dict(self.variables),
            waits=dict(self.waits),
            incidents=list(self.incidents),
            charged=set(self.charged),
            attempts=list(self.attempts),
            late=list(self.late),
            aside=dict(self.aside),
        )

    @property
    def finished(self) -> bool:
        """Whether the run has ended."""
        return self.run.state in FINISHED_RUNS

    @property
    def is_parked(self) -> bool:
        """Whether the run waits for a person, and for nobody else."""
        return self.run.reason is RunReason.PARKED

    def migrate(self, to: GoesOver) -> Verdict:
        """Go over to another version, if that is safe."""
        self.unsettled = frozenset()
        return migrate(self, to.into.plan, to.mapping).verdict

    def left_to_others(self, event: Event) -> bool:
        return isinstance(event, Drained) and event.path in self.unsettled

    def picture(self) -> Picture:
        """Return all that the run is made of."""
        run = {
            "state": self.run.state.value,
            "reason": self.run.reason or "",
            "ending": self.run.ending.status.value if self.run.ending else None,
            "vars": self.variables,
            "output": self.output,
            "error": self.error.as_dict() if self.error else None,
        }
        return {
            "run": run,
            "journal": Counter((one.path, one.before, one.after) for one in self.journal),
            "attempts": Counter(
                (one.step.path, one.step.attempt, one.end) for one in self.attempts
            ),
            "incidents": Counter((one.path, one.attempt, one.error.code) for one in self.incidents),
            "waits": Counter((path, n, one.kind) for (path, n), one in self.waits.items()),
            "late": self._late(),
        } | {path: _step(row) for path, row in (self.rows | self.aside).items()}

    def _late(self) -> Picture:
        """Return the first result that came too late for each attempt that is over."""
        over = {(one.step.path, one.step.attempt) for one in self.attempts}
        first: dict[tuple[str, int], LateResult] = {}
        for one in self.late:
            first.setdefault((one.path, one.attempt), one)
        return {
            f"{path} {number}": (one.output, one.error.as_dict() if one.error else None)
            for (path, number), one in first.items()
            if (path, number) in over
        }


def _step(row: StepRow) -> Picture:
    view, tally = row.view, row.view.tally
    return {
        "state": view.state.value,
        "reason": view.reason or "",
        "attempt": view.attempt,
        "spent": (view.failures, view.losses),
        "tally": (tally.ok, tally.failed, tally.skipped, tally.upstream_failed),
        "cancel": view.cancel_requested,
        "wake_at": view.wake_at if view.state in TIMED else view.wake_at is not None,
        "retry_until": view.retry_until,
        "error": view.error.as_dict() if view.error else None,
        "output": row.output,
        "arguments": row.arguments,
    }


def stored_picture(run_id: UUID) -> Picture:
    """Return all that a stored run is made of, as `Model.picture` does."""
    row = Run.objects.get(pk=run_id)
    mine = {"run": run_id}
    tries = list(Attempt.objects.filter(**mine).values_list("step__path", "number", "end", "late"))
    run = {
        "state": row.state,
        "reason": row.reason,
        "ending": row.ending["status"] if row.ending else None,
        "vars": row.vars,
        "output": row.output,
        "error": row.error,
    }
    return {
        "run": run,
        "journal": Counter(Journal.objects.filter(**mine).values_list("path", "before", "after")),
        "attempts": Counter((path, number, end) for path, number, end, _ in tries),
        "incidents": Counter(
            Incident.objects.filter(**mine).values_list("path", "attempt", "code")
        ),
        "waits": Counter(
            Wait.objects.filter(**mine, closed_at=None).values_list("path", "attempt", "kind")
        ),
        "late": {
            f"{path} {number}": (late["output"], late["error"])
            for path, number, _, late in tries
            if late is not None
        },
    } | {step.path: _stored_step(step) for step in Step.objects.filter(**mine)}


def _stored_step(step: Step) -> Picture:
    return {
        "state": step.state,
        "reason": step.reason,
        "attempt": step.attempt,
        "spent": (step.failures, step.losses),
        "tally": (step.ok, step.failed, step.skipped, step.upstream_failed),
        "cancel": step.cancel_requested,
        "wake_at": step.wake_at if step.state in TIMED else step.wake_at is not None,
        "retry_until": step.retry_until,
        "error": step.error,
        "output": step.output,
        "arguments": step.arguments,
    }


def difference(stored: Picture, model: Picture) -> str:
    """Return where the two differ, for a message; empty if they do not."""
    return "\n".join(
        f"{name}: stored {stored.get(name)}, not {model.get(name)}"
        for name in sorted(stored.keys() | model.keys())
        if stored.get(name) != model.get(name)
    )


@dataclass(slots=True)
class Twin:
    """A stored run and its model."""

    pin: Pinned
    model: Model
    before: list[Pinned] = field(default_factory=list)
    """The versions that the run was in before, as those know it who have not heard."""
    told: list[tuple[Any, ...]] = field(default_factory=list)
    """What is being told to the stored run and not yet to the model, a transaction each."""

    @property
    def id(self) -> UUID:
        """The run."""
        return self.pin.run

    def pins(self, path: str) -> list[Pinned]:
        """Return the run in its versions that have a step, that in which it is first."""
        return [pin for pin in (self.pin, *reversed(self.before)) if pin.knows(path)]

    def heard(self, pin: Pinned, event: Event) -> list[Event]:
        """Return what the run hears of what somebody tells it who takes it to be in that version.

        Once it has gone over, nothing is taken by an older message, nor what it has no step for.
        """
        is_known = self.pin.knows(getattr(event, "path", ROOT))
        is_taken = is_known and not isinstance(event, Claimed | Parked)
        return [event] if pin.version == self.pin.version or is_taken else []

    def settle(self, *, certain: int) -> None:
        """Have the model hear what the stored run has heard: `certain` of it, and maybe the rest.

        Each transaction is either stored as a whole or not at all.
        """
        found, reports = stored_picture(self.id), []
        for number in range(certain, len(self.told) + 1):
            model, pins = self.model.copy(), [*self.before, self.pin]
            for now, unsettled, *events in self.told[:number]:
                model.now, model.unsettled = now, unsettled
                if events and isinstance(events[0], GoesOver):
                    assert model.migrate(events[0]) is Verdict.SAFE
                    pins.append(events[0].into)
                    continue
                model.decide(*(one for one in events if not isinstance(one, Claimed)))
                for claimed in (one for one in events if isinstance(one, Claimed)):
                    model.decide(claimed)  # What is taken has become ready by all the rest.
            if not (report := difference(found, model.picture())):
                self.model, self.before, self.pin = model, pins[:-1], pins[-1]
                self.told.clear()
                return
            reports.append(f"after {self.told[:number]}\n{report}")
        raise AssertionError("the store is where the model never is:\n" + "\n".join(reports))
