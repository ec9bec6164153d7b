"""What is kept secret at rest, under the key of its environment.

Each environment has a key: those that ENVIRONMENT_KEYS gives it, the newest first, else one made
of SECRET_KEY and its name. A worker that is given the keys of its own environment alone cannot
read what is sealed for another. What was sealed under an older key is still read.
"""

import base64
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from environments.errors import UnreadableError


def seal(environment: str, value: Any) -> str:
    """Return a JSON value in a form that only who has the environment's key can read."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return _cipher(environment, _given(environment), settings.SECRET_KEY).encrypt(plain).decode()


def unseal(environment: str, sealed: str) -> Any:
    """Return the value. Raises `UnreadableError` without the key that it was sealed with."""
    try:
        cipher = _cipher(environment, _given(environment), settings.SECRET_KEY)
        return json.loads(cipher.decrypt(sealed.encode()))
    except InvalidToken:
        raise UnreadableError(environment) from None


def _given(environment: str) -> tuple[str, ...]:
    return tuple(settings.ORCHESTRATOR["ENVIRONMENT_KEYS"].get(environment, ()))


@lru_cache
def _cipher(environment: str, given: tuple[str, ...], master: str) -> MultiFernet:
    keys: list[str | bytes] = [*given, _derived(environment, master)]
    return MultiFernet([Fernet(key) for key in keys])


def _derived(environment: str, master: str) -> bytes:
    """Make a key of its own for an environment (HKDF, RFC 5869)."""
    info = f"environment {environment}".encode()
    kdf = HKDF(algorithm=SHA256(), length=32, salt=b"orchestrator.vault", info=info)
    return base64.urlsafe_b64encode(kdf.derive(master.encode()))
