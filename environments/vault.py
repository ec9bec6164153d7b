"""What is kept secret at rest, under the key of its environment.

Each environment has a key: those that ENVIRONMENT_KEYS gives it, the newest first, else one made
of VAULT_KEY and its name, else of SECRET_KEY and its name, which the log warns of. A worker that
is given the keys of its own environment alone cannot read what is sealed for another. What was
sealed under an older key is still read, until `reseal` has sealed it anew.
"""

import base64
import json
from functools import lru_cache
from typing import Any

import structlog
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from environments.errors import UnreadableError

log = structlog.get_logger(__name__)


def seal(environment: str, value: Any) -> str:
    """Return a JSON value in a form that only who has the environment's key can read."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return MultiFernet(_keys_of(environment)).encrypt(plain).decode()


def unseal(environment: str, sealed: str) -> Any:
    """Return the value. Raises `UnreadableError` without the key that it was sealed with."""
    try:
        return json.loads(MultiFernet(_keys_of(environment)).decrypt(sealed.encode()))
    except InvalidToken:
        raise UnreadableError(environment) from None


def reseal(environment: str, sealed: str) -> str | None:
    """Return what is sealed under an older key sealed under the newest; None when it is already.

    Raises `UnreadableError` without the key that it was sealed with.
    """
    keys = _keys_of(environment)
    try:
        keys[0].decrypt(sealed.encode())
    except InvalidToken:
        try:
            return MultiFernet(keys).rotate(sealed.encode()).decode()
        except InvalidToken:
            raise UnreadableError(environment) from None
    return None


def _keys_of(environment: str) -> tuple[Fernet, ...]:
    """Return the keys of an environment, the newest first."""
    given = tuple(settings.ORCHESTRATOR["ENVIRONMENT_KEYS"].get(environment, ()))
    return _keys(environment, given, settings.ORCHESTRATOR["VAULT_KEYS"], settings.SECRET_KEY)


@lru_cache
def _keys(
    environment: str, given: tuple[str, ...], masters: tuple[str, ...], last: str
) -> tuple[Fernet, ...]:
    if not given and not masters:
        log.warning("vault.key_of_secret_key", environment=environment)
    derived = [_derived(environment, master) for master in (*masters, last)]
    return (*map(Fernet, given), *map(Fernet, derived))


def _derived(environment: str, master: str) -> bytes:
    """Make a key of its own for an environment (HKDF, RFC 5869)."""
    info = f"environment {environment}".encode()
    kdf = HKDF(algorithm=SHA256(), length=32, salt=b"orchestrator.vault", info=info)
    return base64.urlsafe_b64encode(kdf.derive(master.encode()))
