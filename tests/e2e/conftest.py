"""The whole platform: real workers, real messages, the clock of the engine."""

import pytest

from tests.support.platform import Platform


@pytest.fixture
def hasty(platform: Platform, process_env: dict[str, str]) -> Platform:
    """The same, where workers that a test starts are lost after three seconds of silence."""
    return Platform(process_env | {"LEASE_SECONDS": "3"})
