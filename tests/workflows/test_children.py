"""Child runs: begun once, heard of once, ended with the step that waits for them."""

import json
from typing import Any
from uuid import UUID

import pytest

from environments.models import Environment
from environments.services import create_environment, move_environment
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    a_run,
    a_version,
    at_once,
    claimed,
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
from workflows import store
from workflows.dispatch import Attend
from workflows.models import Incident, Run, Wait
from workflows.services import children, concurrency
from workflows.services.definitions import apply_definition, doubts_about
from workflows.services.errors import InputRefusedError
from workflows.services.incidents import (
    discard_incident,
    replay_incident,
    replay_run,
)
from workflows.services.recovery import recover
from workflows.services.runs import cancel_run, pause_run, resume_run, start_run
from workflows.services.timers import tick
from workflows.store import concurrency as concurrency_rows

pytestmark = pytest.mark.usefixtures("committed")

BEN = "person:ben"
ONE_AT_A_TIME = {"key": "all", "limit": 1}
ORDER = {"type": "object", "required": ["order"], "properties": {"order": {"type": "integer"}}}


def call(workflow: str, name: str = "call", **keys: Any) -> dict[str, Any]:
    return {"id": name, "workflow": workflow, **keys}


def a_child(*steps: dict[str, Any], **document: Any) -> str:
    """Apply a workflow that others call."""
    return a_version(*(steps or [task("work")]), **document).workflow.name


def attended(run: Run) -> Run:
    """Have the engine see to the child runs of a run, and return the newest of them."""
    children.attend(run_id=run.pk)
    return the_child(run)


def the_child(run: Run) -> Run:
    return Run.objects.filter(parent=run.pk).latest("id")


def the_children(run: Run) -> list[str]:
    found = Run.objects.filter(parent=run.pk).order_by("id")
    return list(found.values_list("state", flat=True))


def wait(run: Run, path: str = "call") -> Wait:
    return Wait.objects.filter(run=run, path=path).latest("attempt")


def fail_in(child: Run, path: str = "work", attempt: int = 1) -> None:
    fail(claimed(child, path, attempt))


def test_a_step_waits_for_its_child_run_and_goes_on_with_its_output() -> None:
    name = a_child(task("work"), output={"made": "${{ steps.work.output.made }}"})
    run = a_run(call(name), task("after"))

    child = attended(run)
    finish(claimed(child, "work"), {"made": 3})
    children.attend(run_id=run.pk)

    assert states(run) == {"call": "COMPLETED", "after": "QUEUED"}
    assert step(run, "call").output == {"made": 3}
    assert (child.parent_id, child.parent_path) == (run.pk, "call")


def test_the_child_run_is_given_what_with_says_and_is_its_parents_starters() -> None:
    name = a_child(input=ORDER)
    run = a_run(
        {"id": "first", "set": {"order": 7}}, call(name, **{"with": {"order": "${{ vars.order }}"}})
    )

    child = attended(run)

    assert child.input == {"order": 7}
    assert child.started_by == ANN


def test_the_child_run_is_of_the_newest_version_when_it_starts_or_of_the_one_that_is_named() -> (
    None
):
    first = a_version(task("work"))
    name = first.workflow.name
    run = a_run({"id": "both", "parallel": [call(name, "newest"), call(name, "named", version=1)]})
    text = json.dumps({"workflow": name, "steps": [task("other")]})
    apply_definition(text=text, source="test.yaml", by=ANN)

    children.attend(run_id=run.pk)

    found = Run.objects.filter(parent=run.pk)
    assert dict(found.values_list("parent_path", "version__number")) == {
        "both.newest": 2,
        "both.named": 1,
    }


def test_the_engine_is_asked_to_see_to_a_child_run_when_it_is_due_and_when_it_has_ended(
    sent: Recorder,
) -> None:
    run = a_run(call(a_child()))
    begun = list(sent.sent)

    child = attended(run)
    sent.forget()
    finish(claimed(child, "work"))

    assert begun == [Attend(run.pk)]
    assert sent.sent == [Attend(run.pk)]


def test_a_child_run_that_ends_in_the_locked_way_is_told_of_too(sent: Recorder) -> None:
    run = a_run(call(a_child({"id": "all", "parallel": [task("a"), task("b")]})))
    child = attended(run)
    finish(claimed(child, "all.a"))
    sent.forget()

    finish(claimed(child, "all.b"))

    assert Attend(run.pk) in sent.sent


def test_a_child_run_is_started_once_however_often_and_by_how_many_it_is_seen_to() -> None:
    run = a_run(call(a_child()))

    at_once(*(lambda: children.attend(run_id=run.pk) for _ in range(5)))
    children.attend(run_id=run.pk)

    assert the_children(run) == ["RUNNING"]


