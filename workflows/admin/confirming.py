"""Ask before doing: one page for an operation on one thing, and the same page for many."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse

from workflows.admin.base import ReadOnlyAdmin, actor_of, demand, is_uuid
from workflows.admin.operations import Operation
from workflows.services.errors import InputRefusedError, ServiceError
from workflows.services.report import Report
from workflows.services.runs import StartedRun

LEVELS = {"success": messages.SUCCESS, "warning": messages.WARNING, "error": messages.ERROR}
MOST_AT_ONCE = 500
SHOWN = 20
SAID = 5


def confirm_one(  # noqa: PLR0913 - the parts of a page, by name
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    operation: Operation,
    *,
    pk: UUID,
    subject: str,
    back: str,
    initial: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
) -> HttpResponse:
    """Show what the operation means; do it when the person says so, and go back.

    What is refused for what the person wrote is shown with it, to be put right.
    """
    _demand(request, operation)
    form = operation.form(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            outcome = operation.do(pk, form.cleaned_data, actor_of(request))
        except InputRefusedError as error:
            form.add_error(None, str(error))
        except ServiceError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(back)
        else:
            _tell(request, operation, outcome)
            return HttpResponseRedirect(_way_on(outcome) or back)
    page = {
        "title": f"{operation.label}: {subject}",
        "operation": operation,
        "form": form,
        "subjects": [subject],
        "back": back,
        **(more or {}),
    }
    return TemplateResponse(request, "workflows/confirm.html", admin.context(request, **page))


def confirm_many(
    admin: ReadOnlyAdmin,
    request: HttpRequest,
    operation: Operation,
    rows: QuerySet[Any],
) -> HttpResponse | None:
    """Show what was selected; do it when the person says so, and report what was refused."""
    _demand(request, operation)
    if operation.many is None:
        raise TypeError(f"{operation.name} is done one at a time")
    is_decided = "decided" in request.POST
    ids = chosen(request) if is_decided else ids_of(rows)
    if len(ids) > MOST_AT_ONCE:
        messages.error(request, f"Select at most {MOST_AT_ONCE} at a time; narrow the list first.")
        return None
    form = operation.form(request.POST if is_decided else None)
    if is_decided and form.is_valid():
        report = operation.many(ids, form.cleaned_data, actor_of(request))
        tell_report(request, report)
        return None
    shown = admin.get_queryset(request).filter(pk__in=ids[:SHOWN])
    subjects = [admin.title_of(row) for row in shown]
    page = {
        "title": f"{operation.label}: {len(ids)} selected",
        "number": len(ids),
        "operation": operation,
        "form": form,
        "subjects": subjects,
        "others": len(ids) - len(subjects),
        "back": request.get_full_path(),
        "selected": [(ACTION_CHECKBOX_NAME, str(one)) for one in ids],
        "action": request.POST.get("action", ""),
    }
    return TemplateResponse(request, "workflows/confirm.html", admin.context(request, **page))


def ids_of(rows: QuerySet[Any]) -> list[UUID]:
    """Return which rows were selected: one more than may be, where there are more."""
    return list(rows.order_by().values_list("pk", flat=True)[: MOST_AT_ONCE + 1])


def chosen(request: HttpRequest) -> list[UUID]:
    """Return the rows that the page named on which a person has decided.

    Some may have left the filtered list since, and are reported on as well.
    """
    named = request.POST.getlist(ACTION_CHECKBOX_NAME)
    return list(dict.fromkeys(UUID(one) for one in named if is_uuid(one)))


def tell_report(request: HttpRequest, report: Report) -> None:
    """Say what became of many, and name the first that were refused."""
    messages.add_message(request, LEVELS[report.level], report.sentence())
    for refusal in report.refused[1:SAID]:
        messages.add_message(request, LEVELS[report.level], refusal.why)


def _demand(request: HttpRequest, operation: Operation) -> None:
    """Let pass who has the permission; without one, the service says who may."""
    if operation.permission:
        demand(request, operation.permission)


def _way_on(outcome: object) -> str:
    """Return the address of what has come into being, if anything has."""
    if not isinstance(outcome, StartedRun):
        return ""
    return reverse("admin:workflows_run_change", args=[outcome.run.pk])


def _tell(request: HttpRequest, operation: Operation, outcome: object) -> None:
    if isinstance(outcome, Report) and outcome.refused:
        tell_report(request, outcome)
    else:
        messages.success(request, operation.done)
