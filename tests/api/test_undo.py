"""Undoing a run by REST: look first, then do it."""

import pytest

from tests.admin.builders import started, worked_off
from tests.api.builders import API, a_client, problem_of
from workflows.engine.events import StepError
from workflows.language.words import ErrorClass
from workflows.models import Run

pytestmark = pytest.mark.django_db

ORDER = """
workflow: order
retry: {max_attempts: 1}
steps:
  - {id: charge, uses: log, with: {message: charge}, compensate: {uses: log, with: {message: back}}}
  - {id: ship, uses: log, with: {message: ship}}
"""
BROKEN = StepError(ErrorClass.PERMANENT, "http.404", "It is not there.")


def a_failed_order() -> Run:
    return worked_off(started(ORDER).pk, {"ship": BROKEN})


def test_what_an_undo_would_do_is_shown() -> None:
    run = a_failed_order()

    found = a_client("view_run").get(f"{API}/runs/{run.pk}/undo/").json()

    assert [(step["path"], step["arguments"]) for step in found["undone"]] == [
        ("charge", {"message": "back"})
    ]
    assert found["refused"] is None


def test_a_failed_run_is_undone() -> None:
    run = a_failed_order()

    answer = a_client("compensate_run").post(f"{API}/runs/{run.pk}/undo/").json()

    assert answer["state"] == "COMPENSATING"
    assert worked_off(run.pk).state == "COMPENSATED"


def test_a_run_that_cannot_be_undone_is_a_conflict() -> None:
    run = started(ORDER)

    refused = a_client("compensate_run").post(f"{API}/runs/{run.pk}/undo/")

    assert "is RUNNING and cannot be undone" in problem_of(refused, 409)["detail"]


def test_a_run_is_cancelled_and_undone() -> None:
    run = worked_off(started(ORDER).pk, steps=1)
    client = a_client("cancel_run", "compensate_run")

    answer = client.post(f"{API}/runs/{run.pk}/cancel/", {"compensate": True}).json()

    assert answer["state"] == "COMPENSATING"


def test_whoever_may_only_cancel_has_nothing_undone() -> None:
    run = worked_off(started(ORDER).pk, steps=1)

    refused = a_client("cancel_run").post(f"{API}/runs/{run.pk}/cancel/", {"compensate": True})

    assert "workflows.compensate_run" in problem_of(refused, 403)["detail"]
    assert Run.objects.get(pk=run.pk).state == "RUNNING"
