"""The proxy does to connections what its name says."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connection

from tests.support.proxy import Proxy, proxied_database, proxy

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def network() -> Iterator[Proxy]:
    with proxied_database() as made:
        yield made


def answer(statement: str = "SELECT 1") -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_what_is_asked_is_answered_through_the_proxy(network: Proxy) -> None:
    assert answer("SELECT repeat('x', 1000000)") == "x" * 1_000_000


def test_a_cut_connection_is_lost_and_the_next_is_good(network: Proxy) -> None:
    answer()

    network.cut()

    with pytest.raises(OperationalError):
        answer()
    connection.close()
    assert answer() == 1


def test_a_network_that_refuses_takes_no_connection_until_it_resumes(network: Proxy) -> None:
    network.refuse()

    with pytest.raises(OperationalError):
        answer()
    network.resume()
    assert answer() == 1


def test_a_network_that_stalls_answers_when_it_resumes(network: Proxy) -> None:
    answer()
    raw = connection.connection
    network.stall()

    with ThreadPoolExecutor() as pool:
        asked = pool.submit(lambda: raw.execute("SELECT 2").fetchone())
        with pytest.raises(TimeoutError):
            asked.result(timeout=0.3)
        network.resume()

        assert asked.result(timeout=30) == (2,)


def test_a_lost_answer_is_of_something_that_was_done(network: Proxy) -> None:
    answer("SELECT 1")

    network.lose_an_answer(after=1)
    assert answer("SELECT setval(pg_get_serial_sequence('auth_group', 'id'), 41)") == 41
    with pytest.raises(OperationalError):
        answer("SELECT nextval(pg_get_serial_sequence('auth_group', 'id'))")
    connection.close()

    assert answer("SELECT nextval(pg_get_serial_sequence('auth_group', 'id'))") == 43
    assert network.lost == 1


def test_an_answer_in_pipeline_mode_can_be_lost_too(network: Proxy) -> None:
    answer()
    raw = connection.connection
    network.lose_an_answer()

    with pytest.raises(psycopg.OperationalError), raw.pipeline():
        raw.execute("SELECT setval(pg_get_serial_sequence('auth_group', 'id'), 61)")
    connection.close()

    assert answer("SELECT nextval(pg_get_serial_sequence('auth_group', 'id'))") == 62


def test_an_answer_of_redis_can_be_lost(tmp_path: Path) -> None:
    behind = Path(urlsplit(settings.CELERY_BROKER_URL.replace("%2F", "/")).path)
    key = f"proxy-{tmp_path.name}"
    listen = tmp_path / "r.sock"
    with proxy(listen, behind) as network:
        client = redis.Redis(unix_socket_path=str(listen), retry=None)
        client.set(key, 1)

        network.lose_an_answer()
        with pytest.raises(redis.ConnectionError):
            client.incr(key)

        assert client.get(key) == b"2"
        client.delete(key)
        client.close()
