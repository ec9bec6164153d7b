"""Build stored runs, and do to them what workers do: claim, finish, fail, be silent."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Thread
from typing import Any

from django.db import connection
from django.utils import timezone

from workflows.engine.events import Failed, StepError, Succeeded
from workflows.language.words import ErrorClass
from workflows.models import Incident, Journal, Run, Step, Version
from workflows.services.claiming import claim_any_step, claim_step
from workflows.services.definitions import apply_definition
from workflows.services.plans import pinned
from workflows.services.recording import record_outcome
from workflows.services.runs import start_run
from workflows.services.work import Taker, Work

ANN = "person:ann"
QUEUE = "env.default.default"
TAKER = Taker("worker-1", QUEUE)
LEASE = timedelta(seconds=30)
_names = count(1)


def task(name: str, uses: str = "log", **keys: Any) -> dict[str, Any]:
    """Return a step that a worker carries out."""
    usual = {"with": {"message": name}} if uses == "log" else {}
    return {"id": name, "uses": uses, **usual, **keys}


def a_version(*steps: Mapping[str, Any], **document: Any) -> Version:
    """Apply a definition of the steps, under a name of its own."""
    spec = {"workflow": f"test-{next(_names)}", "steps": list(steps), **document}
    return apply_definition(text=json.dumps(spec), source="test.yaml", by=ANN).version


def a_run(*steps: Mapping[str, Any], **document: Any) -> Run:
    """Start a run of the steps."""
    return start_run(workflow=a_version(*steps, **document).workflow.name, by=ANN).run


def claim(
    run: Run, path: str, attempt: int = 1, *, taker: Taker = TAKER, now: datetime | None = None
) -> Work | None:
    """Have a worker take the attempt."""
    return claim_step(
        pin=pinned(run.pk),
        path=path,
        attempt=attempt,
        taker=taker,
        now=now or timezone.now(),
    )


def claimed(run: Run, path: str, attempt: int = 1, **facts: Any) -> Work:
    """Have a worker take the attempt, which nobody has."""
    work = claim(run, path, attempt, **facts)
    assert work is not None, f"{path} {attempt} could not be claimed: {states(run)}"
    return work


def any_claimed(run: Run, taker: Taker = TAKER) -> Work | None:
    """Have a worker take any queued step of the scope that it is a taker of, or of the root."""
    return claim_any_step(pin=pinned(run.pk), taker=taker, now=timezone.now())


def finish(work: Work, output: Any = None, *, run_on: bool = False, **facts: Any) -> Work | None:
    """Have the worker say that the attempt ended well."""
    return _record(work, Succeeded(work.path, work.attempt, output), run_on=run_on, **facts)


def fail(
    work: Work, error_class: str = "permanent", *, run_on: bool = False, **facts: Any
) -> Work | None:
    """Have the worker say that the attempt ended badly."""
    error = StepError(ErrorClass(error_class), "test.broken", "It broke.")
    return _record(work, Failed(work.path, work.attempt, error), run_on=run_on, **facts)


def _record(
    work: Work,
    outcome: Succeeded | Failed,
    *,
    run_on: bool,
    taker: Taker = TAKER,
    now: datetime | None = None,
) -> Work | None:
    following = record_outcome(
        work=work, outcome=outcome, taker=taker, run_on=run_on, now=now or timezone.now()
    )
    return next(iter(following), None)


def work_off(run: Run) -> None:
    """Have a worker carry out whatever is queued of the run, well."""
    queued = Step.objects.filter(run=run, state="QUEUED").order_by("node")
    while (found := queued.first()) is not None:
        finish(claimed(run, found.path, found.attempt))


def in_future(seconds: float) -> datetime:
    """Return the time that many seconds from now."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


def state(run: Run) -> str:
    """Return where the run stands."""
    return Run.objects.values_list("state", flat=True).get(pk=run.pk)


def states(run: Run) -> dict[str, str]:
    """Return where each step of the run stands."""
    return dict(Step.objects.filter(run=run).values_list("path", "state"))


def step(run: Run, path: str) -> Step:
    """Return a step's row."""
    return Step.objects.get(run=run, path=path)


def ends(run: Run, path: str) -> list[tuple[int, str]]:
    """Return the number and the end of each attempt at a step."""
    return list(step(run, path).attempts.order_by("number").values_list("number", "end"))


def journal(run: Run, path: str | None = None) -> list[tuple[str, str, str]]:
    """Return the transitions of a run in their order, of all paths or of one."""
    lines = Journal.objects.filter(run=run).order_by("id")
    if path is not None:
        lines = lines.filter(path=path)
    return list(lines.values_list("path", "before", "after"))


def open_incidents(run: Run) -> list[Incident]:
    """Return what needs a person."""
    return list(Incident.objects.filter(run=run, resolution="").order_by("id"))


def everything(run: Run) -> tuple[Any, ...]:
    """Return all that is stored about a run, to see that nothing changed."""
    return (
        Run.objects.filter(pk=run.pk).values().get(),
        list(Step.objects.filter(run=run).order_by("path").values()),
        list(run.attempts.order_by("id").values()),
        list(run.incidents.order_by("id").values()),
        list(run.journal.order_by("id").values()),
    )


def sql(statement: str, *values: Any) -> int:
    """Do what somebody at a SQL console might, and return how many rows it met."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.rowcount


def set_due(run: Run, path: str) -> None:
    """Have the time come that a step waits for."""
    met = sql(
        "UPDATE workflows_step SET wake_at = now() - interval '1 s'"
        " WHERE run_id = %s AND path = %s AND wake_at IS NOT NULL",
        run.pk,
        path,
    )
    assert met == 1


@contextmanager
def meanwhile(work: Callable[[], Any]) -> Iterator[Thread]:
    """Have another connection do the work at the same time; its trouble is the test's."""
    trouble: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test below
            trouble.append(error)
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    yield thread
    thread.join(timeout=30)
    assert not thread.is_alive(), "the other connection never came through"
    if trouble:
        raise trouble[0]


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Do each work on a connection of its own, all at the same time; return what they return."""
    results: list[Any] = [None] * len(works)

    def keep(place: int, work: Callable[[], Any]) -> None:
        results[place] = work()

    threads = [meanwhile(lambda place=n, work=w: keep(place, work)) for n, w in enumerate(works)]
    for thread in threads:
        thread.__enter__()
    for thread in threads:
        thread.__exit__(None, None, None)
    return results
