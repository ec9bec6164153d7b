"""Runs: list, start, show, hold, let go on, end, replay."""

from typing import Any
from uuid import UUID

from django.urls import reverse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import (
    MAX_KEY,
    BulkOrder,
    CancelOrder,
    DocumentQuery,
    ForkOrder,
    KeyHeader,
    NoForm,
    RunQuery,
    StartOrder,
    UndoQuery,
    read,
)
from workflows.api.shapes import BulkDocument, ReportDocument
from workflows.selectors.runs import RunFilter, get_run, list_runs, run_document, run_facts
from workflows.selectors.shapes import PageDocument, RunDocument, RunSummary, UndoDocument
from workflows.selectors.undoing import undo_preview
from workflows.services.errors import StateRefusedError
from workflows.services.forking import fork_run
from workflows.services.incidents import replay_run
from workflows.services.orders import Order
from workflows.services.runs import (
    RefusedOrder,
    StartedRun,
    cancel_run,
    compensate_run,
    pause_run,
    resume_run,
    start_run,
    start_runs,
)

MAY_UNDO = "workflows.compensate_run"

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY},
    OpenApiParameter.HEADER,
    description="A start sent again with the same key and input gives the run that there is.",
)


class Runs(Door):
    """All runs."""

    needs = {"GET": "workflows.view_run", "POST": "workflows.start_workflow"}
    query = {"GET": RunQuery}

    @extend_schema(operation_id="list_runs", responses=PageDocument[RunSummary])
    def get(self, request: Request) -> Response:
        """List runs, the newest first."""
        return self.page(list_runs(RunFilter(**self.asked.where), **self.asked.page))

    @extend_schema(
        operation_id="start_run",
        parameters=[IDEMPOTENCY_KEY],
        request=StartOrder,
        responses={201: RunDocument, 200: RunDocument},
    )
    def post(self, request: Request) -> Response:
        """Start a run: 201 for a new one, 200 for the one that its key has started before."""
        started = start_run(**self.body(StartOrder), **_key_of(request), by=self.actor)
        run = get_run(started.run.pk)
        address = request.build_absolute_uri(reverse("api:run", args=[run.pk]))
        status = 201 if started.created else 200
        return Response(run_document(run), status=status, headers={"Location": address})


class BulkRuns(Door):
    """Many runs at once."""

    needs = {"POST": "workflows.start_workflow"}

    @extend_schema(
        operation_id="start_runs",
        request=BulkOrder,
        responses={201: BulkDocument, 200: BulkDocument},
    )
    def post(self, request: Request) -> Response:
        """Start up to 1,000 runs, each with a key of its own: 201 if any of them is new.

        An order whose key was used with another input is refused by itself; see each one's
        `refused`.
        """
        if _key_of(request):
            raise ValidationError({"Idempotency-Key": ["Give each run its `idempotency_key`."]})
        orders = [Order(**order) for order in self.body(BulkOrder)["runs"]]
        started = start_runs(orders=orders, by=self.actor)
        runs = [
            _refused(one) if isinstance(one, RefusedOrder) else _started(one) for one in started
        ]
        created = sum(one["created"] for one in runs)
        refused = sum(one["refused"] is not None for one in runs)
        answer = {"created": created, "refused": refused, "runs": runs}
        return Response(answer, status=201 if created else 200)


class OneRun(Door):
    """A run."""

    needs = {"GET": "workflows.view_run"}
    query = {"GET": DocumentQuery}

    @extend_schema(operation_id="show_run", responses=RunDocument)
    def get(self, request: Request, run_id: UUID) -> Response:
        """Show a run and its steps; with `steps=false` the run alone, for polling."""
        run = get_run(run_id)
        return Response(run_document(run) if self.asked.where["steps"] else run_facts(run))