def test_a_child_run_that_nobody_was_asked_to_start_is_started_by_the_sweep() -> None:
    run = a_run(call(a_child()))

    report = recover(now=in_future(0))

    assert the_children(run) == ["RUNNING"]
    assert any("child runs were seen to" in line for line in report.lines)


def test_the_end_of_a_child_run_that_nobody_told_is_told_by_the_sweep() -> None:
    run = a_run(call(a_child()))
    work_off(attended(run))

    recover(now=in_future(0))

    assert state(run) == "COMPLETED"


def test_many_children_that_end_at_the_same_time_are_all_told() -> None:
    name = a_child()
    run = a_run({"id": "all", "parallel": [call(name, f"c{n}") for n in range(6)]}, task("after"))
    children.attend(run_id=run.pk)
    found = list(Run.objects.filter(parent=run.pk))

    def end(child: Run) -> None:
        finish(claimed(child, "work"))
        children.attend(run_id=run.pk)

    at_once(*(lambda child=child: end(child) for child in found))

    assert step(run, "all").state == "COMPLETED"
    assert step(run, "after").state == "QUEUED"


def test_a_child_run_that_ends_as_it_starts_is_told() -> None:
    run = a_run(call(a_child({"id": "only", "set": {"x": 1}}, output="${{ vars.x }}")))

    children.attend(run_id=run.pk)
    children.attend(run_id=run.pk)

    assert state(run) == "COMPLETED"
    assert step(run, "call").output == 1


def test_the_failure_of_a_child_run_is_the_steps_with_where_it_is() -> None:
    name = a_child()
    run = a_run(call(name))
    child = attended(run)

    fail_in(child)
    children.attend(run_id=run.pk)

    [incident] = open_incidents(run)
    assert (incident.error_class, incident.code) == ("permanent", "test.broken")
    assert incident.message == f"the child run {child.pk} of {name} failed: work: It broke."
    assert incident.details == {"run": str(child.pk), "workflow": name}
    assert state(run) == "FAILED"


def test_the_failure_of_a_child_run_can_be_caught() -> None:
    caught = [{"on": ["test.broken"], "steps": [task("instead")]}]
    run = a_run(call(a_child(), catch=caught))

    fail_in(attended(run))
    children.attend(run_id=run.pk)
    work_off(run)

    assert state(run) == "COMPLETED"
    assert open_incidents(run) == []


def test_the_failure_of_an_optional_child_run_counts_as_done() -> None:
    run = a_run(call(a_child(), optional=True), task("after"))

    fail_in(attended(run))
    children.attend(run_id=run.pk)

    assert states(run) == {"call": "FAILED", "after": "QUEUED"}
    assert open_incidents(run) == []


def test_a_child_run_that_a_person_cancels_fails_its_step() -> None:
    run = a_run(call(a_child()))

    cancel_run(run_id=attended(run).pk, by=BEN)
    children.attend(run_id=run.pk)

    [incident] = open_incidents(run)
    assert (incident.error_class, incident.code) == ("cancelled", "child.cancelled")


@pytest.mark.parametrize(
    ("keys", "code", "sentence"),
    [
        ({"with": {"order": "seven"}}, "child.input", "order"),
        ({"with": {}}, "child.input", "order"),
        ({"with": {"order": 1}, "version": 9}, "child.unknown", "There is no workflow"),
    ],
)
def test_a_child_run_that_cannot_be_started_fails_its_step_with_a_sentence(
    keys: dict[str, Any], code: str, sentence: str
) -> None:
    run = a_run(call(a_child(input=ORDER), **keys))

    children.attend(run_id=run.pk)

    [incident] = open_incidents(run)
    assert (incident.error_class, incident.code) == ("permanent", code)
    assert "The child run of call was not started" in incident.message
    assert sentence in incident.message


def test_cancelling_a_run_cancels_its_child_runs_and_theirs() -> None:
    inner = a_child()
    middle = a_child(call(inner))
    run = a_run(call(middle))
    child = attended(run)
    grandchild = attended(child)

    cancel_run(run_id=run.pk, by=BEN)
    recover(now=in_future(0))
    recover(now=in_future(0))

    assert [state(one) for one in (run, child, grandchild)] == ["CANCELLED"] * 3
    assert child.journal.filter(path="", after="CANCELLING").get().actor == BEN


def test_a_step_whose_time_is_up_cancels_its_child_run() -> None:
    run = a_run(call(a_child(), timeout="1h"))
    child = attended(run)
    set_due(run, "call")

    tick(now=in_future(0))
    children.attend(run_id=run.pk)

    assert open_incidents(run)[0].code == "workflow.timeout"
    assert state(child) == "CANCELLED"


