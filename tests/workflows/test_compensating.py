"""Undoing a run on PostgreSQL: what is stored, sent, claimed, lost and found again."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tests.support import invariants
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    QUEUE,
    TAKER,
    a_run,
    any_claimed,
    at_once,
    claim,
    claimed,
    ends,
    fail,
    finish,
    in_future,
    journal,
    open_incidents,
    set_due,
    sql,
    state,
    states,
    step,
    task,
)
from workflows import store
from workflows.dispatch import Segment
from workflows.engine.compensating import INCOMPLETE
from workflows.engine.events import Loss
from workflows.models import Incident, Journal, Run
from workflows.selectors.undoing import undo_preview
from workflows.services.errors import InputRefusedError, StateRefusedError
from workflows.services.incidents import (
    discard_incident,
    replay_incident,
    replay_run,
    skip_incident,
)
from workflows.services.recovery import recover, release_worker
from workflows.services.runs import (
    cancel_run,
    compensate_many,
    compensate_run,
    pause_run,
    resume_run,
)
from workflows.services.timers import tick
from workflows.services.work import Taker, Work

pytestmark = pytest.mark.usefixtures("committed")


def undo(**given: Any) -> dict[str, Any]:
    """Return what undoes a step, given that as its message."""
    return {"uses": "log", "with": {"message": given or "undo"}}


def undoable(name: str, **keys: Any) -> dict[str, Any]:
    return task(name, **{"compensate": {"uses": "log", "with": {"message": "undo"}}, **keys})


def a_saga(*steps: Mapping[str, Any], **document: Any) -> Run:
    return a_run(*steps, **{"on_failure": "compensate", **document})


def a_failed_order(**document: Any) -> Run:
    """Complete `reserve` and `charge`, which can be undone, and have `ship` fail."""
    run = a_saga(undoable("reserve"), undoable("charge"), task("ship"), **document)
    for name in ("reserve", "charge"):
        finish(claimed(run, name), {"id": name})
    fail(claimed(run, "ship"))
    return run


def sent_to(sent: Recorder) -> list[tuple[str, int]]:
    """Return the steps and attempts that workers were told of."""
    return [(one.path, one.attempt) for one in sent.sent if isinstance(one, Segment)]


def sent_last(sent: Recorder) -> str:
    return sent_to(sent)[-1][0]


def undone(run: Run, path: str, **facts: Any) -> Work | None:
    """Have a worker undo a step, well."""
    return finish(claimed(run, f"{path}.compensate", **facts))


def test_a_failed_run_is_undone_step_by_step_from_the_last(sent: Recorder) -> None:
    run = a_failed_order()
    assert state(run) == "COMPENSATING"
    assert sent_last(sent) == "charge.compensate"

    undone(run, "charge")
    assert sent_last(sent) == "reserve.compensate"
    undone(run, "reserve")

    assert state(run) == "COMPENSATED"
    assert states(run) == {
        "reserve": "COMPENSATED",
        "reserve.compensate": "COMPLETED",
        "charge": "COMPENSATED",
        "charge.compensate": "COMPLETED",
        "ship": "FAILED",
    }
    assert invariants.left_over() == []


def test_a_compensated_run_keeps_why_it_failed_and_has_no_open_incident() -> None:
    run = a_failed_order()
    [incident] = Incident.objects.filter(run=run)
    assert (incident.resolution, incident.resolved_by) == ("compensated", "engine")

    undone(run, "charge")
    undone(run, "reserve")

    run.refresh_from_db()
    assert run.error["code"] == "test.broken"
    assert run.finished_at is not None


def test_a_step_keeps_its_output_and_the_time_of_its_completion_when_it_is_undone() -> None:
    run = a_failed_order()
    before = step(run, "charge").finished_at

    undone(run, "charge")

    assert step(run, "charge").output == {"id": "charge"}
    assert step(run, "charge").finished_at == before


def test_a_worker_runs_on_from_the_failure_to_the_undo_and_to_the_next() -> None:
    run = a_saga(undoable("reserve"), undoable("charge"), task("ship"))
    finish(claimed(run, "reserve"))
    finish(claimed(run, "charge"))

    first = fail(claimed(run, "ship"), run_on=True)
    assert first is not None
    assert first.path == "charge.compensate"

    second = finish(first, run_on=True)
    assert second is not None
    assert second.path == "reserve.compensate"


def test_an_undo_is_given_what_its_step_gave_and_why_the_run_failed() -> None:
    arguments = {"message": "${{ steps.charge.output.id }} for ${{ error.message }}"}
    charge = undoable("charge", compensate={"uses": "log", "with": arguments})
    run = a_saga(charge, task("ship"))
    finish(claimed(run, "charge"), {"id": 7})
    fail(claimed(run, "ship"))

    work = claimed(run, "charge.compensate")

    assert work.arguments == arguments
    assert work.names["steps"]["charge"]["output"] == {"id": 7}
    assert work.names["error"]["message"] == "ship: It broke."


def test_steps_that_are_completed_at_the_same_time_are_undone_in_the_order_of_their_ends() -> None:
    block = {"id": "block", "steps": [undoable("inner")], "compensate": undo()}
    now = in_future(0)
    run = a_saga(block, undoable("after"), task("ship"))
    for path in ("block.inner", "after"):
        finish(claimed(run, path, now=now), now=now)

    fail(claimed(run, "ship", now=now), now=now)
    for path in ("after", "block", "block.inner"):
        undone(run, path)

    assert state(run) == "COMPENSATED"
    assert invariants.left_over() == []


def test_a_wrong_clock_does_not_change_the_order() -> None:
    run = a_saga(undoable("first"), undoable("second"), task("ship"))
    finish(claimed(run, "first", now=in_future(60)), now=in_future(60))
    finish(claimed(run, "second"))

    fail(claimed(run, "ship"))

    assert states(run)["second"] == "COMPENSATING"


def test_only_one_of_two_workers_gets_an_undo() -> None:
    run = a_failed_order()
    takers = [Taker(f"worker-{n}", QUEUE) for n in range(2)]

    got = at_once(*(lambda one=one: claim(run, "charge.compensate", taker=one) for one in takers))

    assert sum(work is not None for work in got) == 1


def test_an_undo_is_not_among_what_a_fan_out_takes_before_it_is_its_turn() -> None:
    run = a_failed_order()

    first = any_claimed(run)
    assert first is not None
    assert first.path == "charge.compensate"
    assert any_claimed(run) is None


def test_a_failed_undo_is_tried_again_when_it_is_due() -> None:
    run = a_failed_order()

    fail(claimed(run, "charge.compensate"), "transient")
    set_due(run, "charge.compensate")
    tick(now=timezone.now())
    undone(run, "charge", attempt=2)

    assert ends(run, "charge.compensate") == [(1, "failed"), (2, "completed")]
    assert states(run)["charge"] == "COMPENSATED"


def test_an_undo_whose_worker_is_silent_is_found_and_done_again(sent: Recorder) -> None:
    run = a_failed_order()
    claimed(run, "charge.compensate")
    set_due(run, "charge.compensate")
    sent.forget()

    recover(now=timezone.now())

    assert step(run, "charge.compensate").state == "QUEUED"
    assert sent_to(sent) == [("charge.compensate", 2)]
    assert ends(run, "charge.compensate") == [(1, "lost")]


def test_an_undo_whose_worker_has_died_is_done_again_at_once() -> None:
    run = a_failed_order()
    claimed(run, "charge.compensate")

    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=timezone.now())
    undone(run, "charge", attempt=2)

    assert states(run)["charge"] == "COMPENSATED"


def test_an_undo_that_must_not_be_repeated_is_left_to_a_person_when_it_is_lost() -> None:
    pay_back = {"uses": "shell.run", "with": {"command": ["true"]}}
    run = a_saga(undoable("charge", compensate=pay_back), task("ship"))
    finish(claimed(run, "charge"))
    fail(claimed(run, "ship"))
    claimed(run, "charge.compensate")

    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=timezone.now())

    [incident] = open_incidents(run)
    assert (incident.path, incident.error_class) == ("charge.compensate", "uncertain")
    assert state(run) == "FAILED"


def test_the_late_word_of_a_lost_undo_is_kept_and_changes_nothing() -> None:
    run = a_failed_order()
    work = claimed(run, "charge.compensate")
    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=timezone.now())

    finish(work, {"late": True})

    assert states(run)["charge"] == "COMPENSATING"
    late = step(run, "charge.compensate").attempts.get(number=1).late
    assert late["output"] == {"late": True}


def test_an_undo_whose_message_was_lost_is_sent_again(sent: Recorder) -> None:
    run = a_failed_order()
    set_due(run, "charge.compensate")
    sent.forget()

    recover(now=timezone.now())

    assert sent_to(sent) == [("charge.compensate", 1)]


def test_an_undo_that_nobody_began_after_a_crash_is_found(sent: Recorder) -> None:
    run = a_failed_order()
    sql("SELECT set_config('orchestrator.actor', 'test', false)")
    sql("DELETE FROM workflows_step WHERE run_id = %s AND path = 'charge.compensate'", run.pk)
    sent.forget()

    recover(now=in_future(11))

    assert sent_to(sent) == [("charge.compensate", 1)]
    assert states(run)["charge.compensate"] == "QUEUED"


def an_incomplete_undo() -> tuple[Run, Incident]:
    """Have `charge` not be undone, and `reserve` be."""
    run = a_failed_order()
    fail(claimed(run, "charge.compensate"))
    undone(run, "reserve")
    [incident] = open_incidents(run)
    return run, incident


def test_a_run_of_which_something_is_not_undone_fails_and_says_what() -> None:
    run, incident = an_incomplete_undo()

    run.refresh_from_db()
    assert (run.state, run.error["code"]) == ("FAILED", INCOMPLETE)
    assert "not undone is charge" in run.error["message"]
    assert incident.path == "charge.compensate"
    assert invariants.broken() == []


def test_replaying_the_incident_with_other_arguments_completes_the_undo() -> None:
    run, incident = an_incomplete_undo()

    replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)
    assert state(run) == "COMPENSATING"
    work = claimed(run, "charge.compensate", 2)
    assert work.arguments == {"message": "mended"}
    finish(work)

    assert state(run) == "COMPENSATED"
    assert Run.objects.get(pk=run.pk).error["code"] == "test.broken"
    assert invariants.left_over() == []


def test_an_undo_cannot_be_given_arguments_that_its_task_does_not_take() -> None:
    _, incident = an_incomplete_undo()

    with pytest.raises(InputRefusedError, match="cannot be given this"):
        replay_incident(incident_id=incident.pk, arguments={"wrong": 1}, by=ANN)


def test_replaying_a_run_replays_every_undo_that_failed_one_after_the_other() -> None:
    run = a_failed_order()
    fail(claimed(run, "charge.compensate"))
    fail(claimed(run, "reserve.compensate"))

    report = replay_run(run_id=run.pk, by=ANN)

    assert len(report.done) == 2
    assert sorted(states(run).values()).count("QUEUED") == 1
    for path, row in sorted(states(run).items(), key=lambda one: one[1] != "QUEUED")[:1]:
        assert row == "QUEUED"
        finish(claimed(run, path, 2))
    [other] = [path for path, row in states(run).items() if row == "QUEUED"]
    finish(claimed(run, other, 2))
    assert state(run) == "COMPENSATED"
    assert invariants.left_over() == []


def test_skipping_or_discarding_the_incident_ends_the_run_as_compensated() -> None:
    skipped, one = an_incomplete_undo()
    discarded, other = an_incomplete_undo()

    skip_incident(incident_id=one.pk, note="Done by hand.", by=ANN)
    discard_incident(incident_id=other.pk, note="The customer keeps it.", by=ANN)

    assert state(skipped) == state(discarded) == "COMPENSATED"
    assert states(skipped)["charge"] == "COMPENSATED"
    assert states(discarded)["charge"] == "COMPENSATION_FAILED"
    assert invariants.left_over() == []


def test_what_is_uncertain_stays_open_while_and_after_the_run_is_undone() -> None:
    pay = {"id": "pay", "uses": "shell.run", "with": {"command": ["true"]}}
    run = a_saga(undoable("reserve"), pay)
    finish(claimed(run, "reserve"))
    claimed(run, "pay")
    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=timezone.now())
    undone(run, "reserve")

    [incident] = open_incidents(run)

    assert (state(run), incident.error_class) == ("COMPENSATED", "uncertain")
    with pytest.raises(StateRefusedError):
        replay_incident(incident_id=incident.pk, by=ANN)
    discard_incident(incident_id=incident.pk, note="It was not paid.", by=ANN)
    assert invariants.left_over() == []


def a_failed_run() -> Run:
    """Have a run fail that is not undone by itself."""
    run = a_run(undoable("reserve"), task("ship"))
    finish(claimed(run, "reserve"))
    fail(claimed(run, "ship"))
    return run


def test_a_person_has_a_failed_run_undone() -> None:
    run = a_failed_run()

    assert compensate_run(run_id=run.pk, by=ANN).state == "COMPENSATING"
    undone(run, "reserve")

    assert state(run) == "COMPENSATED"
    began = Journal.objects.get(run=run, path="", after="COMPENSATING")
    assert began.actor == ANN
    assert Incident.objects.get(run=run).resolved_by == ANN


def test_two_people_have_a_run_undone_once() -> None:
    run = a_failed_run()

    def ask() -> bool:
        try:
            compensate_run(run_id=run.pk, by=ANN)
        except StateRefusedError:
            return False
        return True

    assert sorted(at_once(ask, ask)) == [False, True]
    assert invariants.broken() == []


def test_a_run_that_cannot_be_undone_says_why() -> None:
    nothing = a_run(task("ship"))
    fail(claimed(nothing, "ship"))
    running = a_run(undoable("reserve"))
    tried, _ = an_incomplete_undo()

    report = compensate_many(run_ids=[nothing.pk, running.pk, tried.pk], by=ANN)

    reasons = [refusal.why for refusal in report.refused]
    assert "no step of it that was completed says how" in reasons[0]
    assert "is RUNNING and cannot be undone" in reasons[1]
    assert "incidents of what is left" in reasons[2]


def test_a_failed_run_can_be_replayed_until_it_is_undone() -> None:
    run = a_failed_run()
    [incident] = open_incidents(run)
    compensate_run(run_id=run.pk, by=ANN)

    with pytest.raises(StateRefusedError):
        replay_incident(incident_id=incident.pk, by=ANN)


def test_a_run_is_cancelled_and_undone() -> None:
    run = a_run(undoable("reserve"), undoable("charge"), task("ship"))
    finish(claimed(run, "reserve"))
    work = claimed(run, "charge")

    assert cancel_run(run_id=run.pk, compensate=True, by=ANN).state == "RUNNING"
    finish(work)
    undone(run, "charge")
    undone(run, "reserve")

    assert state(run) == "COMPENSATED"
    assert Run.objects.get(pk=run.pk).error["code"] == "run.cancelled"
    assert invariants.left_over() == []


def test_a_paused_run_is_cancelled_and_undone_at_once() -> None:
    run = a_run(undoable("reserve"), task("ship"))
    finish(claimed(run, "reserve"))
    pause_run(run_id=run.pk, by=ANN)

    assert cancel_run(run_id=run.pk, compensate=True, by=ANN).state == "COMPENSATING"
    assert states(run)["ship"] == "CANCELLED"


def test_cancelling_a_run_that_is_undone_stops_after_what_is_under_way() -> None:
    run = a_failed_order()
    work = claimed(run, "charge.compensate")

    cancel_run(run_id=run.pk, by=ANN)
    assert state(run) == "CANCELLING"
    assert store.cancel_requested(run.pk, "charge.compensate", 1)
    finish(work)

    assert state(run) == "CANCELLED"
    assert (states(run)["charge"], states(run)["reserve"]) == ("COMPENSATED", "COMPLETED")
    assert invariants.left_over() == []


def test_cancelling_withdraws_an_undo_that_nobody_has_begun() -> None:
    run = a_failed_order()

    cancel_run(run_id=run.pk, by=ANN)

    assert state(run) == "CANCELLED"
    assert states(run)["charge"] == "COMPENSATION_FAILED"
    assert claim(run, "charge.compensate") is None
    assert invariants.left_over() == []


def test_a_run_that_is_undone_cannot_be_paused() -> None:
    run = a_failed_order()

    with pytest.raises(StateRefusedError, match="COMPENSATING and cannot be paused"):
        pause_run(run_id=run.pk, by=ANN)


def test_a_run_that_fails_while_it_is_paused_is_undone_when_it_goes_on() -> None:
    run = a_saga(undoable("reserve"), task("ship"))
    finish(claimed(run, "reserve"))
    work = claimed(run, "ship")
    pause_run(run_id=run.pk, by=ANN)
    fail(work)
    assert state(run) == "PAUSED"

    resume_run(run_id=run.pk, by=ANN)

    assert state(run) == "COMPENSATING"
    assert states(run)["reserve.compensate"] == "QUEUED"


def test_a_run_whose_time_is_up_is_undone() -> None:
    run = a_saga(undoable("reserve"), task("ship"), timeout="60s")
    finish(claimed(run, "reserve"))

    tick(now=in_future(61))
    undone(run, "reserve")

    assert state(run) == "COMPENSATED"
    assert Run.objects.get(pk=run.pk).error["code"] == "run.timeout"
    assert invariants.left_over() == []


def test_the_next_step_to_undo_is_found_by_an_index() -> None:
    run = a_failed_order()
    sql("ANALYZE workflows_step")

    with store.session().cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        plan = cursor.execute(
            "EXPLAIN SELECT path FROM workflows_step WHERE run_id = %s"
            " AND completion IS NOT NULL AND state = 'COMPLETED'"
            " ORDER BY completion DESC LIMIT 1",
            (run.pk,),
        ).fetchall()
        cursor.execute("RESET enable_seqscan")

    text = str(plan)
    assert "steps_to_be_undone" in text
    assert "Sort" not in text


def test_a_lease_of_an_undo_is_renewed() -> None:
    run = a_failed_order()
    work = claimed(run, "charge.compensate")

    stop = store.renew(run.pk, work.path, 1, until=timezone.now() + timedelta(seconds=30))

    assert stop is False


def test_the_journal_tells_how_a_step_was_undone() -> None:
    run = a_failed_order()
    undone(run, "charge")

    lines = [line[1:] for line in journal(run, "charge")][-2:]

    assert lines == [("COMPLETED", "COMPENSATING"), ("COMPENSATING", "COMPENSATED")]


def test_a_step_that_never_answered_stays_open_when_its_run_has_been_undone() -> None:
    run = a_saga(undoable("reserve"), undoable("charge", retry={"max_attempts": 1}))
    finish(claimed(run, "reserve"))
    fail(claimed(run, "charge"), "timeout")
    shown = undo_preview(run.pk)["lasting"]
    undone(run, "reserve")

    [incident] = open_incidents(run)

    assert (state(run), states(run)["charge"]) == ("COMPENSATED", "FAILED")
    assert (incident.path, incident.error_class) == ("charge", "uncertain")
    assert [(one["path"], one["why"][:6]) for one in shown] == [("charge", "nobody")]
    discard_incident(incident_id=incident.pk, note="It was not charged.", by=ANN)
    assert invariants.left_over() == []
