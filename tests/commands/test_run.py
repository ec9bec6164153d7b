import pytest

from tests.admin.builders import worked_off
from tests.commands.builders import COPY, INLINE, a_run, an_incident, manage, manage_on_terminal
from workflows.models import Incident, Run
from workflows.selectors.runs import get_run, run_document
from workflows.services.definitions import apply_definition

pytestmark = pytest.mark.django_db


def state_of(run: Run) -> str:
    return Run.objects.get(pk=run.pk).state


def test_runs_are_listed_with_the_newest_first() -> None:
    old, new = a_run(), a_run(INLINE)

    words = manage("run", "list").out.split()

    assert [word for word in words if word in {str(new.pk), str(old.pk)}] == [
        str(new.pk),
        str(old.pk),
    ]


def test_runs_can_be_chosen_by_state_and_workflow() -> None:
    live, _ = a_run(), a_run(INLINE)

    by_state = manage("run", "list", "--state", "running", "--json").json()
    by_workflow = manage("run", "list", "--workflow", "copy", "--json").json()

    assert [row["id"] for row in by_state["results"]] == [str(live.pk)]
    assert by_workflow == by_state


def test_child_runs_are_left_out_or_chosen_and_name_their_parent() -> None:
    top, child = a_run(), a_run(INLINE)
    Run.objects.filter(pk=child.pk).update(parent=top, parent_path="call")

    tops = manage("run", "list", "--top-level", "--json").json()["results"]
    children = manage("run", "list", "--child-of", str(top.pk)[:30], "--json").json()["results"]
    shown = manage("run", "show", str(child.pk)).out

    assert [row["id"] for row in tops] == [str(top.pk)]
    assert [row["id"] for row in children] == [str(child.pk)]
    assert f"{top.pk}, step call" in shown


def test_a_long_list_says_how_it_goes_on() -> None:
    a_run(), a_run()

    answer = manage("run", "list", "--limit", "1")
    cursor = answer.out.rsplit("--after ", 1)[1].strip()
    rest = manage("run", "list", "--after", cursor, "--json").json()

    assert len(rest["results"]) == 1
    assert rest["next"] is None


def test_a_run_is_shown_by_the_beginning_of_its_id() -> None:
    run = a_run()

    answer = manage("run", "show", str(run.pk)[:18])

    assert answer.status == 0
    assert str(run.pk) in answer.out
    assert "fetch" in answer.out
    assert "1 pending" in answer.out


def test_json_shows_the_run_of_the_api() -> None:
    run = a_run()

    assert manage("run", "show", run.pk, "--json").json() == run_document(get_run(run.pk))


def test_a_run_that_needs_a_person_says_where_to_look() -> None:
    incident = an_incident()

    answer = manage("run", "show", incident.run_id)

    assert f"fetch needs a person: manage.py incident show {incident.pk}" in answer.out
    assert "fetch: permanent disk.full: The disk is full" in answer.out


def test_watching_a_run_that_has_failed_is_status_1_at_once() -> None:
    incident = an_incident()

    answer = manage("run", "watch", incident.run_id)

    assert answer.status == 1
    assert "is FAILED" in answer.err
    assert f"manage.py incident show {incident.pk}" in answer.err


def test_a_paused_run_can_go_on() -> None:
    run = a_run()

    paused = manage("run", "pause", run.pk, "--json").json()
    held = state_of(run)
    manage("run", "resume", run.pk)

    assert paused == {"action": "pause", "done": [str(run.pk)], "refused": []}
    assert held == "PAUSED"
    assert state_of(run) == "RUNNING"


def test_what_the_state_does_not_allow_is_refused_with_the_reason() -> None:
    live, over = a_run(), a_run(INLINE)

    answer = manage("run", "pause", live.pk, over.pk)

    assert answer.status == 2
    assert answer.out == "Pause: 1 done.\n"
    assert answer.err == (
        f"The run {over.pk} is COMPLETED and cannot be paused."
        " A run can be paused while it is RUNNING."
    )


def test_nothing_is_cancelled_without_a_yes_where_nobody_can_be_asked() -> None:
    run = a_run()

    answer = manage("run", "cancel", run.pk)

    assert answer.status == 2
    assert answer.err.startswith(f"Cancel the run {run.pk} of copy, which is RUNNING?")
    assert answer.err.endswith("Repeat the command with --yes.")
    assert state_of(run) == "RUNNING"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "status", "state"), [("y", 0, "CANCELLED"), ("n", 2, "RUNNING"), ("", 2, "RUNNING")]
)
def test_a_person_is_asked_before_a_run_is_cancelled(
    answer: str, status: int, state: str, process_env: dict[str, str]
) -> None:
    run = a_run()

    answered = manage_on_terminal("run", "cancel", run.pk, types=f"{answer}\n", **process_env)

    assert answered.status == status
    assert "This cannot be undone. [y/N]" in answered.err
    assert state_of(run) == state