def test_a_child_run_is_cancelled_when_its_block_fails_fast() -> None:
    block = {"id": "all", "parallel": [call(a_child()), task("bad")], "fail_fast": True}
    run = a_run(block)
    child = attended(run)

    fail(claimed(run, "all.bad"))
    children.attend(run_id=run.pk)

    assert (state(child), state(run)) == ("CANCELLED", "FAILED")


def test_a_child_run_that_has_not_begun_when_its_parent_is_cancelled_never_does() -> None:
    run = a_run(call(a_child()))

    cancel_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert the_children(run) == []
    assert wait(run).due is None


def test_an_end_and_a_cancel_at_the_same_time_leave_nothing_due() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    work = claimed(child, "work")

    at_once(lambda: finish(work), lambda: cancel_run(run_id=run.pk, by=BEN))
    recover(now=in_future(0))

    assert state(run) == "CANCELLED"
    assert state(child) in {"COMPLETED", "CANCELLED"}
    assert wait(run).due is None


def test_a_replay_of_the_step_has_the_failed_child_run_go_on() -> None:
    run = a_run(call(a_child(task("good"), task("work"))))
    child = attended(run)
    finish(claimed(child, "good"))
    fail_in(child)
    children.attend(run_id=run.pk)

    replay_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)
    finish(claimed(child, "work", 2))
    children.attend(run_id=run.pk)

    assert the_children(run) == ["COMPLETED"]
    assert state(run) == "COMPLETED"
    assert child.incidents.get().resolved_by == BEN


def test_a_replay_that_dies_on_its_way_down_is_taken_up_by_the_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    fail_in(child)
    children.attend(run_id=run.pk)
    replay_run(run_id=run.pk, by=BEN)
    with monkeypatch.context() as patch:
        patch.setattr(children, "replay_run", _die)
        children.attend(run_id=run.pk)
        children.attend(run_id=run.pk)

    recover(now=in_future(0))

    assert state(child) == "RUNNING"
    assert wait(run).due is None


def _die(**_: Any) -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize("given_up", ["cancelled", "discarded"])
def test_a_replay_of_the_step_starts_another_child_run_when_the_last_was_given_up(
    given_up: str,
) -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    if given_up == "cancelled":
        cancel_run(run_id=child.pk, by=BEN)
    else:
        fail_in(child)
        discard_incident(incident_id=open_incidents(child)[0].pk, note="No.", by=BEN)
    children.attend(run_id=run.pk)

    replay_run(run_id=run.pk, by=BEN)
    again = attended(run)
    work_off(again)
    children.attend(run_id=run.pk)

    assert again.pk != child.pk
    assert state(run) == "COMPLETED"


def test_a_corrected_input_is_for_a_child_run_of_its_own() -> None:
    run = a_run(call(a_child(input=ORDER), **{"with": {"order": 1}}))
    child = attended(run)
    fail_in(child)
    children.attend(run_id=run.pk)

    [incident] = open_incidents(run)
    replay_incident(incident_id=incident.pk, arguments={"order": 2}, by=BEN)
    again = attended(run)

    assert (again.input, state(child)) == ({"order": 2}, "FAILED")


def test_a_corrected_input_has_no_expressions() -> None:
    run = a_run(call(a_child(input=ORDER), **{"with": {"order": "seven"}}))
    children.attend(run_id=run.pk)
    [incident] = open_incidents(run)

    with pytest.raises(InputRefusedError, match="without expressions"):
        replay_incident(incident_id=incident.pk, arguments={"order": "${{ input.order }}"}, by=BEN)


def test_a_step_whose_child_run_was_replayed_by_itself_goes_on_when_that_is_completed() -> None:
    run = a_run(call(a_child()), task("after"))
    child = attended(run)
    fail_in(child)
    children.attend(run_id=run.pk)

    replay_run(run_id=child.pk, by=BEN)
    finish(claimed(child, "work", 2), {"ok": True})
    for _ in range(3):
        children.attend(run_id=run.pk)

    assert states(run) == {"call": "COMPLETED", "after": "QUEUED"}
    assert Incident.objects.get(run=run).note == (
        f"Its child run {child.pk} has been completed after all."
    )


def test_a_child_run_that_fails_again_leaves_its_step_as_it_is() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    fail_in(child)
    children.attend(run_id=run.pk)

    replay_run(run_id=child.pk, by=BEN)
    fail_in(child, attempt=2)
    children.attend(run_id=run.pk)

    assert len(open_incidents(run)) == 1
    assert (state(run), wait(run).due) == ("FAILED", None)


