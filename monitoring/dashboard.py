"""The first page: what needs a person, what is under way, where it may run. Bounded throughout."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Min, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from environments.badges import ENVIRONMENT_LOOKS, Look, badge
from environments.models import Environment, Profile
from environments.states import EnvironmentState, ProfileState
from monitoring.navigation import may_have_approvals
from workers.canaries import verdicts
from workers.vitals import Health, Verdict
from workflows.admin.base import duration, newest_of
from workflows.admin.guards import guard_badge, parked_said
from workflows.admin.incident import causes
from workflows.admin.looks import look_of, words_of
from workflows.admin.profiles import LOOKS
from workflows.engine.breaker import BreakerState
from workflows.engine.states import LIVE_RUNS, Reason, RunState, StepState
from workflows.models import Approval, Incident, Run, Step, Workflow
from workflows.models.ids import first_id_of
from workflows.selectors.guards import guards, parked_before, standing

MOST_COUNTED = 10_000
SHOWN = 8
RECENT = timedelta(hours=24)
OLD = timedelta(seconds=60)
QUEUE_LOOKS: Mapping[Health, Look] = {
    Health.HEALTHY: Look("ok", "check_circle"),
    Health.BUSY: Look("busy", "hourglass_top"),
    Health.WEDGED: Look("bad", "error"),
    Health.UNSERVED: Look("care", "person_off"),
    Health.AWAY: Look("bad", "cloud_off"),
    Health.STOPPED: Look("bad", "timer_off"),
    Health.UNKNOWN: Look("quiet", "help"),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A number with a way to what it counts."""

    label: str
    number: str
    look: Look
    url: str
    said: str = ""


