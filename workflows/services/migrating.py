"""Migration: have live runs go over to another version of their workflow, as far as they can.

A preflight only reads. A migration is one transaction for each run, which locks what lives of it,
looks again, and refuses what is not safe. Whoever is at a step meanwhile goes on with it: its
outcome is refused by the way ahead, and counts by the new version on the locked way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from workflows import store
from workflows.engine.events import GivenUp, Migrated
from workflows.engine.examined import Examined, Finding, Mapped, Verdict, blocked, namesake
from workflows.engine.plan import ROOT, Plan
from workflows.engine.preflight import examine
from workflows.engine.slice import Requirement, RunView, Slice, StepView
from workflows.language.findings import InputError
from workflows.language.inputs import prepare
from workflows.models import Migration, Run, Version, runs_with_names
from workflows.services import concurrency
from workflows.services.errors import (
    EnvironmentClosedError,
    InputRefusedError,
    MigrationRefusedError,
    NotFoundError,
)
from workflows.services.flights import in_transaction
from workflows.services.orders import demand_environment
from workflows.services.patience import patiently
from workflows.services.plans import Pinned, pinned, pinned_to, plan_of_version
from workflows.services.progress import advance_run
from workflows.services.report import Report, each
from workflows.services.sending import send_queued
from workflows.store.migrating import GoingOver, Whole, go_over, look_at, namesakes

MOST_RUNS = 500
"""Runs that one preflight, or one migration, looks at."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What a preflight says of a run."""

    run: UUID
    workflow: str
    before: int
    after: int
    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def is_there(self) -> bool:
        """Say whether the run is in that version already, so that there is nothing to do."""
        return self.before == self.after

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {
            "run": str(self.run),
            "workflow": self.workflow,
            "from_version": self.before,
            "to_version": self.after,
            "verdict": self.verdict.value,
            "findings": [finding.as_dict() for finding in self.findings],
        }


def preflight_migration(
    *, run_ids: Sequence[UUID], version: int | None = None, mapping: Mapped | None = None
) -> list[Preflight]:
    """Say of each run whether it can go over to a version of its workflow: the newest, or that.

    Nothing is locked, and nothing changes. Raises NotFoundError and InputRefusedError.
    """
    refuse_too_many(run_ids)
    return [
        patiently(partial(_preflight, run_id, version, mapping or {}))
        for run_id in dict.fromkeys(run_ids)
    ]


def refuse_too_many(run_ids: Sequence[UUID]) -> None:
    """Raise InputRefusedError for more runs than are looked at in one call."""
    if len(run_ids) > MOST_RUNS:
        message = f"{len(run_ids)} runs are too many for one call; give at most {MOST_RUNS}."
        raise InputRefusedError(message)


def migrate_run(
    *, run_id: UUID, version: int | None = None, mapping: Mapped | None = None, by: str
) -> Run:
    """Have a run go over to a version of its workflow: the newest, or that one.

    One that is in that version already is left as it is.
    Raises NotFoundError, and MigrationRefusedError when it is not safe.
    """
    in_transaction(partial(_migrate, run_id, version, mapping or {}, by))
    return runs_with_names().get(pk=run_id)


def migrate_runs(
    *,
    run_ids: Sequence[UUID],
    version: int | None = None,
    mapping: Mapped | None = None,
    by: str,
) -> Report:
    """Have each run go over, in a transaction of its own, and report which could not.

    Raises InputRefusedError for too many at once.
    """
    refuse_too_many(run_ids)
    migrate = partial(_migrate_one, version=version, mapping=mapping, by=by)
    return each("Migrate", dict.fromkeys(run_ids), migrate)


def _migrate_one(run_id: UUID, *, version: int | None, mapping: Mapped | None, by: str) -> Run:
    return migrate_run(run_id=run_id, version=version, mapping=mapping, by=by)


@dataclass(frozen=True, slots=True)
class _Facts:
    """A run, and the version it is to be in."""

    run: Run
    to: Version


def _facts(run_id: UUID, number: int | None) -> _Facts:
    run = runs_with_names().filter(pk=run_id).first()
    if run is None:
        raise NotFoundError("run", run_id)
    versions = Version.objects.filter(workflow=run.workflow_id).order_by("-number")
    wanted = versions if number is None else versions.filter(number=number)
    to = wanted.defer("source", "document", "plan").first()
    if to is None:
        raise NotFoundError("version", f"{run.workflow.name} v{number}")
    return _Facts(run, to)


