"""Guards: where they stand, what is parked before them, and opening and closing them by hand."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import GuardOrder, GuardQuery, PageQuery
from workflows.selectors.guards import get_guard, list_guards, list_parked
from workflows.selectors.shapes import GuardDocument, PageDocument, ParkedDocument
from workflows.services.guards import close_guard, open_guard


class Guards(Door):
    """All guards."""

    needs = {"GET": "workflows.view_breaker"}
    query = {"GET": GuardQuery}

    @extend_schema(operation_id="list_guards", responses=PageDocument[GuardDocument])
    def get(self, request: Request) -> Response:
        """List guards by environment and name. One appears with its first failure."""
        return self.page(list_guards(**self.asked.where, **self.asked.page))


class OneGuard(Door):
    """A guard."""

    needs = {"GET": "workflows.view_breaker"}

    @extend_schema(operation_id="show_guard", responses=GuardDocument)
    def get(self, request: Request, environment: str, name: str) -> Response:
        """Show a guard of an environment."""
        return Response(get_guard(environment, name))


class ParkedSteps(Door):
    """The steps that are parked before a guard."""

    needs = {"GET": "workflows.view_breaker"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_parked_steps", responses=PageDocument[ParkedDocument])
    def get(self, request: Request, environment: str, name: str) -> Response:
        """List the steps that are parked before a guard, in the order they will be let go in."""
        return self.page(list_parked(environment, name, **self.asked.page))


class OpenGuard(Door):
    """Open a guard by hand."""

    needs = {"POST": "workflows.operate_breaker"}

    @extend_schema(operation_id="open_guard", request=GuardOrder, responses=GuardDocument)
    def post(self, request: Request, environment: str, name: str) -> Response:
        """Have the guard's steps parked until somebody closes it."""
        order = self.body(GuardOrder)
        open_guard(environment=environment, guard=name, why=order["why"], by=self.actor)
        return Response(get_guard(environment, name))


class CloseGuard(Door):
    """Close a guard by hand."""

    needs = {"POST": "workflows.operate_breaker"}

    @extend_schema(operation_id="close_guard", request=GuardOrder, responses=GuardDocument)
    def post(self, request: Request, environment: str, name: str) -> Response:
        """Let the guard's steps go, a few at a time."""
        order = self.body(GuardOrder)
        close_guard(environment=environment, guard=name, why=order["why"], by=self.actor)
        return Response(get_guard(environment, name))
