"""What would be undone is told before it is done, and nothing changes by it."""

from typing import Any

import pytest

from environments.services import ensure_default
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    claimed,
    everything,
    fail,
    finish,
    task,
)
from workflows.engine.events import Loss
from workflows.models import Run
from workflows.selectors.errors import MissingError
from workflows.selectors.undoing import undo_lines, undo_preview
from workflows.services.recovery import release_worker
from workflows.services.runs import cancel_run, compensate_run
from workflows.store import now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_environment(db: None) -> None:
    ensure_default()


def undoable(name: str, message: str = "undo") -> dict[str, Any]:
    return task(name, compensate={"uses": "log", "with": {"message": message}})


def a_failed_run(*steps: dict[str, Any], **document: Any) -> Run:
    """Complete the steps, each with its name as output, and have `ship` fail after them."""
    run = a_run(*steps, task("ship"), **document)
    for step in steps:
        finish(claimed(run, step["id"]), {"name": step["id"]})
    fail(claimed(run, "ship"))
    return run


def test_steps_are_shown_in_the_order_in_which_they_would_be_undone() -> None:
    run = a_failed_run(undoable("reserve"), undoable("charge"))

    found = undo_preview(run.pk)

    assert [step["path"] for step in found["undone"]] == ["charge", "reserve"]
    assert (found["refused"], found["undone_in_all"]) == (None, 2)


def test_arguments_are_shown_as_they_would_be_given() -> None:
    reads = "${{ steps.charge.output.name }} for ${{ error.code }}"
    run = a_failed_run(undoable("charge", reads))

    [step] = undo_preview(run.pk)["undone"]

    assert step["uses"] == "log"
    assert step["arguments"] == {"message": "charge for test.broken"}
    assert step["unresolved"] == {}


def test_an_argument_that_is_not_there_is_shown_as_it_was_written_and_why() -> None:
    run = a_failed_run(undoable("charge", "${{ steps.charge.output.id }}"))

    [step] = undo_preview(run.pk)["undone"]

    assert step["arguments"] == {"message": "${{ steps.charge.output.id }}"}
    assert "id" in step["unresolved"]["message"]


def test_what_would_stay_is_shown_with_the_reason() -> None:
    mail = task("mail", irreversible=True)
    run = a_failed_run(task("look"), mail, undoable("charge"))

    lasting = {one["path"]: one["why"] for one in undo_preview(run.pk)["lasting"]}

    assert set(lasting) == {"look", "mail"}
    assert "irreversible" in lasting["mail"]
    assert "does not say how" in lasting["look"]


def test_what_nobody_knows_the_effect_of_is_among_what_would_stay() -> None:
    pay = {"id": "pay", "uses": "shell.run", "with": {"command": ["true"]}}
    run = a_run(undoable("reserve"), pay)
    finish(claimed(run, "reserve"))
    claimed(run, "pay")
    release_worker(worker=TAKER.worker, loss=Loss.DIED, now=now())

    [one] = undo_preview(run.pk)["lasting"]

    assert one["path"] == "pay"
    assert "nobody knows" in one["why"]


def test_a_failed_undo_is_among_what_would_stay() -> None:
    run = a_failed_run(undoable("charge"), on_failure="compensate")
    fail(claimed(run, "charge.compensate"))

    found = undo_preview(run.pk)

    assert found["lasting"][0]["why"] == "its undo has failed: It broke."
    assert found["refused"] is not None
    assert "incidents" in found["refused"]


def test_a_long_undo_is_cut_off_and_counted() -> None:
    run = a_failed_run(*(undoable(f"s{number}") for number in range(3)))

    found = undo_preview(run.pk, limit=2)

    assert len(found["undone"]) == 2
    assert found["undone_in_all"] == 3
    assert "... and 1 more" in list(undo_lines(found))


def test_why_a_run_is_not_undone_is_said() -> None:
    nothing = a_failed_run(task("look"))
    cancelled = a_run(undoable("charge"))
    cancel_run(run_id=cancelled.pk, by=ANN)

    assert undo_preview(nothing.pk)["refused"] == (
        "No step that was completed says how it is undone."
    )
    assert "was cancelled without an undo" in str(undo_preview(cancelled.pk)["refused"])


def test_looking_changes_nothing_and_a_look_during_the_undo_shows_what_is_left() -> None:
    run = a_failed_run(undoable("reserve"), undoable("charge"))
    before = everything(run)
    undo_preview(run.pk)
    assert everything(run) == before

    compensate_run(run_id=run.pk, by=ANN)
    finish(claimed(run, "charge.compensate"))

    assert [step["path"] for step in undo_preview(run.pk)["undone"]] == ["reserve"]


def test_an_unknown_run_has_no_undo() -> None:
    with pytest.raises(MissingError):
        undo_preview(a_run(task("one")).version_id)


def test_a_live_run_is_shown_what_its_undo_would_say_of_the_cancel() -> None:
    run = a_run(undoable("charge", "${{ error.message }}"), task("ship"))
    finish(claimed(run, "charge"))

    [step] = undo_preview(run.pk)["undone"]

    assert step["arguments"] == {"message": "a person cancelled the run and had it undone"}
    assert step["unresolved"] == {}
