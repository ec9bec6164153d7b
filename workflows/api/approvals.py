"""Approvals: list the requests, show one, decide on it, hand a vote on.

These doors are open to all who are known: whom a request concerns may see it, and the members of
its group decide. Who may see all requests has the permission to view approvals.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from workflows.api.door import Door
from workflows.api.forms import (
    ApprovalQuery,
    DecideManyOrder,
    DecideOrder,
    HandOrder,
    NoForm,
    PageQuery,
    SpanOrder,
)
from workflows.api.shapes import ReportDocument, report_document
from workflows.models import Verdict
from workflows.selectors.approvals import (
    ApprovalFilter,
    approval_document,
    approvals,
    delegation_document,
    get_approval,
    list_approvals,
    list_delegations,
)
from workflows.selectors.shapes import (
    ApprovalDocument,
    ApprovalSummary,
    DelegationDocument,
    PageDocument,
)
from workflows.services.approvals import (
    Said,
    decide,
    decide_many,
    delegate,
    delegate_for_a_time,
    withdraw,
)

OPEN = {"true": True, "false": False, "any": None}
SEE_ALL = "workflows.view_approval"


class Approvals(Door):
    """All requests for a decision."""

    needs = {"GET": None}
    query = {"GET": ApprovalQuery}

    @extend_schema(operation_id="list_approvals", responses=PageDocument[ApprovalSummary])
    def get(self, request: Request) -> Response:
        """List the requests that concern who asks, or all, to whom may see them.

        Open ones unless asked otherwise, the oldest first; with `mine`, those that they can
        decide on.
        """
        wanted, person = dict(self.asked.where), _person(request)
        mine = wanted.pop("mine")
        where = ApprovalFilter(
            **{**wanted, "open": OPEN[wanted["open"]]},
            seen_by=None if person.has_perm(SEE_ALL) else person,
            decided_by=person if mine else None,
        )
        return self.page(list_approvals(where, now=timezone.now(), **self.asked.page))


class OneApproval(Door):
    """A request for a decision."""

    needs = {"GET": None}

    @extend_schema(operation_id="show_approval", responses=ApprovalDocument)
    def get(self, request: Request, approval_id: UUID) -> Response:
        """Show a request: what is asked, the form, the run's input, who has said what."""
        return Response(_seen(_person(request), approval_id))


class DecideApproval(Door):
    """Say yes or no."""

    needs = {"POST": None}

    @extend_schema(operation_id="decide_approval", request=DecideOrder, responses=ApprovalDocument)
    def post(self, request: Request, approval_id: UUID) -> Response:
        """Approve or reject, as a member of the group or in the place of one."""
        given, person = self.body(DecideOrder), _person(request)
        _seen(person, approval_id)
        decide(approval_id=approval_id, person=person, said=_said(given), by=self.actor)
        return Response(approval_document(get_approval(approval_id)))


class DecideApprovals(Door):
    """Say yes or no to several requests."""

    needs = {"POST": None}

    @extend_schema(
        operation_id="decide_approvals", request=DecideManyOrder, responses=ReportDocument
    )
    def post(self, request: Request) -> Response:
        """Say the same to up to a page of requests, each decided and refused by itself."""
        given = self.body(DecideManyOrder)
        asked = dict.fromkeys(given["approvals"])
        report = decide_many(
            approval_ids=asked, person=_person(request), said=_said(given), by=self.actor
        )
        return Response(report_document(report))


class HandApproval(Door):
    """Hand a vote on."""

    needs = {"POST": None}

    @extend_schema(
        operation_id="hand_approval", request=HandOrder, responses={201: DelegationDocument}
    )
    def post(self, request: Request, approval_id: UUID) -> Response:
        """Have somebody else decide on this request in the place of who asks."""
        given, person = self.body(HandOrder), _person(request)
        _seen(person, approval_id)
        made = delegate(approval_id=approval_id, person=person, **given, by=self.actor)
        return Response(delegation_document(made), status=201)


class Delegations(Door):
    """The votes that who asks has handed on, or was handed."""

    needs = {"GET": None, "POST": None}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_delegations", responses=PageDocument[DelegationDocument])
    def get(self, request: Request) -> Response:
        """List them, the newest first."""
        return self.page(list_delegations(_person(request), **self.asked.page))

    @extend_schema(
        operation_id="create_delegation", request=SpanOrder, responses={201: DelegationDocument}
    )
    def post(self, request: Request) -> Response:
        """Hand all one's votes to somebody else for a span of time."""
        given = self.body(SpanOrder)
        made = delegate_for_a_time(person=_person(request), **given, by=self.actor)
        return Response(delegation_document(made), status=201)


class OneDelegation(Door):
    """A vote that was handed on."""

    needs = {"DELETE": None}

    @extend_schema(operation_id="withdraw_delegation", request=NoForm, responses=DelegationDocument)
    def delete(self, request: Request, delegation_id: UUID) -> Response:
        """Take it back. What was decided with it stands."""
        taken = withdraw(delegation_id=delegation_id, person=_person(request), by=self.actor)
        return Response(delegation_document(taken))


def _said(given: Mapping[str, Any]) -> Said:
    return Said(Verdict(given["verdict"]), given.get("note", ""), given.get("form"))


def _person(request: Request) -> User:
    """Return who asks."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def _seen(person: User, approval_id: UUID) -> ApprovalDocument:
    """Return a request, if it concerns the person or they may see all of them."""
    found = get_approval(approval_id)
    if not person.has_perm(SEE_ALL):
        theirs = approvals(ApprovalFilter(open=None, seen_by=person), now=timezone.now())
        if not theirs.filter(pk=approval_id).exists():
            raise PermissionDenied(
                f"The request is for the group {found.name}; you are no member of it."
            )
    return approval_document(found)
