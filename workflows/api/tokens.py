"""Tokens: what a program has in place of a password. Made with a password or a session only.

A token cannot make another, or it would never expire.
"""

from datetime import timedelta

from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle

from workflows.api.auth import BearerAuthentication
from workflows.api.door import Door
from workflows.api.forms import PageQuery, TokenOrder
from workflows.api.shapes import NewTokenDocument, TokenDocument
from workflows.selectors.errors import MissingError
from workflows.selectors.paging import Order, page_of
from workflows.selectors.shapes import PageDocument, json_time, json_time_or_none

BY_KEY = Order(("token_key",))


class Tokens(Door):
    """The tokens of who is asking."""

    authentication_classes = [BasicAuthentication, SessionAuthentication]
    throttle_classes = [ScopedRateThrottle]
    throttle_scope = "tokens"
    needs = {"GET": None, "POST": None}
    query = {"GET": PageQuery}

    @extend_schema(operation_id="list_tokens", responses=PageDocument[TokenDocument])
    def get(self, request: Request) -> Response:
        """List one's own tokens, without what they are used with."""
        own = AuthToken.objects.filter(user=request.user)
        return self.page(page_of(own, BY_KEY, **self.asked.page).of(_token_document))

    @extend_schema(
        operation_id="create_token", request=TokenOrder, responses={201: NewTokenDocument}
    )
    def post(self, request: Request) -> Response:
        """Create a token. It is shown this once."""
        hours = self.body(TokenOrder)["hours"]
        made, token = AuthToken.objects.create(request.user, expiry=timedelta(hours=hours))
        return Response({**_token_document(made), "token": token}, status=201)


class OneToken(Door):
    """A token of who is asking."""

    authentication_classes = [BearerAuthentication, BasicAuthentication, SessionAuthentication]
    needs = {"DELETE": None}

    @extend_schema(operation_id="revoke_token", responses={204: None})
    def delete(self, request: Request, key: str) -> Response:
        """Revoke one of one's own tokens, at once."""
        revoked, _ = AuthToken.objects.filter(user=request.user, token_key=key).delete()
        if not revoked:
            raise MissingError("token of yours with the key", key)
        return Response(status=204)


def _token_document(token: AuthToken) -> TokenDocument:
    return {
        "key": token.token_key,
        "created_at": json_time(token.created),
        "expires_at": json_time_or_none(token.expiry),
    }