class PauseRun(Door):
    """Hold a run."""

    needs = {"POST": "workflows.pause_run"}

    @extend_schema(operation_id="pause_run", request=NoForm, responses=RunDocument)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Hold a run: what a worker has begun is finished, nothing else is started."""
        self.body(NoForm)
        pause_run(run_id=run_id, by=self.actor)
        return Response(run_document(get_run(run_id)))


class ResumeRun(Door):
    """Let a paused run go on."""

    needs = {"POST": "workflows.pause_run"}

    @extend_schema(operation_id="resume_run", request=NoForm, responses=RunDocument)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Let a paused run go on."""
        self.body(NoForm)
        resume_run(run_id=run_id, by=self.actor)
        return Response(run_document(get_run(run_id)))


class CancelRun(Door):
    """End a run."""

    needs = {"POST": "workflows.cancel_run"}

    @extend_schema(operation_id="cancel_run", request=CancelOrder, responses=RunDocument)
    def post(self, request: Request, run_id: UUID) -> Response:
        """End a run: at once what no worker holds, the rest when its worker lets go.

        With `compensate`, what it has done is then undone, which needs `compensate_run` too.
        """
        order = self.body(CancelOrder)
        if order["compensate"] and not request.user.has_perm(MAY_UNDO):
            raise PermissionDenied(f"You need the permission {MAY_UNDO} to have a run undone.")
        cancel_run(run_id=run_id, **order, by=self.actor)
        return Response(run_document(get_run(run_id)))


class UndoRun(Door):
    """Undo what a run has done."""

    needs = {"GET": "workflows.view_run", "POST": MAY_UNDO}
    query = {"GET": UndoQuery}

    @extend_schema(operation_id="preview_undo", responses=UndoDocument)
    def get(self, request: Request, run_id: UUID) -> Response:
        """Show what it would do to undo a run now, step by step, and what would remain."""
        return Response(undo_preview(run_id, **self.asked.page))

    @extend_schema(operation_id="undo_run", request=NoForm, responses=RunDocument)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Undo what a failed run has done: each step that says how, the last one first."""
        self.body(NoForm)
        compensate_run(run_id=run_id, by=self.actor)
        return Response(run_document(get_run(run_id)))


class ReplayRun(Door):
    """Replay what failed in a run."""

    needs = {"POST": "workflows.replay_incident"}

    @extend_schema(operation_id="replay_run", request=NoForm, responses=ReportDocument)
    def post(self, request: Request, run_id: UUID) -> Response:
        """Replay every open incident of a run; completed steps are not done again."""
        self.body(NoForm)
        report = replay_run(run_id=run_id, by=self.actor)
        if not report.done:
            raise StateRefusedError(report.sentence())
        refused = [{"id": str(one.id), "why": one.why} for one in report.refused]
        done = [str(one) for one in report.done]
        return Response({"sentence": report.sentence(), "done": done, "refused": refused})


class ForkRun(Door):
    """Start a run from a step of another."""

    needs = {"POST": "workflows.start_workflow"}

    @extend_schema(
        operation_id="fork_run",
        parameters=[IDEMPOTENCY_KEY],
        request=ForkOrder,
        responses={201: RunDocument, 200: RunDocument},
    )
    def post(self, request: Request, run_id: UUID) -> Response:
        """Start a run at a step of this one: what comes before is taken over, the rest done anew.

        201 for a new one, 200 for the one that its key has started before.
        """
        order = self.body(ForkOrder)
        path = order.pop("path")
        forked = fork_run(run_id=run_id, from_path=path, **order, **_key_of(request), by=self.actor)
        run = get_run(forked.run.pk)
        address = request.build_absolute_uri(reverse("api:run", args=[run.pk]))
        status = 201 if forked.created else 200
        return Response(run_document(run), status=status, headers={"Location": address})


def _key_of(request: Request) -> dict[str, Any]:
    key = request.headers.get("Idempotency-Key")
    return {} if key is None else read(KeyHeader, {"idempotency_key": key})


def _started(one: StartedRun) -> dict[str, Any]:
    return {
        "id": str(one.run.pk),
        "workflow": one.run.workflow.name,
        "state": one.run.state,
        "created": one.created,
        "refused": None,
    }


def _refused(one: RefusedOrder) -> dict[str, Any]:
    return {
        "id": None,
        "workflow": one.order.workflow,
        "state": None,
        "created": False,
        "refused": str(one.error),
    }