def test_a_yes_cancels() -> None:
    run = a_run()

    answer = manage("run", "cancel", run.pk, "--yes")

    assert answer.status == 0
    assert state_of(run) == "CANCELLED"


def test_an_unknown_run_among_others_changes_none() -> None:
    run = a_run()

    answer = manage("run", "cancel", run.pk, "0000", "--yes")

    assert answer.status == 2
    assert answer.err.startswith("There is no run 0000. `manage.py run list` shows")
    assert state_of(run) == "RUNNING"


def test_a_failed_run_is_replayed() -> None:
    incident = an_incident()

    answer = manage("run", "replay", incident.run_id)

    assert answer.status == 0
    assert Incident.objects.get().resolution == "replayed"
    assert state_of(incident.run) == "RUNNING"


def test_a_run_without_incidents_has_nothing_to_replay() -> None:
    run = a_run()

    answer = manage("run", "replay", run.pk)

    assert answer.status == 2
    assert "has no open incident" in answer.err


UNDOABLE = """
workflow: undoable
steps:
  - {id: made, uses: log, with: {message: made}, compensate: {uses: log, with: {message: unmade}}}
  - {id: out, exit: {status: failed}}
"""


def test_what_an_undo_would_do_is_shown_and_done_after_a_yes() -> None:
    run = a_run(UNDOABLE)
    worked_off(run.pk, steps=1)

    shown = manage("run", "undo", str(run.pk), "--preview").out
    manage("run", "undo", str(run.pk), "--yes")

    assert '1. made is undone by log with {"message": "unmade"}' in shown
    assert state_of(run) == "COMPENSATING"


def test_a_cancelled_run_can_be_undone_at_once() -> None:
    run = a_run()
    worked_off(run.pk, steps=1)

    manage("run", "cancel", str(run.pk), "--undo", "--yes")

    assert state_of(run) == "COMPENSATED"


def test_a_run_is_forked_from_one_of_its_steps() -> None:
    run = a_run()
    path = run.steps.order_by("node").first().path

    answer = manage("run", "fork", run.pk, "--from", path, "--json")

    new = answer.json()
    assert (answer.status, new["forked_from"]) == (0, str(run.pk))
    assert new["id"] != str(run.pk)


def test_a_fork_at_a_step_that_is_not_there_is_refused() -> None:
    run = a_run()

    answer = manage("run", "fork", run.pk, "--from", "nowhere")

    assert answer.status == 2
    assert "has no step nowhere" in answer.err


THANKED = COPY + "  - {id: thank, uses: log, with: {message: thank}}\n"


def test_a_preflight_says_whether_runs_can_go_over_and_changes_nothing() -> None:
    run = a_run()
    apply_definition(text=THANKED, source="copy.yaml", by="person:ann")

    said = manage("run", "migrate", "--workflow", "copy", "--preflight")
    found = manage("run", "migrate", run.pk, "--preflight", "--json").json()

    assert f"SAFE: run {run.pk} of copy, v1 -> v2" in said.out
    assert "thank: it is new" in said.out
    assert (found["verdicts"], found["runs"][0]["to_version"]) == ({"SAFE": 1}, 2)
    assert get_run(run.pk).version.number == 1


def test_runs_go_over_when_somebody_says_so() -> None:
    run = a_run()
    apply_definition(text=THANKED, source="copy.yaml", by="person:ann")

    asked = manage("run", "migrate", run.pk)
    done = manage("run", "migrate", run.pk, "--yes", "--json")

    assert (asked.status, "--yes" in asked.err) == (2, True)
    assert done.json()["done"] == [str(run.pk)]
    assert get_run(run.pk).version.number == 2


def test_a_run_that_cannot_go_over_is_refused_until_its_steps_are_mapped() -> None:
    run = a_run()
    apply_definition(text=COPY.replace("id: fetch", "id: get"), source="copy.yaml", by="ann")

    refused = manage("run", "migrate", run.pk, "--yes")
    done = manage("run", "migrate", run.pk, "--map", "fetch=get", "--yes")

    assert (refused.status, "NEEDS_MAPPING" in refused.err) == (2, True)
    assert done.status == 0
    assert set(get_run(run.pk).steps.values_list("path", flat=True)) == {"get", "check"}


def test_runs_to_migrate_are_named_in_one_way() -> None:
    answer = manage("run", "migrate")

    assert (answer.status, "--workflow" in answer.err) == (2, True)
