"""The URLs that outsiders are given: one for each attempt of a step to get a callback.

Signed with a key derived from the platform's secret: whoever bears the signature may answer, and
nothing of it is stored, for it is the same whenever it is asked for, also before the step waits.
"""

from base64 import urlsafe_b64encode
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

CALLBACKS = "/api/v1/callbacks"
SALT = "workflows.links.callback"


def callback_url(run_id: UUID | str, path: str, attempt: int) -> str:
    """Return where the callback that an attempt of a step waits for is to be sent."""
    place = f"{CALLBACKS}/{run_id}/{quote(path)}/{attempt}/{_signature(run_id, path, attempt)}/"
    return f"{settings.ORCHESTRATOR['PUBLIC_URL']}{place}"


def is_signed(run_id: UUID, path: str, attempt: int, signature: str) -> bool:
    """Say whether the signature is that of the attempt; how long that takes tells nothing."""
    return constant_time_compare(signature, _signature(run_id, path, attempt))


def _signature(run_id: UUID | str, path: str, attempt: int) -> str:
    digest = salted_hmac(SALT, f"{run_id}/{path}/{attempt}", algorithm="sha256").digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
