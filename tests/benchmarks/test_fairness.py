"""What the benchmarks compare the platform with, and what they count as whose."""

import pytest
from django.conf import settings

from benchmarks import variants
from benchmarks.bare import redis_url
from benchmarks.costs import role_of
from orchestrator.programs import worker_options

REDIS = "redis+socket:///tmp/redis.sock"
PYTHON = "/venv/bin/python"


def test_the_same_settings_are_the_platforms_own() -> None:
    same = variants.same(REDIS)

    options = worker_options("bare", ["bare"], settings.ENV.worker_concurrency)
    assert same.options == tuple(options)
    assert same.settings["task_acks_late"] is settings.CELERY_TASK_ACKS_LATE
    assert same.settings["worker_prefetch_multiplier"] == settings.CELERY_WORKER_PREFETCH_MULTIPLIER


def test_no_variant_on_redis_hears_of_anothers_messages() -> None:
    tried = [variants.same(REDIS), *variants.candidates(REDIS, None)]

    places = [one.settings["broker_url"] for one in tried]

    assert len(set(places)) == len(places)
    assert REDIS not in places, "there are the platform's own messages"


def test_bare_celery_at_its_best_pays_for_nothing_that_it_can_do_without() -> None:
    tried = variants.candidates(REDIS, "amqp://guest:guest@127.0.0.1:5672//")

    assert all(one.settings["task_ignore_result"] for one in tried)
    assert not any(one.settings["worker_send_task_events"] for one in tried)


def test_without_rabbitmq_the_ways_on_redis_are_tried_all_the_same() -> None:
    with_it = {one.name for one in variants.candidates(REDIS, "amqp://localhost//")}
    without = {one.name for one in variants.candidates(REDIS, None)}

    assert without < with_it
    assert all(name.endswith("RabbitMQ") for name in with_it - without)


def test_the_address_of_a_redis_database_is_understood_by_its_client() -> None:
    assert redis_url(f"{REDIS}?virtual_host=3") == "unix:///tmp/redis.sock?db=3"


@pytest.mark.parametrize(
    ("command", "parent", "role"),
    [
        ((PYTHON, "-m", "orchestrator", "worker", "default"), (), "worker"),
        (
            (PYTHON, "-m", "orchestrator", "worker", "default"),
            (PYTHON, "-m", "orchestrator", "worker", "default"),
            "worker, child",
        ),
        ((PYTHON, "-m", "orchestrator", "up"), (), "launcher"),
        ((PYTHON, "-m", "gunicorn", "orchestrator.wsgi", "--bind=fd://5"), (), "web"),
        (("postgres: checkpointer ",), ("/pg/bin/postgres",), "PostgreSQL"),
        (("/pg/bin/postgres", "-D", "/data"), (), "PostgreSQL"),
        (("/redis/bin/redis-server unixsocket:/tmp/redis.sock",), (), "Redis"),
    ],
    ids=["worker", "its child", "launcher", "web", "backend", "PostgreSQL", "Redis"],
)
def test_a_process_is_told_by_its_command(
    command: tuple[str, ...], parent: tuple[str, ...], role: str
) -> None:
    assert str(role_of(command, parent)) == role
