"""Celery runs only with settings that keep messages, and sends only where somebody listens."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery.beat import Service
from celery.exceptions import QueueNotFound
from django.conf import settings

from environments.models import Environment
from orchestrator.celery import (
    REQUIRED,
    _refuse_unsafe_settings,
    _stop_between_two_ticks,
    app,
    eviction_refusals,
    queue_of,
    refusals,
)


@pytest.fixture
def changed() -> Iterator[dict[str, Any]]:
    names = [*REQUIRED, "task_time_limit", "broker_url"]
    before = {name: getattr(app.conf, name) for name in names}
    yield before
    app.conf.update(before)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_setting_that_could_lose_work_is_refused_by_name(
    changed: dict[str, Any], name: str
) -> None:
    app.conf.update({name: "unsafe"})

    assert refusals(app.conf) == [
        f"The Celery setting {name} is 'unsafe'; it must be {REQUIRED[name]!r}."
    ]


def test_the_platforms_own_settings_are_accepted() -> None:
    assert refusals(app.conf) == []


def test_a_visibility_timeout_below_the_hard_limit_is_refused(changed: dict[str, Any]) -> None:
    app.conf.task_time_limit = 10**6

    [sentence] = refusals(app.conf)

    assert "visibility_timeout" in sentence
    assert "above task_time_limit" in sentence


def test_a_process_with_unsafe_settings_ends(changed: dict[str, Any]) -> None:
    app.conf.task_acks_late = False

    with pytest.raises(SystemExit, match="task_acks_late"):
        _refuse_unsafe_settings()


def test_beat_ends_when_it_has_done_what_it_is_at() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    beat = Service(app)
    _stop_between_two_ticks(sender=beat)

    signal.raise_signal(signal.SIGTERM)

    for number, handler in before.items():
        signal.signal(number, handler)
    assert beat._is_shutdown.is_set()
    assert not beat._is_stopped.is_set()


def test_a_redis_that_would_forget_queues_is_refused() -> None:
    url = settings.ENV.broker
    with redis.Redis.from_url(url.replace("redis+socket:", "unix:")) as client:
        accepted = eviction_refusals(url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        refused = eviction_refusals(url)
        client.config_set("maxmemory-policy", "noeviction")

    assert accepted == []
    assert "allkeys-lru; it must be noeviction" in refused[0]


def test_a_redis_that_is_away_hides_no_unsafe_setting(changed: dict[str, Any]) -> None:
    app.conf.task_acks_late, app.conf.broker_url = False, "redis+socket:///nowhere/redis.sock"

    with pytest.raises(SystemExit, match="task_acks_late"):
        _refuse_unsafe_settings()


@pytest.mark.django_db
@pytest.mark.parametrize("queue", ["nobody", "env.ghost.default", "env.lab.browser", "env.lab"])
def test_nothing_is_sent_where_nobody_listens(queue: str) -> None:
    Environment.objects.create(name="lab")

    with pytest.raises(QueueNotFound):
        app.send_task("workers.run_segment", queue=queue)


@pytest.mark.django_db
def test_the_queues_of_a_new_environment_are_known_at_once() -> None:
    Environment.objects.create(name="new-lab", classes=["default", "browser"])

    queue = app.amqp.queues["env.new-lab.browser"]

    assert queue == queue_of("env.new-lab.browser")
    assert queue.routing_key == "env.new-lab.browser"