def test_child_runs_are_paused_with_their_parent_and_go_on_with_it() -> None:
    run = a_run(call(a_child(call(a_child()))))
    child = attended(run)
    grandchild = attended(child)

    pause_run(run_id=run.pk, by=BEN)
    recover(now=in_future(0))
    recover(now=in_future(0))
    held = [state(one) for one in (run, child, grandchild)]
    resume_run(run_id=run.pk, by=BEN)
    recover(now=in_future(0))
    recover(now=in_future(0))

    assert held == ["PAUSED"] * 3
    assert [state(one) for one in (run, child, grandchild)] == ["RUNNING"] * 3
    assert child.journal.filter(path="", after="PAUSED").get().actor == BEN
    assert not Wait.objects.filter(due__isnull=False).exists()


def test_a_child_run_that_was_paused_by_itself_stays_so_when_its_parent_goes_on() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    pause_run(run_id=child.pk, by=ANN)

    pause_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)
    resume_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert (state(run), state(child)) == ("RUNNING", "PAUSED")


def test_a_child_run_that_has_nothing_left_to_do_when_it_is_resumed_ends_and_is_told() -> None:
    run = a_run(call(a_child()))
    work = claimed(attended(run), "work")
    pause_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)
    finish(work)

    resume_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert (state(the_child(run)), state(run)) == ("COMPLETED", "COMPLETED")


def test_a_pause_that_is_called_back_while_it_goes_down_holds_nobody() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    pause_run(run_id=run.pk, by=BEN)
    [late] = store.due_children(run.pk, after=UUID(int=0), limit=1)

    resume_run(run_id=run.pk, by=BEN)
    children._see_to(late)
    children.attend(run_id=run.pk)

    assert state(child) == "RUNNING"
    assert wait(run).due is None


def test_a_child_run_that_is_held_is_cancelled_with_its_parent() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    pause_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    cancel_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert (state(run), state(child)) == ("CANCELLED", "CANCELLED")


def test_a_run_that_is_cancelled_and_undone_has_its_child_run_undone() -> None:
    undo = {"uses": "log", "with": {"message": "undone"}}
    run = a_run(call(a_child(task("first", compensate=undo), task("work"))))
    child = attended(run)
    finish(claimed(child, "first"))

    cancel_run(run_id=run.pk, compensate=True, by=BEN)
    children.attend(run_id=run.pk)
    work_off(child)

    assert state(child) == "COMPENSATED"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"workflow": "nowhere"}, "there is no workflow nowhere"),
        ({"workflow": "somewhere", "version": 2}, "the workflow somewhere has no version 2"),
        ({"workflow": "somewhere", "version": 1}, ""),
        ({"workflow": "caller"}, ""),
    ],
)
def test_a_definition_is_doubted_that_calls_what_is_not_there(
    keys: dict[str, Any], said: str
) -> None:
    text = json.dumps({"workflow": "somewhere", "steps": [task("only")]})
    apply_definition(text=text, source="test.yaml", by=ANN)
    calling = json.dumps({"workflow": "caller", "steps": [{"id": "call", **keys}]})

    doubts = doubts_about(text=calling, source="test.yaml")

    assert [one.message.startswith(said) for one in doubts] == ([True] if said else [])


def test_a_run_that_is_paused_starts_no_child_run_until_it_is_resumed(sent: Recorder) -> None:
    run = a_run(task("before"), call(a_child()))
    before = claimed(run, "before")
    pause_run(run_id=run.pk, by=BEN)
    finish(before)

    children.attend(run_id=run.pk)
    recover(now=in_future(0))
    while_paused = the_children(run)
    resume_run(run_id=run.pk, by=BEN)

    assert while_paused == []
    assert Attend(run.pk) in sent.sent
    assert attended(run).state == "RUNNING"


def in_line(name: str) -> tuple[Run, Run, Run]:
    """Return a run under way, another whose child run waits for its place, and that child run."""
    first = start_run(workflow=name, by=ANN).run
    run = a_run(call(name))
    return first, run, attended(run)


def test_a_child_run_that_waits_for_a_place_does_not_begin_while_its_parent_is_paused() -> None:
    first, run, child = in_line(a_child(concurrency=ONE_AT_A_TIME))
    pause_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    work_off(first)
    recover(now=in_future(60))
    while_paused = state(child)
    resume_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert while_paused == "PENDING"
    assert (state(child), wait(run).due) == ("RUNNING", None)


