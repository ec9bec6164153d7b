"""Incidents: what a person may do about a failed step, and what becomes of the run."""

from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tests.support import invariants
from tests.workflows.builders import (
    ANN,
    a_run,
    claimed,
    ends,
    fail,
    finish,
    in_future,
    open_incidents,
    set_due,
    sql,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows.language.checks import availability
from workflows.models import Incident, Journal, Run
from workflows.services.errors import InputRefusedError, StateRefusedError
from workflows.services.incidents import (
    discard_incident,
    discard_many,
    replay_incident,
    replay_many,
    replay_run,
    skip_incident,
    skip_many,
)
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run
from workflows.services.timers import tick

pytestmark = pytest.mark.usefixtures("committed")

OPEN = {"type": "object", "properties": {"rows": {"type": "integer"}}}


def a_failed_run() -> tuple[Run, Incident]:
    """Complete `fetch` and have `load` fail; `report` waits for it."""
    run = a_run(task("fetch"), task("load"), task("report"))
    finish(claimed(run, "fetch"))
    fail(claimed(run, "load"))
    [incident] = open_incidents(run)
    return run, incident


def test_a_replay_takes_a_failed_run_to_its_end_and_repeats_nothing_that_was_done() -> None:
    run, incident = a_failed_run()
    assert state(run) == "FAILED"

    replay_incident(incident_id=incident.pk, by=ANN)
    assert state(run) == "RUNNING"
    work_off(run)

    assert state(run) == "COMPLETED"
    assert {path: ends(run, path) for path in states(run)} == {
        "fetch": [(1, "completed")],
        "load": [(1, "failed"), (2, "completed")],
        "report": [(1, "completed")],
    }


def test_corrected_arguments_are_what_the_next_attempt_gets() -> None:
    run, incident = a_failed_run()

    replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)

    assert claimed(run, "load", 2).arguments == {"message": "mended"}


def test_corrected_arguments_may_name_what_the_definition_did_not() -> None:
    run, incident = a_failed_run()

    arguments = {"message": "${{ run.workflow }} ${{ steps.fetch.state }}"}
    replay_incident(incident_id=incident.pk, arguments=arguments, by=ANN)

    names = claimed(run, "load", 2).names
    assert names["run"]["workflow"] == run.workflow.name
    assert names["steps"]["fetch"]["state"] == "COMPLETED"


def test_no_arguments_at_all_is_a_correction_too() -> None:
    run = a_run(task("load", "fail", **{"with": {"times": 1}}))
    fail(claimed(run, "load"))

    replay_incident(incident_id=open_incidents(run)[0].pk, arguments={}, by=ANN)

    assert claimed(run, "load", 2).arguments == {}


def a_run_with_a_condition_that_failed() -> tuple[Run, Incident]:
    """Have `pay` fail for its condition names a variable, which only `allow` sets, too late."""
    run = a_run(
        task("gate"),
        {"id": "allow", "set": {"go": True}},
        task("pay", needs=[], when="${{ vars.go }}", retry={"initial_delay": 0}),
    )
    [incident] = open_incidents(run)
    return run, incident


def test_arguments_corrected_after_a_failed_condition_are_what_the_first_attempt_gets() -> None:
    run, incident = a_run_with_a_condition_that_failed()
    finish(claimed(run, "gate"))

    replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)

    assert claimed(run, "pay", 1).arguments == {"message": "mended"}


def test_a_correction_lasts_through_later_replays_retries_and_losses() -> None:
    run, incident = a_run_with_a_condition_that_failed()
    replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)
    finish(claimed(run, "gate"))

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    given = [claimed(run, "pay", 1)]
    recover(now=in_future(31))
    given.append(claimed(run, "pay", 2))
    given.append(fail(given[-1], "transient", run_on=True))
    fail(given[-1])
    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    given.append(claimed(run, "pay", 4))

    assert [work.attempt for work in given] == [1, 2, 3, 4]
    assert [work.arguments for work in given] == [{"message": "mended"}] * 4


def test_a_correction_on_a_fallback_path_may_name_the_error_that_it_answers() -> None:
    run = a_run(task("load", catch=[{"steps": [task("tell")]}]))
    fail(claimed(run, "load"))
    fail(claimed(run, "load.catch[0].tell"))

    [incident] = open_incidents(run)
    arguments = {"message": "${{ error.code }}"}
    replay_incident(incident_id=incident.pk, arguments=arguments, by=ANN)

    assert claimed(run, "load.catch[0].tell", 2).names["error"]["code"] == "test.broken"


def test_a_replay_inside_a_fallback_takes_the_step_around_it_no_second_time() -> None:
    run = a_run(task("load", catch=[{"steps": [task("tell")]}]))
    fail(claimed(run, "load"))
    fail(claimed(run, "load.catch[0].tell"))
    [incident] = open_incidents(run)

    replay_incident(incident_id=incident.pk, by=ANN)
    finish(claimed(run, "load.catch[0].tell", 2))

    assert ends(run, "load") == [(1, "failed")]
    assert invariants.left_over(runs=[run.pk]) == []