def _preflight(run_id: UUID, number: int | None, mapping: Mapped) -> Preflight:
    facts = _facts(run_id, number)
    run, to = facts.run, facts.to
    old = plan_of_version(run.version_id)
    whole = look_at(run_id, old)
    if whole is None:
        raise NotFoundError("run", run_id)
    if whole.version != run.version_id:
        return _preflight(run_id, number, mapping)
    known = Preflight(run_id, run.workflow.name, run.version.number, to.number, Verdict.SAFE, ())
    if run.version_id == to.pk:
        return replace(known, findings=(_there(to.number),))
    found = _examined(run, old, plan_of_version(to.pk), whole, mapping)
    return replace(known, verdict=found.verdict, findings=found.findings)


def _there(number: int) -> Finding:
    return Finding(Verdict.SAFE, ROOT, f"the run is in version {number} already")


def _examined(run: Run, old: Plan, new: Plan, whole: Whole, mapping: Mapped) -> Examined:
    found = examine(
        old, new, run=whole.run, standings=whole.standings, rows=whole.rows, mapping=mapping
    )
    around = [*_around(run, old, new), *_namesakes(run, found, mapping)]
    return replace(found, findings=(*found.findings, *around))


def _namesakes(run: Run, found: Examined, mapping: Mapped) -> list[Finding]:
    """Return which names have been those of others, as long as one may have had another one."""
    may_be = any(mapping.values()) or Migration.objects.filter(run=run).exists()
    if not found.names or not may_be:
        return []
    return [namesake(path) for path in namesakes(run.pk, found.names)]


def _around(run: Run, old: Plan, new: Plan) -> list[Finding]:
    """Return what is to be known about the input, the environment and the place of a run."""
    findings: list[Finding] = []
    try:
        prepare(new.input_schema, run.input)
    except InputError as error:
        said = "; ".join(f"{finding.message}" for finding in error.findings)
        findings.append(blocked(ROOT, f"its input does not fit the new version: {said}"))
    try:
        demand_environment(run.environment.name, new)
    except (EnvironmentClosedError, NotFoundError) as error:
        findings.append(blocked(ROOT, f"{error}"))
    if old.concurrency != new.concurrency:
        what = "the new version admits its runs otherwise; this one keeps the place that it has"
        findings.append(Finding(Verdict.SAFE, ROOT, what))
    return findings


def _migrate(run_id: UUID, number: int | None, mapping: Mapped, by: str) -> None:
    now = store.now()
    store.act_as(by)
    pin = pinned(run_id)
    concurrency.hold_for(pin)
    whole = _hold(pin)
    facts = _facts(run_id, number)
    run, to = facts.run, facts.to
    if run.version_id == to.pk:
        return
    before = pinned_to(run_id, run.version_id)
    after = pinned_to(run_id, to.pk)
    found = _examined(run, before.plan, after.plan, whole, mapping)
    if found.verdict is not Verdict.SAFE:
        raise _refusal(facts, found)
    _go_over(facts, before, after, whole, found, mapping=mapping, by=by, now=now)


def _hold(pin: Pinned) -> Whole:
    """Lock and read a run, by the plan of the version that it is in."""
    while True:
        whole = look_at(pin.run, pin.plan, lock=True)
        if whole is None:
            raise NotFoundError("run", pin.run)
        if whole.version == pin.version:
            return whole
        pin = pinned_to(pin.run, whole.version)


def _go_over(  # noqa: PLR0913 - the facts of a migration, named
    facts: _Facts,
    before: Pinned,
    after: Pinned,
    whole: Whole,
    found: Examined,
    *,
    mapping: Mapped,
    by: str,
    now: datetime,
) -> None:
    place = whole.run.environment
    if found.withdrawn:
        held = _slice(whole.run, whole.rows)
        advance_run(before, GivenUp(found.withdrawn), now=now, actor=by, held=held)
    given = prepare(after.plan.input_schema, facts.run.input)
    one = GoingOver(
        run=after.run,
        environment=place,
        before=before.version,
        after=after.version,
        old=before.plan,
        new=after.plan,
        mapping=mapping,
        input=given if given != facts.run.input else None,
    )
    go_over(one, found, actor=by, now=now)
    held = _slice(whole.run, found.placed)
    advance_run(after, Migrated(found.births), now=now, actor=by, held=held)
    send_queued(after, place)


def _slice(run: RunView, rows: Mapping[str, StepView]) -> Slice:
    return Slice(run, dict(rows), held=Requirement(everything=True))


def _refusal(facts: _Facts, found: Examined) -> MigrationRefusedError:
    stands = [one for one in found.findings if one.verdict is not Verdict.SAFE]
    first = stands[0]
    where = f"{first.path}: " if first.path else ""
    more = f" And {len(stands) - 1} more." if len(stands) > 1 else ""
    said = f"{where}{first.what}." + (f" {first.do}" if first.do else "")
    message = (
        f"The run {facts.run.pk} cannot go over from version {facts.run.version.number} to"
        f" {facts.to.number} ({found.verdict.value}). {said}{more}"
    )
    return MigrationRefusedError(message, [finding.as_dict() for finding in found.findings])
