"""Beat's lookout asks the engine to tick through a broker that may be away."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.broker import Broker
from tests.workflows.builders import a_run, claimed, in_future, task
from workers.lookout import look
from workers.publisher import ENGINE_QUEUE, TICK, CeleryPublisher

pytestmark = pytest.mark.usefixtures("committed")


def something_due() -> datetime:
    """Have a run whose time will be up, and return when that is."""
    claimed(a_run(task("only"), timeout="10s"), "only")
    return in_future(11)


def test_a_tick_reaches_the_engine_and_is_worthless_soon(broker: Broker) -> None:
    look(now=something_due(), tick=CeleryPublisher().ask_to_tick)

    [message] = broker.client.lrange(ENGINE_QUEUE, 0, -1)
    headers = json.loads(message)["headers"]
    left = datetime.fromisoformat(headers["expires"]) - datetime.now(UTC)
    assert headers["task"] == TICK
    assert timedelta(seconds=3) < left < timedelta(seconds=5)


@pytest.mark.parametrize("harm", [Broker.stop, Broker.block])
def test_a_broker_that_is_away_does_not_keep_the_lookout(
    broker: Broker, harm: Callable[[Broker], None]
) -> None:
    due, tick = something_due(), CeleryPublisher().ask_to_tick
    harm(broker)
    began = time.monotonic()

    for _ in range(3):
        look(now=due, tick=tick)

    assert time.monotonic() - began < 2