@dataclass(slots=True)
class QueueLine:
    """How a queue is, and how many steps wait in it."""

    name: str
    badge: SafeString
    verdict: Verdict
    since: str
    waiting: str = "0"
    oldest: str = ""
    is_slow: bool = False


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the first page shows, as far as this person may see it."""
    if not request.user.has_perm("workflows.view_run"):
        return {**context, "has_inbox": may_have_approvals(request)}
    now = timezone.now()
    context.update(
        {
            "title": "Operations",
            "tiles": tiles(now=now),
            "causes": causes(),
            "held_up": held_up(),
            "incidents_url": reverse("admin:workflows_incident_changelist"),
            "runs_url": reverse("admin:workflows_run_changelist"),
            "failed": _latest(RunState.FAILED),
            "running": _latest(*LIVE_RUNS),
            "environments": environments(),
            "queues": queues(now=now),
            "has_workflows": Workflow.objects.exists(),
            "has_runs": Run.objects.exists(),
            "may_apply": request.user.has_perm("workflows.add_version"),
            "may_start": request.user.has_perm("workflows.start_workflow"),
        }
    )
    return context


@dataclass(frozen=True, slots=True)
class HeldUp:
    """What has steps wait that nothing is wrong with."""

    what: str
    url: str
    badge: SafeString
    said: str


def held_up() -> list[HeldUp]:
    """Return the guards that are open, and how many profiles are tainted, if there are any."""
    shown = list(guards().exclude(state=BreakerState.CLOSED.value)[:SHOWN])
    parked = parked_before(shown) if shown else {}
    found = [
        HeldUp(
            f"Guard {one.name} in {one.environment.name}",
            reverse("admin:workflows_breaker_change", args=[one.pk]),
            guard_badge(one),
            f"{standing(one)}. {parked_said(parked.get(one.pk, 0))}",
        )
        for one in shown
    ]
    tainted = Profile.objects.filter(state=ProfileState.TAINTED.value).count()
    if tainted:
        what = "1 profile is tainted" if tainted == 1 else f"{tainted} profiles are tainted"
        url = f"{reverse('admin:environments_profile_changelist')}?state__exact=TAINTED"
        said = "No step leases a tainted profile until somebody has looked, and cleared it."
        found.append(HeldUp(what, url, badge("Tainted", LOOKS[ProfileState.TAINTED]), said))
    return found


def tiles(*, now: datetime) -> list[Tile]:
    """Return the numbers of the first page; each is counted up to a bound, by an index."""
    since = first_id_of(now - RECENT)
    runs = reverse("admin:workflows_run_changelist")
    open_incidents = bounded(Incident.objects.filter(resolution=""))
    return [
        Tile(
            "Open incidents",
            open_incidents,
            Look("ok", "check_circle") if open_incidents == "0" else Look("bad", "error"),
            reverse("admin:workflows_incident_changelist"),
            "Steps that need a person",
        ),
        Tile(
            "Open approvals",
            bounded(Approval.objects.filter(kind=Reason.APPROVAL.value, closed_at__isnull=True)),
            Look("busy", "how_to_vote"),
            f"{reverse('admin:workflows_approval_changelist')}?show=open",
            "Steps that wait for a decision",
        ),
        *(
            Tile(
                words_of(state),
                bounded(Run.objects.filter(state=state)),
                look_of(state),
                f"{runs}?state__exact={state.value}",
                "Runs now",
            )
            for state in (RunState.RUNNING, RunState.PAUSED)
        ),
        *(
            Tile(
                words_of(state),
                bounded(Run.objects.filter(state=state, pk__gte=since)),
                look_of(state),
                f"{runs}?state__exact={state.value}&age=day",
                "Runs of the last 24 hours",
            )
            for state in (RunState.FAILED, RunState.COMPLETED)
        ),
    ]


def environments() -> list[dict[str, Any]]:
    """Return the environments with their live runs."""
    numbers: dict[Any, int] = dict(
        newest_of(Run.objects.filter(state__in=_values(LIVE_RUNS)))
        .order_by()
        .values_list("environment")
        .annotate(number=Count("pk"))
    )
    return [
        {
            "environment": environment,
            "look": ENVIRONMENT_LOOKS[EnvironmentState(environment.state)],
            "live": numbers.get(environment.pk, 0),
            "url": reverse("admin:environments_environment_change", args=[environment.pk]),
        }
        for environment in Environment.objects.exclude(state=EnvironmentState.RETIRED)[:SHOWN]
    ]


def queues(*, now: datetime) -> list[QueueLine]:
    """Return the queues, in trouble or fullest first; the rows are the truth, not the broker."""
    waiting = Step.objects.filter(state=StepState.QUEUED).order_by().values("pk")[:MOST_COUNTED]
    found = Step.objects.filter(pk__in=waiting).order_by().values("queue")
    counts = found.annotate(number=Count("pk"), oldest=Min("queued_at"))
    full = {count["queue"]: (count["number"], count["oldest"]) for count in counts}
    said = sorted(
        verdicts(),
        key=lambda one: (one.is_good, -full.get(one.queue, (0, None))[0], one.queue),
    )
    lines = [_line(one, *full.get(one.queue, (0, None)), now) for one in said[:SHOWN]]
    for line in [line for line in lines if line.verdict.health is Health.AWAY][1:]:
        line.verdict = replace(line.verdict, matter="", next="")  # It is away from all of them.
    return lines


def _line(verdict: Verdict, number: int, oldest: datetime | None, now: datetime) -> QueueLine:
    return QueueLine(
        name=verdict.queue,
        badge=badge(verdict.health.value.capitalize(), QUEUE_LOOKS[verdict.health]),
        verdict=verdict,
        since=duration(verdict.since, now) if verdict.since else "",
        waiting=_bound(number),
        oldest=duration(oldest, now),
        is_slow=bool(oldest and now - oldest > OLD),
    )


def bounded(rows: QuerySet[Any]) -> str:
    """Count up to the bound; beyond it, nobody needs the number exactly."""
    return _bound(rows.order_by()[: MOST_COUNTED + 1].count())


def _bound(number: int) -> str:
    return f"{MOST_COUNTED:,}+" if number > MOST_COUNTED else f"{number:,}"


def _latest(*states: RunState) -> list[dict[str, Any]]:
    found = Run.objects.filter(state__in=_values(states)).select_related("workflow", "environment")
    rows = found.defer("input", "output", "vars", "ending").order_by("-id")[:SHOWN]
    return [
        {
            "run": run,
            "url": reverse("admin:workflows_run_change", args=[run.pk]),
            "look": look_of(run.state),
            "words": words_of(run.state),
            "took": duration(run.started_at, run.finished_at),
        }
        for run in rows
    ]


def _values(states: Iterable[RunState]) -> list[str]:
    return [state.value for state in states]
