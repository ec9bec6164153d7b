"""Votes that were handed on: the list of them, handing all on for a time, taking back."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from workflows.admin.base import CreatedFilter, ReadOnlyAdmin, uuid_or_404
from workflows.admin.confirming import confirm_one
from workflows.admin.deciding import HandForm, person_of
from workflows.admin.operations import Operation
from workflows.models import Delegation
from workflows.selectors.approvals import delegations, may_have_any
from workflows.services.approvals import delegate_for_a_time, withdraw


class SpanForm(HandForm):
    """To whom all votes are handed, and for how long."""

    begins_at = forms.DateTimeField(
        label="From",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="UTC. Nothing: at once.",
    )
    ends_at = forms.DateTimeField(
        label="Until",
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="UTC.",
    )
    field_order = ("to", "begins_at", "ends_at", "note")


@admin.register(Delegation)
class DelegationAdmin(ReadOnlyAdmin):
    list_display = ("from_whom", "to_whom", "what", "begins_at", "until", "given", "state")
    list_display_links = None
    list_filter = (CreatedFilter,)
    ordering = ("-id",)
    sortable_by = ()
    actions = None
    nothing = "Votes that somebody has handed to somebody else, on one request or for a time."
    list_before_template = "workflows/delegations_head.html"

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those in who may see all of them, and those who may have some of their own."""
        user = request.user
        if user.has_perm("workflows.view_delegation"):
            return True
        return isinstance(user, User) and user.is_active and may_have_any(user, now=timezone.now())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delegation]:
        if request.user.has_perm("workflows.view_delegation"):
            return Delegation.objects.all()
        return delegations(person_of(request))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        own = Q(giver=person_of(request).pk, withdrawn_at__isnull=True)
        open_ones = Q(ends_at__gt=timezone.now()) | Q(
            wait__closed_at__isnull=True, wait__isnull=False
        )
        mine = Delegation.objects.filter(own & open_ones).select_related("wait").order_by("id")[:20]
        return super().changelist_view(request, {**(extra_context or {}), "mine": mine})

    @admin.display(description="From")
    def from_whom(self, delegation: Delegation) -> str:
        return delegation.giver_name

    @admin.display(description="To")
    def to_whom(self, delegation: Delegation) -> str:
        return delegation.taker_name

    @admin.display(description="Given by")
    def given(self, delegation: Delegation) -> str:
        return delegation.given_by.removeprefix("person:")

    @admin.display(description="For")
    def what(self, delegation: Delegation) -> SafeString | str:
        if delegation.wait_id is None:
            return "all requests"
        url = reverse("admin:workflows_approval_change", args=[delegation.wait_id])
        return format_html('<a class="link" href="{}">one request</a>', url)

    @admin.display(description="Until")
    def until(self, delegation: Delegation) -> str:
        return f"{delegation.ends_at:%Y-%m-%d %H:%M}" if delegation.ends_at else "its end"

    @admin.display(description="State")
    def state(self, delegation: Delegation) -> str:
        return f"taken back by {delegation.withdrawn_by}" if delegation.withdrawn_at else "given"

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page("hand/", self.hand, "hand"),
            self.page("<str:object_id>/withdraw/", self.withdraw, "withdraw"),
            *super().get_urls(),
        ]

    def hand(self, request: HttpRequest) -> HttpResponse:
        """Hand all votes of a person to somebody else for a span of time."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return self._confirmed(
            request,
            Operation(
                name="hand",
                label="Hand over my votes",
                icon="forward_to_inbox",
                tone="primary",
                permission="",
                meaning="Until then they decide in your place on whatever your groups are asked."
                " You can still decide yourself, and take it back at any time.",
                done="Your votes are handed over.",
                do=lambda _, given, by: delegate_for_a_time(
                    person=person_of(request), by=by, **given
                ),
                form=SpanForm,
            ),
            UUID(int=0),
            "all requests to my groups",
        )

    def withdraw(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take back a vote that was handed on."""
        return self._confirmed(
            request,
            Operation(
                name="withdraw",
                label="Take back",
                icon="undo",
                tone="primary",
                permission="",
                meaning="You decide for yourself again. What was decided in your place stands.",
                done="You decide for yourself again.",
                do=lambda one, _, by: withdraw(delegation_id=one, person=person_of(request), by=by),
            ),
            uuid_or_404(object_id),
            self._handed_by(request, object_id),
        )

    def _handed_by(self, request: HttpRequest, object_id: str) -> str:
        """Say what the person has handed over, and to whom."""
        own = Delegation.objects.filter(pk=uuid_or_404(object_id), giver=person_of(request).pk)
        found = own.select_related("wait").first()
        if found is None:
            return "the vote that you have handed over"
        what = found.wait.path if found.wait else f"all requests until {self.until(found)} UTC"
        return f"your vote on {what}, which {found.taker_name} has"

    def _confirmed(
        self, request: HttpRequest, operation: Operation, pk: UUID, subject: str
    ) -> HttpResponse:
        back = reverse("admin:workflows_delegation_changelist")
        return confirm_one(self, request, operation, pk=pk, subject=subject, back=back)
