"""Fork a run: start another at one of its steps, which takes over what that step follows."""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q

from workflows import store
from workflows.engine import forking
from workflows.engine.events import Forked
from workflows.engine.plan import Plan
from workflows.language.words import StepKind
from workflows.models import Run, runs_with_names
from workflows.services import concurrency
from workflows.services.errors import (
    IdempotencyMismatchError,
    NotFoundError,
    StateRefusedError,
)
from workflows.services.flights import in_transaction
from workflows.services.orders import Checked, Order, check_order
from workflows.services.patience import patiently
from workflows.services.plans import plan_of_version
from workflows.services.progress import advance_run, begin_runs
from workflows.services.runs import StartedRun
from workflows.services.sending import send_queued
from workflows.store import forking as rows


def fork_run(  # noqa: PLR0913 - the facts of a fork, by name
    *,
    run_id: UUID,
    from_path: str,
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the language's own word
    version: int | None = None,
    idempotency_key: str | None = None,
    by: str,
) -> StartedRun:
    """Start a run from a step of another, which may be in any state and stays as it is.

    The steps before it are taken over as they have ended, with their outputs; it and all behind
    it are done anew, with another input or in another version if one is given.
    Raises NotFoundError, InputRefusedError, EnvironmentClosedError, StateRefusedError and
    IdempotencyMismatchError.
    """
    found = runs_with_names()
    old = patiently(found.filter(pk=run_id).first)
    if old is None:
        raise NotFoundError("run", run_id)
    order = Order(
        workflow=old.workflow.name,
        input=old.input if input is None else input,
        environment=old.environment.name,
        version=old.version.number if version is None else version,
        idempotency_key=idempotency_key,
        forked_from=old.pk,
        forked_path=from_path,
    )
    one = check_order(order)
    in_transaction(partial(_fork, old, one, from_path, by))
    run = patiently(partial(found.get, _there(one)))
    asked = [(run.forked_from_id, old.pk), (run.forked_path, from_path)]
    asked += [] if input is None else [(run.input, one.input)]
    asked += [] if version is None else [(run.version_id, one.version.pk)]
    if any(has != wanted for has, wanted in asked):
        message = f"The key {idempotency_key} was used to start the run {run.pk}. Use a new key."
        raise IdempotencyMismatchError(message)
    return StartedRun(run, created=run.pk == one.id)


def _there(one: Checked) -> Q:
    """Find the run by the id that was chosen for it, or that which its key was used for."""
    there = Q(pk=one.id)
    if key := one.order.idempotency_key:
        there |= Q(workflow=one.version.workflow_id, idempotency_key=key)
    return there


def _fork(old: Run, one: Checked, path: str, by: str) -> None:
    """Start the run, unless it is there: by a try that nobody heard of, or for the same reason."""
    now = store.now()
    concurrency.hold_for_one(one.beginning)
    if (there := Run.objects.filter(_there(one)).values_list("pk", flat=True).first()) is not None:
        if there == one.id:
            send_queued(one.beginning.pinned, one.environment.name)
        return
    concurrency.demand_place(one.beginning)
    before = plan_of_version(old.version_id)
    try:
        scopes = forking.scopes_around(one.plan, path)
        tops = forking.taken(before, one.plan, rows.rows_of_scopes(old.pk, scopes), path)
    except forking.ForkError as error:
        raise StateRefusedError(str(error)) from error
    [is_new] = begin_runs([one.beginning], now=now, actor=by)
    if is_new:
        _take_over(old, before, one, tops)
        _begin(one, path, now, by)


def _take_over(old: Run, before: Plan, one: Checked, tops: tuple[str, ...]) -> None:
    nodes = {
        node.index: known.index
        for node in before.nodes
        if (known := one.plan.by_path.get(node.path)) is not None and known.kind is node.kind
    }
    sets = [node.index for node in one.plan.nodes if node.kind is StepKind.SET]
    rows.take_over(old.pk, one.id, tops, nodes, sets)


def _begin(one: Checked, path: str, now: datetime, by: str) -> None:
    progress = advance_run(one.beginning.pinned, Forked(path), now=now, actor=by)
    if not progress.decision.born:
        raise AssertionError(f"a fork at {path} has nothing to do")