def test_an_attempt_that_two_have_taken_is_seen() -> None:
    run = a_run(task("only"))
    claimed(run, "only")

    with transaction.atomic():
        sql("SET LOCAL session_replication_role = replica")
        sql(
            "INSERT INTO workflows_journal"
            " (run_id, step_id, path, attempt, before, after, reason, actor, at)"
            " SELECT run_id, step_id, path, attempt, before, after, reason, actor, at"
            " FROM workflows_journal WHERE run_id = %s AND after = 'RUNNING' AND path <> ''",
            run.pk,
        )

    assert any("an attempt is taken once" in one for one in invariants.broken(runs=[run.pk]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "log needs the parameter message"),
        ({"mesage": "mended"}, r"arguments.mesage: .*did you mean message"),
        ({"message": 7}, "arguments.message: .* must be of type string"),
        ({"message": "x", "fields": {"n": "${{ 1 + }}"}}, r"arguments.fields.n: "),
        ({"message": "${{ stepps.fetch.state }}"}, "the name stepps is not known"),
        ({"message": "${{ steps.fetsch.state }}"}, "there is no step fetsch"),
        ({"message": "${{ steps.report.state }}"}, "report cannot have finished"),
    ],
)
def test_a_correction_is_checked_as_a_definition_is_and_refused_when_it_is_given(
    arguments: dict[str, Any], said: str
) -> None:
    run, incident = a_failed_run()

    with pytest.raises(InputRefusedError, match=said) as refused:
        replay_incident(incident_id=incident.pk, arguments=arguments, by=ANN)

    assert str(refused.value).startswith("The step load cannot be given this")
    assert all(one["path"].startswith("arguments") for one in refused.value.findings)
    assert open_incidents(run) == [incident]


def test_a_correction_is_not_answerable_for_the_rest_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, incident = a_failed_run()
    monkeypatch.setattr(availability, "NOT_YET", frozenset({"step.uses"}))

    replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)

    assert claimed(run, "load", 2).arguments == {"message": "mended"}


def test_a_block_takes_no_arguments() -> None:
    run = a_run_out_of_time()
    incident = run.incidents.get(path="block")

    with pytest.raises(InputRefusedError, match="block calls no task"):
        replay_incident(incident_id=incident.pk, arguments={"message": "mended"}, by=ANN)

    assert incident in open_incidents(run)


def test_a_skipped_step_counts_as_done_with_the_output_it_was_given() -> None:
    run, incident = a_failed_run()

    skip_incident(incident_id=incident.pk, output={"rows": 7}, by=ANN)
    work_off(run)

    assert state(run) == "COMPLETED"
    assert step(run, "load").output == {"rows": 7}
    assert step(run, "load").reason == "skipped_by_operator"


def test_a_discarded_step_leaves_the_run_failed() -> None:
    run, incident = a_failed_run()

    discard_incident(incident_id=incident.pk, note="Not worth it.", by=ANN)

    assert state(run) == "FAILED"
    assert states(run)["load"] == "SKIPPED"
    assert not open_incidents(run)


def test_a_discard_without_a_note_is_refused() -> None:
    run, incident = a_failed_run()

    with pytest.raises(InputRefusedError, match="note"):
        discard_incident(incident_id=incident.pk, note=" ", by=ANN)

    assert open_incidents(run) == [incident]


def test_a_resolved_incident_is_not_resolved_again() -> None:
    _, incident = a_failed_run()
    replay_incident(incident_id=incident.pk, by=ANN)

    with pytest.raises(StateRefusedError, match="replayed by person:ann"):
        skip_incident(incident_id=incident.pk, by="person:ben")


def test_the_journal_names_who_replayed() -> None:
    run, incident = a_failed_run()

    replay_incident(incident_id=incident.pk, by="person:ben")

    by_ben = Journal.objects.filter(run=run, actor="person:ben")
    assert set(by_ben.values_list("path", "before", "after")) == {
        ("", "FAILED", "RUNNING"),
        ("load", "FAILED", "QUEUED"),
        ("report", "SKIPPED", "PENDING"),
    }


def test_cancelling_a_run_closes_its_incidents() -> None:
    run = a_run(task("bad"), task("slow", needs=[]))
    fail(claimed(run, "bad"))

    cancel_run(run_id=run.pk, by=ANN)

    assert state(run) == "CANCELLED"
    assert [one.resolution for one in run.incidents.all()] == ["cancelled"]


def test_a_step_that_fails_again_after_a_replay_has_an_incident_of_its_own_again() -> None:
    run, incident = a_failed_run()

    replay_incident(incident_id=incident.pk, by=ANN)
    fail(claimed(run, "load", 2))

    assert state(run) == "FAILED"
    assert [one.attempt for one in open_incidents(run)] == [2]


