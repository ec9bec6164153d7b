"""The door for callbacks: whoever bears the signature of a URL may answer the step it is for.

There is no login here, and nothing is said to whom the signature does not let in: it is looked at
before anything else is.
"""

from typing import IO, Any, cast
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from workflows import store
from workflows.api.auth import SignatureError
from workflows.api.door import Door
from workflows.api.parsers import raw_of, strict_json
from workflows.api.shapes import LinkDocument, ReceiptDocument
from workflows.language.limits import LARGEST_VALUE
from workflows.links import is_signed
from workflows.services.callbacks import Receipt, link_of, receive_callback

SAID = {
    Receipt.DELIVERED: "The step {path} goes on.",
    Receipt.KEPT: "It is kept until the step {path} waits for it.",
    Receipt.ALREADY: "The same callback has come before; nothing was changed.",
}
STATUSES = {Receipt.DELIVERED: 200, Receipt.KEPT: 202, Receipt.ALREADY: 200}


class Callbacks(Door):
    """The URL of an attempt of a step to get a callback."""

    authentication_classes = []
    permission_classes = []
    needs = {"POST": None}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse who does not bear the signature; what senders add to the query is ignored."""
        super(Door, self).initial(request, *args, **kwargs)
        if not is_signed(**kwargs):
            raise SignatureError

    @extend_schema(
        operation_id="answer_callback",
        auth=[],
        request=OpenApiTypes.ANY,
        responses={200: ReceiptDocument, 202: ReceiptDocument},
    )
    def post(
        self, request: Request, run_id: UUID, path: str, attempt: int, signature: str
    ) -> Response:
        """Answer a step that waits: 200 if it goes on or has before, 202 if it does not wait yet.

        The body is any JSON of at most 256 KiB, and becomes the output of the step; without one
        that is null. Sent again it changes nothing; another body is refused with 409, and one
        that nobody waits for any more with 410.
        """
        raw = raw_of(_stream(request), most=LARGEST_VALUE)
        body = strict_json(raw) if raw else None
        receipt = receive_callback(
            run_id=run_id, path=path, attempt=attempt, body=body, now=store.now()
        )
        answer = {"status": receipt.value, "detail": SAID[receipt].format(path=path)}
        return Response(answer, status=STATUSES[receipt])


class CallbackLink(Door):
    """Where the callback of a step is to be sent."""

    needs = {"GET": "workflows.see_callback_url"}

    @extend_schema(operation_id="show_callback_url", responses=LinkDocument)
    def get(self, request: Request, run_id: UUID, path: str) -> Response:
        """Show the URL that the callback of a step is to be sent to."""
        link = link_of(run_id=run_id, path=path)
        return Response({"url": link.url, "attempt": link.attempt})


def _stream(request: Request) -> IO[Any]:
    """Return the body; Django itself takes one of unannounced length for an empty one."""
    if request.META.get("wsgi.input_terminated") and "CONTENT_LENGTH" not in request.META:
        body: IO[Any] = request.META["wsgi.input"]
        return body
    return cast("IO[Any]", request._request)  # noqa: SLF001 - as it came, before any parser