def test_a_child_run_that_is_held_back_is_in_nobodys_way() -> None:
    name = a_child(concurrency=ONE_AT_A_TIME)
    first, run, child = in_line(name)
    pause_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    work_off(first)
    other = start_run(workflow=name, by=ANN).run
    resume_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)
    after_the_resume = state(child)
    work_off(other)
    concurrency.fill_after(run_id=other.pk)

    assert (state(other), after_the_resume) == ("COMPLETED", "PENDING")
    assert state(child) == "RUNNING"


def test_a_child_run_is_not_begun_by_whoever_has_not_seen_yet_that_its_parent_is_paused() -> None:
    first, run, child = in_line(a_child(concurrency=ONE_AT_A_TIME))
    cancel_run(run_id=first.pk, by=BEN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(concurrency_rows, "first_waiting", lambda *_, **__: [(child.pk, 1)])
        pause_run(run_id=run.pk, by=BEN)
        concurrency.fill_after(run_id=first.pk)

    assert state(child) == "PENDING"


def test_a_child_run_that_was_about_to_start_when_its_run_was_paused_does_not() -> None:
    run = a_run(call(a_child()))
    [late] = store.due_children(run.pk, after=UUID(int=0), limit=1)

    pause_run(run_id=run.pk, by=BEN)
    children._see_to(late)
    while_paused = the_children(run)
    resume_run(run_id=run.pk, by=BEN)

    assert while_paused == []
    assert attended(run).state == "RUNNING"


def test_a_child_run_that_was_about_to_go_on_when_its_run_was_paused_is_paused() -> None:
    run = a_run(call(a_child()))
    child = attended(run)
    fail_in(child)
    children.attend(run_id=run.pk)
    replay_run(run_id=run.pk, by=BEN)
    sql("UPDATE workflows_wait SET due = 'replay', child_id = %s WHERE closed_at IS NULL", child.pk)
    [late] = store.due_children(run.pk, after=UUID(int=0), limit=1)

    pause_run(run_id=run.pk, by=BEN)
    children._see_to(late)
    children.attend(run_id=run.pk)
    while_paused = state(child)
    resume_run(run_id=run.pk, by=BEN)
    children.attend(run_id=run.pk)

    assert (while_paused, state(child)) == ("PAUSED", "RUNNING")


def test_a_workflow_may_call_itself_but_not_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "DEEPEST_CHILD", 3)
    text = json.dumps({"workflow": "endless", "steps": [call("endless")]})
    apply_definition(text=text, source="test.yaml", by=ANN)
    run = start_run(workflow="endless", by=ANN).run

    for _ in range(10):
        recover(now=in_future(0))

    assert Run.objects.filter(parent__isnull=False).count() == 3
    deepest = Run.objects.latest("id")
    assert open_incidents(deepest)[0].code == "child.too_deep"
    assert "Does a workflow call itself" in open_incidents(deepest)[0].message
    assert state(run) == "FAILED"


def test_a_child_run_is_where_its_parent_is_also_while_that_is_drained() -> None:
    run = a_run(call(a_child()))
    move_environment(name="default", state="DRAINING", by=ANN)

    child = attended(run)

    assert (child.environment.name, child.state) == ("default", "RUNNING")


def test_a_child_run_is_elsewhere_if_its_step_says_so_and_is_let_in() -> None:
    create_environment(name="vault", admits=["default"], by=ANN)
    move_environment(name="vault", state="ACTIVE", by=ANN)
    run = a_run(call(a_child(), environment="vault"))

    child = attended(run)

    assert child.environment.name == "vault"
    assert step(child, "work").queue == "env.vault.default"


def test_a_child_run_that_is_let_in_no_more_fails_its_step() -> None:
    create_environment(name="vault", admits=["default"], by=ANN)
    move_environment(name="vault", state="ACTIVE", by=ANN)
    run = a_run(call(a_child(), environment="vault"))
    Environment.objects.filter(name="vault").update(admits=[])

    children.attend(run_id=run.pk)

    assert open_incidents(run)[0].code == "environment.not_admitted"
    assert the_children(run) == []


def test_trouble_with_one_child_run_is_not_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = a_child(), a_child()
    run = a_run({"id": "both", "parallel": [call(bad, "bad"), call(good, "good")]})
    real = children.start_child

    def trouble(**facts: Any) -> bool:
        if facts["order"].workflow == bad:
            raise RuntimeError("trouble")
        return real(**facts)

    monkeypatch.setattr(children, "start_child", trouble)
    children.attend(run_id=run.pk)

    assert list(Run.objects.filter(parent=run.pk).values_list("parent_path", flat=True)) == [
        "both.good"
    ]
    assert sql("SELECT 1 FROM workflows_wait WHERE due = 'start'") == 1
