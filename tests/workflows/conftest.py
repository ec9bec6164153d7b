"""The services on a real PostgreSQL, with a publisher that only remembers; no worker."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from environments.services import ensure_default
from tests.workflows.builders import RECORDER, Recorder
from workflows import dispatch


@pytest.fixture(autouse=True)
def sent(settings: Settings) -> Iterator[Recorder]:
    """What was sent to workers."""
    recording = {"PUBLISHER": "tests.workflows.builders.the_recorder"}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | recording
    dispatch.publisher.cache_clear()
    RECORDER.forget()
    yield RECORDER
    dispatch.publisher.cache_clear()


@pytest.fixture
def committed(transactional_db: None) -> None:
    """Have every transaction of the test be a real one."""
    ensure_default()


@pytest.fixture
def kept(db: None) -> None:
    """Have the test be one transaction, which is undone after it."""
    ensure_default()
