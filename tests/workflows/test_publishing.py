"""Messages are hints: sent after the commit, lost without harm, and what Celery is to send."""

import os
import subprocess
import sys

import psycopg
import pytest
from django.db import transaction
from django.utils import timezone

from environments.services import create_environment, move_environment
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    QUEUE,
    a_run,
    a_version,
    claimed,
    finish,
    in_future,
    state,
    states,
    task,
)
from workers.publisher import REFILL, SEGMENT, SETTLE, TAKE, canvas_of
from workflows.dispatch import CROWDED, FanOut, Line, Refill, Segment
from workflows.models import Run
from workflows.services.recovery import recover
from workflows.services.runs import start_run

pytestmark = pytest.mark.usefixtures("committed")


def test_a_broker_that_is_down_refuses_no_start_and_is_told_later(sent: Recorder) -> None:
    sent.down = True

    run = a_run(task("only"))
    assert states(run) == {"only": "QUEUED"}
    sent.down = False
    recover(now=in_future(31))

    assert sent.sent == [Segment(run.pk, run.version_id, "only", 1, QUEUE)]


def test_what_the_broker_did_not_take_is_due_at_once(sent: Recorder) -> None:
    sent.down = True
    run = a_run(task("only"))
    sent.down = False

    recover(now=timezone.now())

    assert sent.sent == [Segment(run.pk, run.version_id, "only", 1, QUEUE)]


def test_a_fan_out_that_the_broker_did_not_take_is_sent_as_one(sent: Recorder) -> None:
    sent.down = True
    run = a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(100)]})
    sent.down = False

    recover(now=timezone.now())

    assert sent.sent == [FanOut(run.pk, run.version_id, QUEUE, 32, "all")]


def test_items_of_a_loop_are_sent_to_takers_that_nobody_waits_for(sent: Recorder) -> None:
    steps = [task("one")]

    run = a_run({"id": "each", "foreach": 100, "max_parallel": 30, "steps": steps})

    fan = FanOut(run.pk, run.version_id, QUEUE, 2, "each", is_loop=True)
    assert sent.sent == [fan]
    assert [one.task for one in canvas_of(fan).tasks] == [TAKE] * 2
    assert all(one.options["ignore_result"] for one in canvas_of(fan).tasks)


def test_a_fan_out_of_which_no_message_arrived_is_sent_again_as_one(sent: Recorder) -> None:
    run = a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(300)]})
    sent.forget()

    recover(now=in_future(31))

    assert sent.sent == [FanOut(run.pk, run.version_id, QUEUE, 32, "all")]


def test_nothing_is_sent_twice_to_a_queue_that_is_crowded_already(sent: Recorder) -> None:
    run = a_run(task("only"))
    sent.forget()
    sent.crowds[QUEUE] = CROWDED
    recover(now=in_future(31))
    assert not sent.sent
    sent.crowds.clear()

    recover(now=in_future(62))

    assert sent.sent == [Segment(run.pk, run.version_id, "only", 1, QUEUE)]


def test_a_database_that_goes_after_the_commit_refuses_no_start(
    sent: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**_: object) -> None:
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr("workflows.store.make_due", gone)
    sent.down = True

    run = a_run(task("only"))

    assert states(run) == {"only": "QUEUED"}


def test_a_broker_that_goes_down_in_the_middle_of_a_run_loses_no_outcome(sent: Recorder) -> None:
    run = a_run(task("first"), task("second"))
    sent.down = True

    finish(claimed(run, "first"))

    assert states(run) == {"first": "COMPLETED", "second": "QUEUED"}


def test_a_broker_that_is_down_does_not_stop_the_sweep(sent: Recorder) -> None:
    run = a_run(task("only"))
    claimed(run, "only")
    sent.down = True

    recover(now=in_future(31))

    assert states(run) == {"only": "QUEUED"}


def test_nothing_is_sent_before_the_commit(sent: Recorder) -> None:
    name = a_version(task("only")).workflow.name

    with transaction.atomic():
        start_run(workflow=name, by="person:ann")
        assert not sent.sent

    assert len(sent.sent) == 1


def test_a_step_that_runs_on_is_not_sent(sent: Recorder) -> None:
    run = a_run(task("first"), task("second"))
    work = claimed(run, "first")
    sent.forget()

    after = finish(work, run_on=True)

    assert after is not None
    assert after.path == "second"
    assert not sent.sent


