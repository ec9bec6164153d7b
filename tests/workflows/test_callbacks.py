"""Callbacks: received once, kept until the step waits, told to it whoever dies on the way."""

from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from uuid_utils.compat import uuid7

from tests.support.invariants import broken
from tests.support.seam import Crash, seam
from tests.workflows.builders import (
    ANN,
    a_run,
    at_once,
    claimed,
    everything,
    fail,
    finish,
    in_future,
    journal,
    open_incidents,
    state,
    states,
    step,
    task,
)
from workflows import links
from workflows.models import Callback, Run, Wait
from workflows.services.callbacks import Receipt, receive_callback
from workflows.services.errors import (
    CallbackMismatchError,
    CallbackOverError,
    InputRefusedError,
)
from workflows.services.incidents import replay_incident
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

BODY = {"accepted": True}


def vendor(name: str = "vendor", **keys: Any) -> dict[str, Any]:
    """Return a step that waits for a callback for a week."""
    return {"id": name, "callback": {"timeout": "7d"}, **keys}


def send(run: Run, body: Any = BODY, path: str = "vendor", attempt: int = 1) -> Receipt:
    """Have the vendor call back."""
    return receive_callback(
        run_id=run.pk, path=path, attempt=attempt, body=body, now=timezone.now()
    )


def test_a_callback_ends_the_wait_and_is_the_output() -> None:
    run = a_run(vendor(), task("after"))

    receipt = send(run)

    kept, wait = Callback.objects.get(run=run), Wait.objects.get(run=run)
    assert receipt is Receipt.DELIVERED
    assert states(run) == {"vendor": "COMPLETED", "after": "QUEUED"}
    assert step(run, "vendor").output == BODY
    assert (wait.end, wait.answered_by, wait.answer) == (
        "completed",
        "callback",
        {"callback": str(kept.pk)},
    )
    assert kept.delivered_at is not None
    assert broken() == []


@pytest.mark.parametrize("body", [None, 0, "", [], "text", {"deep": [{"er": 1}]}])
def test_any_json_is_a_body(body: Any) -> None:
    run = a_run(vendor())

    send(run, body)

    assert (state(run), step(run, "vendor").output) == ("COMPLETED", body)


def test_the_same_callback_twice_is_received_once() -> None:
    run = a_run(vendor(), task("after"))
    send(run, {"a": 1, "b": 2})
    before = everything(run)

    again = send(run, {"b": 2, "a": 1})

    assert again is Receipt.ALREADY
    assert everything(run) == before


def test_another_callback_to_the_same_url_is_refused() -> None:
    run = a_run(vendor(), task("after"))
    send(run)

    with pytest.raises(CallbackMismatchError, match="The first one counts"):
        send(run, {"accepted": False})

    assert step(run, "vendor").output == BODY


def test_of_many_callbacks_at_once_one_is_received() -> None:
    run = a_run(vendor(), task("after"))

    receipts = at_once(*[lambda: send(run)] * 4)

    assert sorted(receipts) == [Receipt.ALREADY] * 3 + [Receipt.DELIVERED]
    assert journal(run, "vendor")[-1] == ("vendor", "WAITING", "COMPLETED")


def test_a_callback_that_comes_early_is_kept_and_delivered_when_the_step_waits() -> None:
    run = a_run(task("before"), vendor(), task("after"))

    receipt = send(run)
    finish(claimed(run, "before"))

    assert receipt is Receipt.KEPT
    assert states(run) == {"before": "COMPLETED", "vendor": "COMPLETED", "after": "QUEUED"}
    assert step(run, "vendor").output == BODY
    assert broken() == []


def test_an_early_callback_twice_is_kept_once() -> None:
    run = a_run(task("before"), vendor())
    send(run)

    assert send(run) is Receipt.ALREADY
    with pytest.raises(CallbackMismatchError):
        send(run, "another")
    assert Callback.objects.filter(run=run).count() == 1


def test_an_early_callback_finds_a_step_that_is_not_born_yet() -> None:
    inner = {"id": "ask", "steps": [task("order"), vendor()]}
    run = a_run(task("before"), inner)

    receipt = send(run, path="ask.vendor")
    finish(claimed(run, "before"))
    finish(claimed(run, "ask.order"))

    assert receipt is Receipt.KEPT
    assert state(run) == "COMPLETED"


def test_whoever_runs_on_takes_what_follows_on_an_early_callback() -> None:
    run = a_run(task("before"), vendor(), task("after"))
    send(run)

    work = finish(claimed(run, "before"), run_on=True)

    assert work is not None
    assert work.path == "after"


def test_a_callback_that_comes_as_its_step_begins_to_wait_is_not_lost() -> None:
    for _ in range(10):
        run = a_run(task("before"), {"id": "ask", "steps": [vendor(), task("after")]})
        work = claimed(run, "before")

        at_once(partial(send, run, path="ask.vendor"), partial(finish, work))
        recover(now=timezone.now())

        assert states(run)["ask.vendor"] == "COMPLETED"
        assert states(run)["ask.after"] == "QUEUED"
    assert broken() == []


def dies(run: Run, call: int, *, after: bool) -> bool:
    """Have whoever receives the callback die at a call to the database; False if it need not."""
    with seam() as cut:
        cut.cut(call, after=after)
        try:
            send(run)
        except Crash:
            connection.close()
            return True
        return False


def test_a_callback_whose_receiver_died_before_it_was_delivered_is_by_recovery() -> None:
    run = a_run(vendor())
    for call in range(1, 20):
        dies(run, call, after=True)
        if Callback.objects.filter(run=run).exists():
            break

    kept, before = Callback.objects.get(run=run), state(run)
    report = recover(now=timezone.now())

    assert (kept.body, kept.delivered_at, before) == (BODY, None, "RUNNING")
    assert state(run) == "COMPLETED"
    assert report.lines == [f"run {run.pk} step vendor: its callback was there, so it goes on"]
    assert broken() == []