def a_run_out_of_time() -> Run:
    """Have a step fail in a block, and then the block use up its time."""
    block = {"id": "block", "parallel": [task("bad"), task("slow")], "timeout": 60}
    run = a_run(block)
    fail(claimed(run, "block.bad"))
    slow = claimed(run, "block.slow")
    set_due(run, "block")
    tick(now=timezone.now())
    fail(slow, "cancelled")
    assert [one.path for one in open_incidents(run)] == ["block.bad", "block"]
    return run


@pytest.mark.parametrize("path", ["block", "block.bad"])
def test_what_a_replay_reopens_has_no_open_incident_left_and_may_fail_again(path: str) -> None:
    run = a_run_out_of_time()

    replay_incident(incident_id=run.incidents.get(path=path).pk, by=ANN)
    assert not open_incidents(run)
    fail(claimed(run, "block.bad", 2))

    assert [one.path for one in open_incidents(run)] == ["block.bad"]


def test_a_step_that_fails_at_once_when_it_is_replayed_has_an_incident_of_its_own_again() -> None:
    run = a_run({"id": "total", "set": {"total": "${{ input.rows + 1 }}"}}, input=OPEN)
    [incident] = open_incidents(run)

    replay_incident(incident_id=incident.pk, by=ANN)

    incident.refresh_from_db()
    assert (incident.resolution, incident.resolved_by) == ("replayed", ANN)
    assert [one.path for one in open_incidents(run)] == ["total"]
    assert state(run) == "FAILED"


def test_a_step_is_replayed_in_a_run_that_an_exit_has_ended() -> None:
    leave = {"id": "leave", "exit": {"status": "completed"}, "needs": ["quick"]}
    run = a_run(task("bad", needs=[]), task("quick", needs=[]), leave)
    fail(claimed(run, "bad"))
    finish(claimed(run, "quick"))
    assert state(run) == "FAILED"

    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    work_off(run)

    assert state(run) == "COMPLETED"


def test_skipping_a_block_leaves_no_incident_inside_it_that_nobody_could_replay() -> None:
    run = a_run_out_of_time()

    skip_incident(incident_id=run.incidents.get(path="block").pk, note="Done by hand.", by=ANN)

    assert state(run) == "COMPLETED"
    assert [one.resolution for one in run.incidents.all()] == ["skipped", "skipped"]


def test_a_run_is_replayed_whole_when_one_replay_resolves_several_incidents() -> None:
    run = a_run_out_of_time()

    report = replay_run(run_id=run.pk, by=ANN)
    work_off(run)

    assert not report.refused
    assert state(run) == "COMPLETED"


@pytest.mark.parametrize("many", [replay_many, skip_many, partial(discard_many, note="Given up.")])
def test_what_is_resolved_with_another_of_the_same_selection_is_reported_as_done(many: Any) -> None:
    run = a_run_out_of_time()
    chosen = [run.incidents.get(path=path).pk for path in ("block", "block.bad")]

    report = many(incident_ids=chosen, by=ANN)

    assert (report.done, report.refused) == (tuple(chosen), ())


def test_what_somebody_else_has_resolved_is_reported_as_refused() -> None:
    run = a_run_out_of_time()
    chosen = list(run.incidents.values_list("pk", flat=True))
    replay_run(run_id=run.pk, by="person:ben")

    report = replay_many(incident_ids=chosen, by=ANN)

    assert report.done == ()
    assert {one.id for one in report.refused} == set(chosen)


def test_a_run_whose_time_was_up_is_replayed_with_time_anew_and_without_an_incident() -> None:
    run = a_run(task("first"), task("slow"), task("last"), timeout=60)
    finish(claimed(run, "first"))
    slow = claimed(run, "slow")
    tick(now=in_future(61))
    fail(slow, "cancelled")
    assert (state(run), open_incidents(run)) == ("FAILED", [])

    report = replay_run(run_id=run.pk, by=ANN)
    work_off(run)

    run.refresh_from_db()
    assert (report.sentence(), run.state) == ("Replay: 1 done.", "COMPLETED")
    assert [len(ends(run, path)) for path in ("first", "slow", "last")] == [1, 2, 1]


def test_a_run_that_was_given_up_whole_has_nothing_to_replay() -> None:
    run, incident = a_failed_run()
    discard_incident(incident_id=incident.pk, note="Not worth it.", by=ANN)

    with pytest.raises(StateRefusedError, match="nothing to replay"):
        replay_run(run_id=run.pk, by=ANN)


def test_skipping_a_loop_whose_time_was_up_closes_the_incidents_of_its_items() -> None:
    loop = {"id": "all", "foreach": "${{ 2 }}", "on_item_failure": "continue", "timeout": "60s"}
    run = a_run({**loop, "steps": [task("item")]})
    fail(claimed(run, "all[0].item"))
    tick(now=in_future(61))
    [outer] = [one for one in open_incidents(run) if one.path == "all"]

    skip_incident(incident_id=outer.pk, by=ANN)

    assert state(run) == "COMPLETED"
    assert open_incidents(run) == []
    assert invariants.left_over() == []
