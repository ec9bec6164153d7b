"""The whole platform: real workers, real messages, the clock of the engine."""

from collections.abc import Iterator

import pytest

from environments.services import ensure_default
from tests.support.platform import Platform, clock


@pytest.fixture
def platform(
    transactional_db: None, celery_workers: None, process_env: dict[str, str]
) -> Iterator[Platform]:
    """The platform with its environment `default`."""
    ensure_default()
    with clock():
        yield Platform(process_env)


@pytest.fixture
def hasty(platform: Platform, process_env: dict[str, str]) -> Platform:
    """The same, where workers that a test starts are lost after three seconds of silence."""
    return Platform(process_env | {"LEASE_SECONDS": "3"})
