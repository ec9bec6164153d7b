"""Approvals: the inbox of those who decide, and the page they decide on."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import BooleanField, Case, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter

from environments.badges import Look, badge
from workflows.admin.base import (
    CreatedFilter,
    ReadOnlyAdmin,
    actor_of,
    duration,
    found_by_id,
    found_or_404,
    short,
    spoken,
)
from workflows.admin.confirming import confirm_many, confirm_one
from workflows.admin.deciding import operations_of, person_of
from workflows.admin.operations import Button
from workflows.admin.schema_form import ApproveForm
from workflows.models import Approval, Delegation, Step
from workflows.selectors.approvals import (
    ApprovalFilter,
    approvals,
    concerning,
    get_approval,
    groups_asked,
    may_have_any,
    outcome_of,
    to_decide,
    votes_of,
)
from workflows.selectors.counts import steps_by_state
from workflows.services.approvals import how_it_ended
from workflows.services.electorate import electorate, members_named, standing
from workflows.services.errors import InputRefusedError, ServiceError
from workflows.services.plans import node_of_row

SEE_ALL = "workflows.view_approval"
STEPS_SHOWN = 40
OUTCOMES = {
    "open": Look("busy", "how_to_vote"),
    "approved": Look("ok", "check_circle"),
    "rejected": Look("bad", "cancel"),
    "timed_out": Look("care", "timer_off"),
    "escalated": Look("care", "escalator_warning"),
    "withdrawn": Look("quiet", "block"),
}


def outcome_badge(approval: Approval) -> SafeString:
    """Return the badge of a request: open, or what has become of it."""
    outcome = outcome_of(approval)
    return badge(outcome.replace("_", " ").capitalize(), OUTCOMES[outcome])


def due_in(approval: Approval, now: datetime) -> str:
    """Return how long a request may still be decided on."""
    due = approval.step.wake_at
    if approval.closed_at is not None:
        return ""
    if due is None:
        return "no limit"
    left = (due - now).total_seconds()
    return f"in {spoken(left)}" if left > 0 else "now"


class ShowFilter(DropdownFilter):
    """What this person can decide on, unless other requests are asked for."""

    title = "requests"
    parameter_name = "show"
    all_option = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("mine", "For me to decide"),
            ("open", "All open"),
            ("closed", "Decided and ended"),
            ("all", "Open and ended"),
        ]

    def value(self) -> str:
        return str(super().value() or "mine")

    def queryset(self, request: HttpRequest, queryset: QuerySet[Approval]) -> QuerySet[Approval]:
        match self.value():
            case "all":
                return queryset
            case "closed":
                return queryset.filter(closed_at__isnull=False)
            case "open":
                return queryset.filter(closed_at__isnull=True)
            case _:
                return queryset.filter(to_decide(person_of(request), now=timezone.now()))


class GroupFilter(DropdownFilter):
    """Requests to one group."""

    title = "group"
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in groups_asked()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Approval]) -> QuerySet[Approval]:
        return queryset.filter(name=self.value()) if self.value() else queryset


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("what", "badge", "group", "voted", "workflow", "run_link", "since", "left")
    list_filter = (
        ShowFilter,
        GroupFilter,
        ("run__workflow", RelatedDropdownFilter),
        ("run__environment", RelatedDropdownFilter),
        CreatedFilter,
    )
    search_fields = ("id",)
    search_help_text = "The beginning of the id of a request or of a run."
    sortable_by = ()
    actions = ("approve", "reject")
    list_before_template = "workflows/approvals_head.html"
    greets = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let those in who may see all requests, or whom some may concern."""
        if request.user.has_perm(SEE_ALL):
            return True
        user = request.user
        return isinstance(user, User) and user.is_active and may_have_any(user, now=timezone.now())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        """Return what the person may see, with a mark on what they can decide."""
        person, now = person_of(request), timezone.now()
        seen_by = None if person.has_perm(SEE_ALL) else person
        found = approvals(ApprovalFilter(open=None, seen_by=seen_by), now=now)
        mine = Case(
            When(to_decide(person, now=now), then=Value(True)),
            default=Value(False),
            output_field=BooleanField(),
        )
        return found.annotate(mine=mine)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Return what is for this person first, the oldest first; what has ended newest first."""
        match request.GET.get("show"):
            case "closed" | "all":
                return ("-id",)
            case "open":
                return ("-mine", "id")
            case _:
                return ("id",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Approval], search_term: str
    ) -> tuple[QuerySet[Approval], bool]:
        if not search_term.strip():
            return queryset, False
        own = found_by_id(queryset, search_term)
        if own is None:
            return queryset.none(), False
        return own | found_by_id(queryset, search_term, "run_id"), False  # type: ignore[operator] # an id as the first

    @admin.display(description="Request")
    def what(self, approval: Approval) -> SafeString:
        request = approval.request
        said = Truncator(request["message"] or request["description"] or "").chars(120)
        return format_html(
            '<span>{}<span class="soft block">{}</span></span>', _title(approval), said
        )

    @admin.display(description="State")
    def badge(self, approval: Any) -> SafeString:
        mine = format_html(' <b class="mine">{}</b>', "for you") if approval.mine else ""
        return format_html("{}{}", outcome_badge(approval), mine)

    @admin.display(description="Group")
    def group(self, approval: Approval) -> str:
        return approval.name

    @admin.display(description="Approved")
    def voted(self, approval: Any) -> str:
        return f"{approval.approved} of {approval.request['approvals']}"

    @admin.display(description="Workflow")
    def workflow(self, approval: Approval) -> str:
        return approval.run.workflow.name

    @admin.display(description="Run")
    def run_link(self, approval: Approval) -> SafeString:
        url = reverse("admin:workflows_run_change", args=[approval.run_id])
        return format_html(
            '<a class="link" href="{}"><code>{}</code></a>', url, short(approval.run_id)
        )

    @admin.display(description="Since")
    def since(self, approval: Approval) -> str:
        return f"{duration(approval.opened_at, approval.closed_at)}"

    @admin.display(description="Due")
    def left(self, approval: Approval) -> str:
        return due_in(approval, timezone.now()) or "-"

    @admin.action(description="Approve the selected requests")
    def approve(self, request: HttpRequest, queryset: QuerySet[Approval]) -> HttpResponse | None:
        return confirm_many(self, request, operations_of(person_of(request))["approve"], queryset)

    @admin.action(description="Reject the selected requests")
    def reject(self, request: HttpRequest, queryset: QuerySet[Approval]) -> HttpResponse | None:
        return confirm_many(self, request, operations_of(person_of(request))["reject"], queryset)

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page("<str:object_id>/approve/", self.approve_one, "approve"),
            self.page("<str:object_id>/reject/", self.ask("reject"), "reject"),
            self.page("<str:object_id>/hand/", self.ask("hand"), "hand"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show what is asked, what the run was given and where it stands, and who has said what."""
        approval, now = self.approval_or_404(request, object_id), timezone.now()
        person, is_open = person_of(request), approval.closed_at is None
        stands = standing(approval, person, now=now) if is_open else None
        asks = electorate(approval) if is_open else None
        may = stands is not None and stands.member is not None
        page = {
            "title": _title(approval),
            "original": approval,
            "approval": approval,
            "badge": outcome_badge(approval),
            "due": due_in(approval, now),
            "asks": asks,
            "able": members_named(asks.able) if asks else "",
            "ended": "" if is_open else how_it_ended(approval),
            "stands": stands,
            "in_place_of": _in_place_of(stands.member, person) if stands else "",
            "votes": votes_of(approval),
            "handed": Delegation.objects.filter(wait=approval.pk).order_by("id"),
            "counts": sorted(steps_by_state([approval.run_id])[approval.run_id].items()),
            "steps": Step.objects.filter(run=approval.run_id)
            .only("path", "node", "state", "reason")
            .order_by("node", "path")[:STEPS_SHOWN],
            "may_see_run": person.has_perm("workflows.view_run"),
            "buttons": _buttons(approval, own=may and stands.member == person) if may else [],  # type: ignore[union-attr] # it may
        }
        return TemplateResponse(request, "workflows/approval.html", self.context(request, **page))

    def approve_one(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for what the form of the request wants, and approve."""
        approval = self.approval_or_404(request, object_id)
        back = reverse("admin:workflows_approval_change", args=[approval.pk])
        given = request.POST if request.method == "POST" else None
        form = ApproveForm(given, schema=_form_of(approval))
        operation = operations_of(person_of(request))["approve"]
        if request.method == "POST" and form.is_valid():
            try:
                operation.do(approval.pk, _with_form(form, approval), actor_of(request))
            except InputRefusedError as error:
                form.refuse(error.findings, str(error))
            except ServiceError as error:
                messages.error(request, str(error))
                return HttpResponseRedirect(back)
            else:
                messages.success(request, operation.done)
                return HttpResponseRedirect(back)
        page = {
            "title": f"Approve: {_title(approval)}",
            "approval": approval,
            "form": form,
            "back": back,
        }
        return TemplateResponse(request, "workflows/approve.html", self.context(request, **page))

    def ask(self, name: str) -> Any:
        """Return the page that asks before something is done about one request."""

        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            approval = self.approval_or_404(request, object_id)
            return confirm_one(
                self,
                request,
                operations_of(person_of(request))[name],
                pk=approval.pk,
                subject=f"{_title(approval)} of {approval.run.workflow.name}",
                back=reverse("admin:workflows_approval_change", args=[approval.pk]),
                more={"question": approval.request["message"]},
            )

        return view

    def title_of(self, row: Approval) -> str:
        asked = Truncator(row.request["message"] or row.request["description"] or "").chars(120)
        return f"{_title(row)} of {row.run.workflow.name}{f': {asked}' if asked else ''}"

    def approval_or_404(self, request: HttpRequest, object_id: str) -> Approval:
        """Return the request of an address, if it concerns this person."""
        found = found_or_404(get_approval, object_id)
        person = person_of(request)
        if not person.has_perm(SEE_ALL):
            theirs = Approval.objects.filter(concerning(person, now=timezone.now()), pk=found.pk)
            if not theirs.exists():
                raise PermissionDenied
        return found


def _title(approval: Approval) -> str:
    return str(approval)


def _form_of(approval: Approval) -> Mapping[str, Any] | None:
    """Return the form of a request, with its fields in the order of the definition, if it is known.

    The database keeps the form, and not the order of its keys.
    """
    asked: Mapping[str, Any] | None = approval.request["form"]
    run, path = approval.run, approval.path
    written = node_of_row(run_id=run.pk, version_id=run.version_id, path=path).approval
    return written.form if written is not None and written.form == asked else asked


def _in_place_of(member: User | None, person: User) -> str:
    return "" if member is None or member == person else member.username


def _with_form(form: ApproveForm, approval: Approval) -> dict[str, Any]:
    given = form.cleaned_data
    return given if approval.request["form"] is not None else {**given, "input": None}


def _buttons(approval: Approval, *, own: bool) -> list[Button]:
    """Return the ways to decide; a vote that was handed over is not handed on."""
    urls = {
        name: reverse(f"admin:workflows_approval_{name}", args=[approval.pk])
        for name in ("approve", "reject", "hand")
    }
    buttons = [
        Button("Approve", urls["approve"], "check", "primary"),
        Button("Reject", urls["reject"], "close", "danger"),
    ]
    return [*buttons, Button("Hand over", urls["hand"], "forward_to_inbox")] if own else buttons
