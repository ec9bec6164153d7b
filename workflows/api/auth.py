"""Who is asking: a token, or a person with a session or a password."""

from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

KEY_SHOWN = 8


class BearerAuthentication(TokenAuthentication):  # type: ignore[misc] # knox publishes no types
    """Knox's tokens; one that cannot be text at all is refused like any other wrong one."""

    def authenticate_credentials(self, token: bytes) -> tuple[object, object]:
        """Return the user and the token. Raises AuthenticationFailed."""
        if not token.isascii() or not token.isalnum():
            raise AuthenticationFailed("Invalid token.")
        found: tuple[object, object] = super().authenticate_credentials(token)
        return found


class SignatureError(APIException):
    """The URL was not given out by this platform."""

    status_code = 403
    default_code = "wrong_signature"
    default_detail = "The URL does not have the signature that it was given out with."


def actor_of(request: Request) -> str:
    """Return the name of who is asking, as the journal keeps it."""
    name = request.user.get_username()
    if isinstance(request.auth, AuthToken):
        return f"token:{name}/{request.auth.token_key[:KEY_SHOWN]}"
    return f"person:{name}"
