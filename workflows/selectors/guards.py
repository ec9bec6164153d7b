"""Guards: where each breaker stands, and what is parked before it and why."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, QuerySet
from django.utils.timezone import localtime

from workflows.engine.breaker import BreakerState
from workflows.engine.states import PARKED, StepState
from workflows.models import Breaker, Parking, Step
from workflows.models.breaker import Gate
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import OLDEST_FIRST, PAGE, Order, Page, page_of
from workflows.selectors.shapes import (
    GuardDocument,
    ParkedDocument,
    json_time,
    json_time_or_none,
)

BY_PLACE = Order(("environment__name", "name"))


def guards(*, environment: str | None = None) -> QuerySet[Breaker]:
    """Return the breakers, of one environment if it is named."""
    found = Breaker.objects.select_related("environment")
    return found.filter(environment__name=environment) if environment else found


def list_guards(
    *, environment: str | None = None, after: str | None = None, limit: int = PAGE
) -> Page[GuardDocument]:
    """Return a page of guards by environment and name."""
    page = page_of(guards(environment=environment), BY_PLACE, after=after, limit=limit)
    return Page(tuple(guard_documents(page.rows)), page.next)


def get_guard(environment: str, name: str) -> GuardDocument:
    """Return a guard. Raises `MissingError`."""
    return guard_documents([_one(environment, name)])[0]


def guard_documents(found: Iterable[Breaker]) -> list[GuardDocument]:
    """Return guards as JSON: one more query, however many they are."""
    rows = list(found)
    parked = parked_before(rows)
    return [_document(row, parked.get(row.pk, 0)) for row in rows]


def parked_before(rows: Sequence[Breaker]) -> dict[int, int]:
    """Return how many steps are parked before each of the breakers."""
    places = {(row.environment_id, row.name): row.pk for row in rows}
    names = {row.name for row in rows}
    counted = (
        open_parkings(Gate.GUARD)
        .filter(environment__in={row.environment_id for row in rows}, name__in=names)
        .order_by()
        .values_list("environment_id", "name")
        .annotate(number=Count("pk"))
    )
    return {places[env, name]: n for env, name, n in counted if (env, name) in places}


def open_parkings(gate: Gate) -> QuerySet[Parking]:
    """Return the parkings of steps that wait before gates of a kind."""
    waiting = Step.objects.filter(
        run=OuterRef("run"),
        path=OuterRef("path"),
        state=StepState.RETRYING,
        attempt=OuterRef("attempt") - 1,
    )
    return Parking.objects.filter(Exists(waiting), gate=gate.value, until=None)


def list_parked(
    environment: str, name: str, *, after: str | None = None, limit: int = PAGE
) -> Page[ParkedDocument]:
    """Return a page of the steps that are parked before a guard. Raises `MissingError`."""
    row = _one(environment, name)
    found = open_parkings(Gate.GUARD).filter(environment=row.environment_id, name=name)
    return page_of(found, OLDEST_FIRST, after=after, limit=limit).of(_parked_document)


def parked_sentences(steps: Iterable[Step]) -> Mapping[tuple[UUID, str], str]:
    """Say of steps that are parked what they wait for; no query where none is."""
    there = {
        (step.run_id, step.path)
        for step in steps
        if step.state == StepState.RETRYING and step.reason in PARKED
    }
    if not there:
        return {}
    found = Parking.objects.filter(
        run__in={run for run, _ in there}, path__in={path for _, path in there}, until=None
    ).annotate(place=F("environment__name"))
    rows = [row for row in found if (row.run_id, row.path) in there]
    breakers = {
        (one.environment_id, one.name): one
        for one in Breaker.objects.filter(name__in={row.name for row in rows})
    }
    return {
        (row.run_id, row.path): _sentence(row, breakers.get((row.environment_id, row.name)))
        for row in rows
    }


def standing(breaker: Breaker) -> str:
    """Say where a breaker stands, and what comes next."""
    match BreakerState(breaker.state):
        case BreakerState.CLOSED if breaker.ramp is not None:
            return "closed again: lets parked steps go, twice as many each time"
        case BreakerState.CLOSED:
            return "closed"
        case BreakerState.HALF_OPEN if breaker.trial is None:
            return f"half-open since {_clock(breaker.since)}: the next step tries"
        case BreakerState.HALF_OPEN:
            return f"half-open since {_clock(breaker.since)}: one step tries"
        case BreakerState.OPEN if breaker.held:
            return f"open since {_clock(breaker.since)}, until somebody closes it"
        case BreakerState.OPEN:
            return f"open since {_clock(breaker.since)}, next trial at {_clock(breaker.trial_at)}"


def _sentence(row: Parking, breaker: Breaker | None) -> str:
    if row.gate == Gate.PROFILE.value:
        return f"parked: waits for a profile of {row.name} since {_clock(row.since)}"
    return f"parked: {row.name} is {standing(breaker) if breaker else 'forgotten'}"


def _clock(moment: datetime | None) -> str:
    return f"{localtime(moment):%Y-%m-%d %H:%M:%S}" if moment else "an unknown time"


def _one(environment: str, name: str) -> Breaker:
    row = guards(environment=environment).filter(name=name).first()
    if row is None:
        raise MissingError("guard", f"{name} in the environment {environment}")
    return row


def _document(row: Breaker, parked: int) -> GuardDocument:
    return {
        "environment": row.environment.name,
        "name": row.name,
        "state": row.state,
        "standing": standing(row),
        "why": row.why,
        "since": json_time_or_none(row.since),
        "next_trial_at": json_time_or_none(row.trial_at),
        "held_by_hand": row.held,
        "recent_failures": len(row.failures),
        "parked_steps": parked,
        "threshold": row.threshold,
        "window": row.window,
        "cool_down": row.cool_down,
        "longest_cool_down": row.longest_cool_down,
    }


def _parked_document(row: Parking) -> ParkedDocument:
    return {
        "run": str(row.run_id),
        "path": row.path,
        "attempt": row.attempt,
        "since": json_time(row.since),
    }
