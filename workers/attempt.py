"""An attempt: carry out a claimed step once, and record how it ended."""

from pathlib import Path

from django.conf import settings

from workers import executor
from workers.context import LeasedProfile
from workers.executor import Assignment
from workers.folders import ProfileRoom
from workers.leases import Held, bounded
from workers.pace import pace
from workers.registry import catalog
from workflows import store
from workflows.engine.events import Failed
from workflows.services import recording
from workflows.services.profiles import Profile
from workflows.services.recording import Outcome
from workflows.services.work import Taker, Work


def carry_out_timed(work: Work, held: Held) -> Outcome:
    """Carry out one attempt, and note how long it took."""
    held.begin()
    outcome = carry_out(work, held)
    held.end()
    pace.note(work.uses, held.seconds)
    return outcome


def carry_out(work: Work, held: Held) -> Outcome:
    """Carry out one attempt."""
    if work.refusal is not None:
        return Failed(work.path, work.attempt, work.refusal)
    if work.profile is None:
        return _performed(work, held, None)
    room = _room_of(work.profile)
    given = LeasedProfile(work.profile.name, work.profile.pool, work.profile.context or {}, room)
    try:
        return _performed(work, held, given)
    finally:
        work.profile.context = given.context
        work.profile.soiled = room.leave(
            keep=work.profile.keeps_folder, most_mib=settings.ORCHESTRATOR["PROFILE_FOLDER_MIB"]
        )


def _room_of(profile: Profile) -> ProfileRoom:
    root = Path(settings.ORCHESTRATOR["PROFILE_DIR"])
    return ProfileRoom(root, profile.environment, profile.id, profile.turn)


def _performed(work: Work, held: Held, profile: LeasedProfile | None) -> Outcome:
    assignment = Assignment(
        run_id=str(work.run),
        path=work.path,
        attempt=work.attempt,
        workflow=work.pinned.plan.workflow,
        environment=work.place,
        uses=work.uses,
        arguments=work.arguments,
        names=work.names,
        timeout=bounded(work.timeout),
        idempotent=work.node.idempotent,
        probe_first=work.probe_first,
        probe_only=work.probe_only,
        profile=profile,
    )
    return executor.execute(assignment, registry=catalog, cancelled=lambda: held.stop)


def record(work: Work, outcome: Outcome, taker: Taker, further: bool, again: bool) -> list[Work]:
    """Record how an attempt ended, and return what is next, but for siblings to go abreast."""
    return recording.record_outcome(
        work=work,
        outcome=outcome,
        taker=taker,
        run_on=further,
        siblings=not pace.is_quick(work.node),
        now=store.now(),
        again=again,
    )
