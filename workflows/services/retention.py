"""Retention: finished runs that are old enough are removed, in small batches, whole or not at all.

And events from outside that have been handed out, some time after they came; lines about what
people and guards did that belong to no run; sessions and tokens that have expired.

Never a live run, nor one with an open incident. A batch is one transaction that skips
what others hold, so many may prune at once, at any time, beside running work; ended
at any moment, it leaves nothing half. What is to be archived is on the disk before its
rows are gone; a run that stands twice in the archive, because a batch was undone after
that, is the same run, and the later line counts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from uuid import UUID

from django.conf import settings

from workflows.engine.states import FINISHED_RUNS, RunState
from workflows.models import ENGINE
from workflows.services.archive import keep
from workflows.services.errors import InputRefusedError
from workflows.services.flights import in_transaction
from workflows.store import pruning
from workflows.store.pruning import Counts

BATCH = 100
"""Runs that are removed in one transaction, if they are of the usual size."""

STEPS = 2_000
"""Steps, about, that are removed in one transaction: a run that has more goes alone."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How long a run is kept after its end, by its state; a state that is absent, for ever."""

    kept: Mapping[RunState, timedelta]

    def __post_init__(self) -> None:
        if unfinished := self.kept.keys() - FINISHED_RUNS:
            names = ", ".join(sorted(unfinished))
            final = ", ".join(sorted(FINISHED_RUNS))
            raise InputRefusedError(
                f"Runs that are {names} are not finished, and are kept. Name some of {final}."
            )

    def sentence(self) -> str:
        """Return the bounds as the record of prunings has them."""
        bounds = (f"{state.value} {_spoken(age)}" for state, age in sorted(self.kept.items()))
        return ", ".join(bounds)


def policy() -> Policy:
    """Return the policy of the settings."""
    days: Mapping[str, int] = settings.ORCHESTRATOR["RETENTION_DAYS"]
    return Policy({RunState(state): timedelta(days=age) for state, age in days.items() if age})


def forecast(*, policy: Policy, now: datetime) -> tuple[Counts, int]:
    """Return what would be removed, and about how many bytes it occupies."""
    total = Counts()
    for state, age in policy.kept.items():
        total += pruning.count_old_runs(state, before=now - age)
    return total, pruning.bytes_of(total)


def prune(
    *, policy: Policy, now: datetime, by: str, archive: Path | None = None
) -> Iterator[Counts]:
    """Remove what is older than the policy, a batch with each step of the iterator.

    The caller may leave it at any step, and pause between them. Raises InputRefusedError
    when the archive cannot be written; then the batch is still there.
    """
    for state, age in sorted(policy.kept.items()):
        after = pruning.FIRST
        while True:
            batch = partial(
                _prune_batch, policy, state, now - age, after, now=now, by=by, archive=archive
            )
            removed, last = in_transaction(batch)
            if last is None:
                break
            after = last
            yield removed


def prune_events(*, now: datetime) -> Iterator[int]:
    """Remove the events that the settings want kept no longer, a batch with each step."""
    days = settings.ORCHESTRATOR["EVENT_RETENTION_DAYS"]
    before = now - timedelta(days=days)
    remove = partial(pruning.remove_events, before=before, limit=BATCH)
    while days and (removed := in_transaction(remove)):
        yield removed


def prune_lines(*, now: datetime) -> Iterator[int]:
    """Remove lines that are older than the settings want them, a batch with each step.

    And what has expired.
    """
    days = settings.ORCHESTRATOR["AUDIT_RETENTION_DAYS"]
    before = now - timedelta(days=days)
    removals = [
        partial(pruning.remove_expired, *names, now=now, limit=BATCH)
        for names in settings.ORCHESTRATOR["EXPIRING"]
    ]
    if days:
        removals.append(partial(pruning.remove_delegations, before=before, limit=BATCH))
        removals += [
            partial(pruning.remove_lines, *names, before=before, limit=BATCH)
            for names in settings.ORCHESTRATOR["LINES"]
        ]
    for remove in removals:
        while removed := in_transaction(remove):
            yield removed


def prune_by_policy(
    *, now: datetime, go_on: Callable[[], bool], pause: Callable[[], None]
) -> Counts:
    """Do what the settings say, as the engine, until it is done or `go_on` says no."""
    for _ in chain(prune_events(now=now), prune_lines(now=now)):
        if not go_on():
            return Counts()
        pause()
    folder = settings.ORCHESTRATOR["RETENTION_ARCHIVE"]
    total = Counts()
    for removed in prune(policy=policy(), now=now, by=ENGINE, archive=folder):
        total += removed
        if not go_on():
            break
        pause()
    return total


def _prune_batch(  # noqa: PLR0913 - handed on as it came
    policy: Policy,
    state: RunState,
    before: datetime,
    after: UUID,
    *,
    now: datetime,
    by: str,
    archive: Path | None,
) -> tuple[Counts, UUID | None]:
    """Remove the next runs; return how much that was, and the last of them, if there was any."""
    pruning.permit_pruning()
    runs = pruning.hold_old_runs(state, before=before, after=after, limit=BATCH)
    if not runs:
        return Counts(), None
    runs = _as_many_as_are_light(runs)
    if archive is not None:
        keep(archive, pruning.read_runs(runs))
    removed = pruning.remove_runs(runs)
    place = "" if archive is None else str(archive)
    pruning.record_pruning(removed, now=now, actor=by, bounds=policy.sentence(), archive=place)
    return removed, runs[-1]


def _as_many_as_are_light(runs: list[UUID]) -> list[UUID]:
    """Return the first runs that together have no more than `STEPS` steps, one at least."""
    steps = pruning.steps_of(runs)
    weight = 0
    for number, run in enumerate(runs):
        weight += steps.get(run, 0)
        if weight > STEPS and number:
            return runs[:number]
    return runs


def _spoken(age: timedelta) -> str:
    days, rest = divmod(age, timedelta(days=1))
    return f"{days} d" if not rest else f"{age.total_seconds():g} s"
