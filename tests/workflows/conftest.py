"""The services on a real PostgreSQL, with a publisher that only remembers; no worker."""

import pytest

from environments.services import ensure_default
from tests.support.publisher import RECORDER, Recorder


@pytest.fixture
def sent() -> Recorder:
    """What was sent to workers."""
    return RECORDER


@pytest.fixture
def committed(transactional_db: None) -> None:
    """Have every transaction of the test be a real one."""
    ensure_default()


@pytest.fixture
def kept(db: None) -> None:
    """Have the test be one transaction, which is undone after it."""
    ensure_default()