@pytest.mark.parametrize("after", [False, True])
def test_whichever_call_its_receiver_dies_at_nothing_is_lost_or_done_twice(after: bool) -> None:
    deaths = 0
    while True:
        run = a_run(vendor(), task("after"))
        has_died = dies(run, deaths + 1, after=after)
        send(run)
        assert states(run) == {"vendor": "COMPLETED", "after": "QUEUED"}
        if not has_died:
            break
        deaths += 1

    assert deaths > 10
    assert broken() == []


def test_recovery_delivers_nothing_to_a_step_that_does_not_wait() -> None:
    run = a_run(task("before"), vendor())
    send(run)

    assert recover(now=timezone.now()).lines == []
    assert states(run) == {"before": "QUEUED", "vendor": "PENDING"}


def test_a_paused_run_takes_its_callback() -> None:
    run = a_run(vendor(), task("after"))
    pause_run(run_id=run.pk, by=ANN)

    assert send(run) is Receipt.DELIVERED
    assert states(run) == {"vendor": "COMPLETED", "after": "QUEUED"}


def timed_out() -> Run:
    run = a_run(vendor(), task("after", join="all_done"))
    tick(now=in_future(8 * 86400))
    return run


def caught() -> Run:
    run = a_run(vendor(catch=[{"steps": [task("remind")]}]))
    tick(now=in_future(8 * 86400))
    return run


def cancelled() -> Run:
    run = a_run(vendor())
    cancel_run(run_id=run.pk, by=ANN)
    return run


def skipped() -> Run:
    return a_run(task("before"), vendor(when=False, needs=[]))


def replayed() -> Run:
    run = timed_out()
    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    return run


def pruned() -> Run:
    return Run(id=uuid7())


@pytest.mark.parametrize(
    ("over", "why"),
    [
        (timed_out, "The step vendor is FAILED and waits for no callback any more."),
        (caught, "The step vendor is busy with its fallback and waits for no callback any more."),
        (cancelled, "is CANCELLED and waits for nothing any more."),
        (skipped, "The step vendor is SKIPPED and waits for no callback any more."),
        (replayed, "This URL was for an earlier wait of the step vendor."),
        (pruned, "is over and not kept any more."),
    ],
)
def test_a_callback_that_nobody_waits_for_any_more_is_refused(over: Any, why: str) -> None:
    run = over()

    with pytest.raises(CallbackOverError) as refused:
        send(run)

    assert why in str(refused.value)


def test_a_step_in_a_block_that_is_over_waits_for_nothing() -> None:
    inner = {"id": "ask", "when": False, "steps": [vendor()]}
    run = a_run(inner, task("after"))

    with pytest.raises(CallbackOverError, match="The block ask is SKIPPED"):
        send(run, path="ask.vendor")


def test_a_replayed_wait_takes_a_callback_of_its_own() -> None:
    run = replayed()

    assert send(run, "second", attempt=2) is Receipt.DELIVERED
    assert step(run, "vendor").output == "second"
    assert broken() == []


def test_what_was_received_stays_received_when_the_run_is_over() -> None:
    run = a_run(vendor())
    send(run)

    assert state(run) == "COMPLETED"
    assert send(run) is Receipt.ALREADY


def test_a_body_that_is_too_large_is_refused_and_the_step_waits_on() -> None:
    run = a_run(vendor())

    with pytest.raises(InputRefusedError, match="at most 262,144 are kept"):
        send(run, "x" * 300_000)

    assert states(run) == {"vendor": "WAITING"}


def test_a_callback_of_which_no_output_can_be_made_is_an_incident_and_a_replay_waits_anew() -> None:
    run = a_run(vendor(output="${{ steps.vendor.output.id }}"))
    send(run, {})
    [incident] = open_incidents(run)

    replay_incident(incident_id=incident.pk, by=ANN)
    send(run, {"id": 7}, attempt=2)

    assert incident.code == "expression.error"
    assert (state(run), step(run, "vendor").output) == ("COMPLETED", 7)


def test_the_url_is_known_to_the_steps_before() -> None:
    message = "Send it to ${{ steps.vendor.callback_url }}"
    run = a_run(task("ask", **{"with": {"message": message}}), vendor())

    work = claimed(run, "ask")

    [url] = [record["callback_url"] for record in work.names["steps"].values()]
    assert url == links.callback_url(run.pk, "vendor", 1)


def test_the_url_is_known_to_what_the_engine_itself_evaluates() -> None:
    block = [{"id": "note", "set": {"url": "${{ steps.vendor.callback_url }}"}}, vendor()]
    run = a_run({"id": "ask", "steps": block}, task("before", needs=[]))

    run.refresh_from_db()

    assert run.vars == {"url": links.callback_url(run.pk, "ask.vendor", 1)}


def test_after_a_replay_the_url_is_another_one() -> None:
    run = timed_out()
    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)

    assert Wait.objects.get(run=run, closed_at=None).attempt == 2
    assert links.callback_url(run.pk, "vendor", 1) != links.callback_url(run.pk, "vendor", 2)


def test_a_failure_elsewhere_does_not_lose_an_early_callback() -> None:
    run = a_run(task("before", retry={"max_attempts": 1}), vendor())
    send(run)
    fail(claimed(run, "before"))
    with pytest.raises(CallbackOverError):
        send(run)

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    finish(claimed(run, "before", 2))

    assert (state(run), step(run, "vendor").output) == ("COMPLETED", BODY)
