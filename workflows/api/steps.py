"""What is inside a run: its steps, the tries at them, its journal."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import OPEN, JournalQuery, PageQuery, StepQuery, WaitQuery
from workflows.selectors.shapes import (
    AttemptDocument,
    JournalLine,
    PageDocument,
    StepDocument,
    WaitDocument,
)
from workflows.selectors.steps import (
    get_step,
    list_attempts,
    list_journal,
    list_steps,
    step_document,
)
from workflows.selectors.waits import list_waits


class Steps(Door):
    """The steps of a run."""

    needs = {"GET": "workflows.view_run"}
    query = {"GET": StepQuery}

    @extend_schema(operation_id="list_steps", responses=PageDocument[StepDocument])
    def get(self, request: Request, run_id: UUID) -> Response:
        """List the steps of a run in the order of its definition."""
        return self.page(list_steps(run_id, **self.asked.where, **self.asked.page))


class OneStep(Door):
    """A step of a run."""

    needs = {"GET": "workflows.view_run"}

    @extend_schema(operation_id="show_step", responses=StepDocument)
    def get(self, request: Request, run_id: UUID, path: str) -> Response:
        """Show a step of a run."""
        return Response(step_document(get_step(run_id, path)))


class Attempts(Door):
    """The tries at a step."""

    needs = {"GET": "workflows.view_run"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_attempts", responses=PageDocument[AttemptDocument])
    def get(self, request: Request, run_id: UUID, path: str) -> Response:
        """List the tries at a step that are over, the first one first."""
        return self.page(list_attempts(run_id, path, **self.asked.page))


class Waits(Door):
    """What the steps of a run wait for."""

    needs = {"GET": "workflows.view_run"}
    query = {"GET": WaitQuery}

    @extend_schema(operation_id="list_waits", responses=PageDocument[WaitDocument])
    def get(self, request: Request, run_id: UUID) -> Response:
        """List what steps of a run wait for from outside: since when, until when, and for what."""
        is_open = OPEN[self.asked.where["open"]]
        return self.page(list_waits(run_id, is_open=is_open, **self.asked.page))


class JournalOfRun(Door):
    """The journal of a run."""

    needs = {"GET": "workflows.view_run"}
    query = {"GET": JournalQuery}

    @extend_schema(operation_id="list_journal", responses=PageDocument[JournalLine])
    def get(self, request: Request, run_id: UUID) -> Response:
        """List every transition of a run and its steps with its actor, the oldest first."""
        return self.page(list_journal(run_id, **self.asked.where, **self.asked.page))
