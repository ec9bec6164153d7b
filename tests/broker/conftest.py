"""A real Redis of each test's own, through which this process sends."""

from collections.abc import Iterator

import pytest
from pytest_django.fixtures import Settings

from environments.services import ensure_default
from tests.support.broker import Broker, a_broker, sending_through
from workflows import dispatch


@pytest.fixture
def committed(transactional_db: None) -> None:
    """Have every transaction of the test be a real one."""
    ensure_default()


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    """A Redis that answers, until the test does something to it."""
    real = {"PUBLISHER": "workers.publisher.CeleryPublisher"}
    settings.ORCHESTRATOR = settings.ORCHESTRATOR | real
    dispatch.publisher.cache_clear()
    with a_broker() as broker, sending_through(broker):
        yield broker
    dispatch.publisher.cache_clear()
