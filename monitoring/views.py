"""The live part of the run page, as a fragment that a script fetches while the run lives."""

from http import HTTPStatus
from uuid import UUID

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import permission_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from monitoring.run_page import newest_mark, run_page
from workflows.selectors.errors import MissingError
from workflows.selectors.runs import get_run


@require_GET
@never_cache
@staff_member_required
@permission_required("workflows.view_run", raise_exception=True)
def live_run(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Return the run page's changing part; nothing while the journal stands where it was seen."""
    if request.GET.get("seen") == newest_mark(run_id):
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    try:
        run = get_run(run_id)
    except MissingError as error:
        raise Http404(str(error)) from error
    page = run_page(
        run,
        request.user,
        now=timezone.now(),
        page=request.GET.get("page", "1"),
        state=request.GET.get("state", ""),
    )
    return render(request, "monitoring/run.html", {"page": page, "run": run})
