"""What all doors have in common: who may pass, what may be asked, how lists are answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from django.utils.functional import cached_property
from rest_framework.exceptions import NotFound
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from workflows.api.auth import actor_of
from workflows.api.forms import Form, NoForm, read, read_query
from workflows.selectors.paging import Page

Row = TypeVar("Row")

PAGE_KEYS: tuple[str, ...] = ("after", "limit")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the query asks for: which rows, and which page of them."""

    where: Mapping[str, Any] = field(default_factory=dict)
    page: Mapping[str, Any] = field(default_factory=dict)


class MayPass(BasePermission):
    """Lets those in who have the permission that the door names for the method."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Say whether the user has it; a method without a handler is refused later, as unknown."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        needed = view.needs.get(method) if isinstance(view, Door) else None
        self.message = f"You need the permission {needed}."
        return needed is None or request.user.has_perm(needed)


class Door(APIView):
    """An address. `needs` has the permission of each method, None for anyone who is known."""

    permission_classes = [IsAuthenticated, MayPass]
    needs: ClassVar[Mapping[str, str | None]]
    query: ClassVar[Mapping[str, type[Form]]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse who may not pass and what may not be asked, before any work is done."""
        super().initial(request, *args, **kwargs)
        asked = read_query(self.query.get(str(request.method), NoForm), request)
        page = {key: asked.pop(key) for key in PAGE_KEYS if key in asked}
        self.asked = Asked(asked, page)

    @cached_property
    def actor(self) -> str:
        """The name of who is asking."""
        return actor_of(self.request)

    def body(self, form: type[Form]) -> dict[str, Any]:
        """Return what the form takes from the body."""
        return read(form, self.request.data)

    def page(self, page: Page[Row]) -> Response:
        """Answer with a page of a list."""
        here = self.request.build_absolute_uri()
        following = replace_query_param(here, "cursor", page.next) if page.next else None
        return Response({"next": following, "results": page.rows})


class Nowhere(Door):
    """Any address that no other door has."""

    needs: ClassVar[Mapping[str, str | None]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Say that there is nothing, to those who are known."""
        super(Door, self).initial(request, *args, **kwargs)
        raise NotFound(f"There is nothing at {request.path}.")
