"""Rows that people operate by hand, each with a reason: buttons above the form that ask first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, reverse

from environments.admin import MovingAdmin
from workflows.admin.base import ReadOnlyAdmin
from workflows.admin.confirming import confirm_one
from workflows.admin.operations import Button, Operation

Act = Callable[[Any, Mapping[str, Any], str], object]
"""Does something to a row: what was filled in, and the actor."""


class OperatedAdmin(MovingAdmin, ReadOnlyAdmin):
    """A list of rows whose pages offer the operations that their state allows."""

    acts: ClassVar[Mapping[str, tuple[Operation, Act]]]

    def offered(self, row: Any) -> Sequence[Operation]:
        """Return what may be done to a row as it stands."""
        raise NotImplementedError

    def moves_of(self, row: Any, request: HttpRequest) -> list[Button]:
        """Return the buttons for what the person may do."""
        return [
            Button(one.label, self._address("operate", row.pk, one.name), one.icon, one.tone)
            for one in self.offered(row)
            if request.user.has_perm(one.permission)
        ]

    def get_urls(self) -> list[URLPattern]:
        operate = self.page("<int:pk>/operate/<slug:name>/", self.operate, "operate")
        return [operate, *super().get_urls()]

    def operate(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """Ask, then do it."""
        row = self.get_object(request, str(pk))
        if row is None or name not in self.acts:
            what = self.opts.verbose_name
            raise Http404(f"There is no {what} {pk}, or nothing called {name} to do to it.")
        operation, act = self.acts[name]

        def do(_: UUID, given: Mapping[str, Any], by: str) -> object:
            return act(row, given, by)

        return confirm_one(
            self,
            request,
            replace(operation, do=do),
            pk=UUID(int=pk),
            subject=self.title_of(row),
            back=self._address("change", pk),
        )

    def _address(self, name: str, *arguments: object) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=arguments)
