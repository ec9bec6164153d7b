"""Each served queue has one canary on its way, and no more; a change is said once."""

import json

import pytest
from django.db import connection
from structlog.testing import capture_logs

from tests.support.broker import Broker
from tests.support.proxy import proxied_database
from workers.canaries import came, send_round, verdicts
from workers.models import CanaryMark
from workers.outage import outlast
from workers.publisher import ENGINE_QUEUE, CeleryPublisher

pytestmark = pytest.mark.usefixtures("committed")
QUEUE = "env.default.default"
PULSE = """
    INSERT INTO workers_pulse VALUES (%s, %s, 2, now(), 3600, 3600, '{}', '{}')
    ON CONFLICT (name) DO UPDATE SET seen_at = now()
"""


def speak(queue: str = QUEUE) -> None:
    """Have a worker of a queue say that it lives."""
    with connection.cursor() as cursor:
        cursor.execute(PULSE, [f"worker of {queue}", json.dumps([queue])])


def later(seconds: int) -> None:
    """Have time pass for the canaries, and for nothing else."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE workers_canarymark SET sent_at = sent_at - make_interval(secs => %s)", [seconds]
        )


def send() -> list[str]:
    """Send a round, and return what was said of the queues."""
    with capture_logs() as said:
        send_round(CeleryPublisher())
    return [f"{one['queue']} {one['health']}" for one in said if one["event"] == "queue.health"]


def test_a_queue_has_one_canary_until_it_comes(broker: Broker) -> None:
    speak()
    send()
    send()
    assert broker.lengths(QUEUE) == 1
    came(QUEUE)

    send()

    assert broker.lengths(QUEUE) == 2


def test_where_nobody_listens_nothing_is_sent(broker: Broker) -> None:
    send()

    assert broker.lengths(QUEUE, ENGINE_QUEUE) == 0


def test_a_lost_canary_is_sent_again_and_owed_since_the_first(broker: Broker) -> None:
    speak()
    send()
    sent_at = CanaryMark.objects.get(queue=QUEUE).sent_at
    broker.client.flushall()

    send()

    assert broker.lengths(QUEUE) == 1
    assert CanaryMark.objects.get(queue=QUEUE).sent_at == sent_at


def test_a_wedged_queue_is_logged_once_and_so_is_its_return(broker: Broker) -> None:
    speak(ENGINE_QUEUE)
    speak()
    send()
    later(60)

    wedged = send()
    again = send()
    came(QUEUE)
    back = send()

    assert (wedged, again, back) == ([f"{QUEUE} wedged"], [], [f"{QUEUE} healthy"])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("after", range(20))
def test_a_round_comes_to_its_end_whichever_answer_of_the_database_is_lost(
    broker: Broker, after: int
) -> None:
    speak()
    with proxied_database() as network:
        network.lose_an_answer(after=after)

        outlast(lambda _: send_round(CeleryPublisher()))

        network.resume()
        assert network.lost == 1
    assert broker.lengths(QUEUE) in {1, 2}
    assert CanaryMark.objects.get(queue=QUEUE).sent_at is not None


def test_a_queue_that_is_no_more_is_forgotten(broker: Broker) -> None:
    CanaryMark.objects.create(queue="env.gone.default")

    send()

    assert not CanaryMark.objects.filter(queue="env.gone.default").exists()
    assert {one.queue for one in verdicts()} == {ENGINE_QUEUE, QUEUE}
