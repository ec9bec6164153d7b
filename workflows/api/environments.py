"""Environments, as far as those who start runs want to know."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import PageQuery
from workflows.selectors.environments import get_environment, list_environments
from workflows.selectors.shapes import EnvironmentDocument, PageDocument


class Environments(Door):
    """All environments."""

    needs = {"GET": "environments.view_environment"}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_environments", responses=PageDocument[EnvironmentDocument])
    def get(self, request: Request) -> Response:
        """List environments by name."""
        return self.page(list_environments(**self.asked.page))


class OneEnvironment(Door):
    """An environment."""

    needs = {"GET": "environments.view_environment"}

    @extend_schema(operation_id="show_environment", responses=EnvironmentDocument)
    def get(self, request: Request, name: str) -> Response:
        """Show an environment, its queues and the work that is in it."""
        return Response(get_environment(name))