def test_of_several_that_become_ready_one_runs_on_and_the_rest_are_sent(sent: Recorder) -> None:
    run = a_run(task("first"), *(task(f"s{n}", needs=["first"]) for n in range(3)))
    work = claimed(run, "first")
    sent.forget()

    after = finish(work, run_on=True)

    assert after is not None
    assert {one.path for one in sent.sent} | {after.path} == {"s0", "s1", "s2"}
    assert len(sent.sent) == 2


def test_a_fan_out_is_takers_and_nothing_else(sent: Recorder) -> None:
    run = a_run({"id": "all", "parallel": [task(f"s{n}") for n in range(100)]})

    assert sent.sent == [FanOut(run.pk, run.version_id, QUEUE, 32, "all")]


def test_a_whole_chain_is_one_message(sent: Recorder) -> None:
    run = a_run(*(task(f"s{n}") for n in range(20)))

    work = claimed(run, "s0")
    while work is not None:
        work = finish(work, run_on=True)

    assert state(run) == "COMPLETED"
    assert len(sent.sent) == 1


def a_line(sent: Recorder) -> Line:
    create_environment(name="twofold", classes=["default", "heavy"], by="person:ann")
    move_environment(name="twofold", state="ACTIVE", by="person:ann")
    steps = task("fetch"), task("crunch", **{"class": "heavy"}), task("store")
    a_run(*steps, environment="twofold")
    [line] = sent.sent
    assert isinstance(line, Line)
    return line


def test_a_straight_way_over_several_queues_is_one_line(sent: Recorder) -> None:
    line = a_line(sent)

    assert [(one.path, one.queue) for one in line.segments] == [
        ("fetch", "env.twofold.default"),
        ("crunch", "env.twofold.heavy"),
        ("store", "env.twofold.default"),
    ]


def test_a_line_is_a_celery_chain_in_which_each_knows_whom_it_brings(sent: Recorder) -> None:
    canvas = canvas_of(a_line(sent))

    assert canvas.task == "celery.chain"
    assert [one.task for one in canvas.tasks] == [SEGMENT] * 3
    assert [one.kwargs.get("brings") for one in canvas.tasks] == ["crunch", "store", None]
    assert [one.options["queue"] for one in canvas.tasks] == [
        "env.twofold.default",
        "env.twofold.heavy",
        "env.twofold.default",
    ]


def test_a_fan_out_is_a_celery_chord_that_settles_its_scope() -> None:
    run = a_run(task("only"))

    canvas = canvas_of(FanOut(run.pk, run.version_id, QUEUE, 3, "all"))

    assert canvas.task == "celery.chord"
    assert [one.task for one in canvas.tasks] == [TAKE] * 3
    assert (canvas.body.task, canvas.body.kwargs["scope"]) == (SETTLE, "all")


def test_loops_that_have_room_are_named_to_the_engine() -> None:
    run = a_run(task("only"))

    message = canvas_of(Refill(run.pk, run.version_id, ("a[0].b", "a[1].b")))

    assert (message.task, message.options["queue"]) == (REFILL, "orchestrator")
    assert message.kwargs["loops"] == ["a[0].b", "a[1].b"]


def test_a_message_carries_ids_and_a_fence_and_no_data() -> None:
    run = a_run(task("only", **{"with": {"message": "hush"}}))

    canvas = canvas_of(Segment(run.pk, run.version_id, "only", 1, QUEUE))

    assert canvas.kwargs == {
        "run": str(run.pk),
        "version": str(run.version_id),
        "path": "only",
        "attempt": 1,
    }


@pytest.mark.parametrize("steps", [1, 20])
def test_a_redis_that_is_gone_refuses_no_start(process_env: dict[str, str], steps: int) -> None:
    name = a_version(*(task(f"s{n}", needs=[]) for n in range(steps))).workflow.name
    gone = "redis+socket:///nowhere/redis.sock"
    env = os.environ | process_env | {"BROKER_URL": gone, "RESULT_URL": gone}
    command = [sys.executable, "manage.py", "workflow", "run", name, "--json"]

    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr
    run = Run.objects.get(workflow__name=name)
    assert set(states(run).values()) == {"QUEUED"}
