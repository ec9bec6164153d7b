"""What whoever asks hears while the database is away: try again, nothing was lost. No traceback.

A view's error is met by the middleware, last in the list and so the first to hear of it; what
fails before a view is reached, or behind it, by the handler of errors. Each process has one line
in its log for an outage, not one for each request.
"""

import sys
from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template import loader
from django.views.defaults import server_error

from workflows.api.problems import CONTENT_TYPE, answer
from workflows.store import ERRORS, cure_of, outage

API = "/api/"
TRY_AGAIN_AFTER = 5
"""Seconds."""


class AnswerOutages:
    """Answers for every view that the database has failed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Hand the request on."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer with 503 where the database is away; what else fails is for others."""
        return unavailable(request, error)


def failed(request: HttpRequest) -> HttpResponse:
    """Answer a request that has failed: with 503 where the database is away, else with 500."""
    return unavailable(request, sys.exc_info()[1]) or server_error(request)


def unavailable(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return what to say about an outage; None when the error is of no outage."""
    if not isinstance(error, ERRORS) or cure_of(error) is None:
        return None
    outage.note(error)
    response = _problem(error) if request.path.startswith(API) else _page()
    response["Retry-After"] = str(TRY_AGAIN_AFTER)
    # Django's own mark of a response about which the log has been told.
    response._has_been_logged = True  # type: ignore[attr-defined] # noqa: SLF001
    return response


def _problem(error: Exception) -> HttpResponse:
    found = answer(error, {})
    body = {} if found is None else found.data
    return JsonResponse(body, status=HTTPStatus.SERVICE_UNAVAILABLE, content_type=CONTENT_TYPE)


def _page() -> HttpResponse:
    page = loader.render_to_string("outage.html", {"seconds": TRY_AGAIN_AFTER})
    return HttpResponse(page, status=HTTPStatus.SERVICE_UNAVAILABLE)
