"""Flower behind the platform's own door: staff who may see runs, and reading only.

Flower listens on a loopback port behind a password that only this view has, so there is no second
way in. It runs read-only itself; the one POST that is let through is how its task table asks for
rows. That is why the view needs no CSRF token.
"""

from functools import cache

import httpx
from csp.decorators import csp_update
from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

# Its workers page has one inline script: a variable that says whether to refresh.
ITS_SCRIPT = "'sha256-A0YIP5A+DKoseGAUTHRoMPDkKPK5cKzfYH3mjcCKtj8='"
ASKED_BY_POST = "tasks/datatable"
FROM_BROWSER = ("Accept", "Content-Type", "If-None-Match", "If-Modified-Since")
TO_BROWSER = ("Content-Type", "Location", "ETag", "Last-Modified", "Cache-Control")


@csrf_exempt
@csp_update({"script-src": [ITS_SCRIPT]})
@require_http_methods(["GET", "HEAD", "POST"])
@staff_member_required
@permission_required("workflows.view_run", raise_exception=True)
def flower(request: HttpRequest, path: str = "") -> HttpResponse:
    """Hand the request to Flower and its answer back."""
    if request.method == "POST" and path != ASKED_BY_POST:
        return HttpResponse("Flower is for reading here; act on runs instead.", status=405)
    url = settings.ENV.flower_url
    if url is None:
        return HttpResponse("Flower is not set up: FLOWER_URL is not set.", status=503)
    try:
        answer = _client(url).request(
            request.method or "GET",
            f"/flower/{path}",
            params=request.GET.urlencode(),
            content=request.body,
            headers={
                name: request.headers[name] for name in FROM_BROWSER if name in request.headers
            },
        )
    except httpx.TransportError as error:
        return HttpResponse(f"Flower does not answer: {error}. Try again soon.", status=503)
    return HttpResponse(
        answer.content,
        status=answer.status_code,
        headers={name: answer.headers[name] for name in TO_BROWSER if name in answer.headers},
    )


@cache
def _client(url: str) -> httpx.Client:
    """Keep one pool of connections a process; the user and password are part of the address."""
    return httpx.Client(base_url=url, timeout=15, follow_redirects=False)
