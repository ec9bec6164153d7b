"""Runs are undone by real workers, some of whom die in the middle of it."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.builders import ANN, an_environment, ends, log, started, states, until
from tests.support.invariants import broken
from tests.support.platform import Platform
from workflows.models import Incident, Run, Step
from workflows.services.incidents import replay_incident
from workflows.services.runs import compensate_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

REFUSED = {"id": "ship", "uses": "fail"}


def undone_by(name: str, uses: str, **given: Any) -> dict[str, Any]:
    return log(name, compensate={"uses": uses, "with": given})


def writing(name: str, ledger: Path) -> dict[str, Any]:
    """Return a step whose undo writes a line of its own."""
    command = ["sh", "-c", f"echo {name} >> {ledger}"]
    return undone_by(name, "shell.run", command=command)


def until_undoing(run: Run, path: str) -> None:
    """Wait until a worker undoes the step."""
    here = Step.objects.filter(run=run, path=f"{path}.compensate", state="RUNNING")
    until(here.exists, run)


def test_a_failed_run_is_undone_in_the_reverse_order_of_what_it_did(
    hasty: Platform, tmp_path: Path
) -> None:
    an_environment("tidy")
    ledger = tmp_path / "ledger"
    both = {"id": "both", "parallel": [writing("left", ledger), writing("right", ledger)]}
    with hasty.worker("tidy"):
        run = started(
            writing("first", ledger),
            both,
            writing("last", ledger),
            REFUSED,
            on_failure="compensate",
            environment="tidy",
        )
        assert hasty.finished(run).state == "COMPENSATED"

    lines = ledger.read_text().split()
    assert (lines[0], lines[-1]) == ("last", "first")
    assert sorted(lines[1:3]) == ["left", "right"]
    assert broken(runs=[run.pk]) == []


def test_an_undo_whose_worker_is_killed_is_done_again_and_the_others_follow(
    hasty: Platform,
) -> None:
    an_environment("fragile-undo")
    steps = (undone_by("early", "log", message="undone"), undone_by("held", "sleep", seconds=4))
    with hasty.worker("fragile-undo") as worker:
        run = started(*steps, REFUSED, on_failure="compensate", environment="fragile-undo")
        until_undoing(run, "held")
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("fragile-undo"):
        assert hasty.finished(run).state == "COMPENSATED"

    assert ends(run)["held.compensate"] == ["lost", "completed"]
    assert ends(run)["early.compensate"] == ["completed"]
    assert broken(runs=[run.pk]) == []


def test_an_undo_that_must_not_be_repeated_waits_for_a_person_when_its_worker_is_killed(
    hasty: Platform,
) -> None:
    an_environment("doubtful-undo")
    steps = (
        undone_by("early", "log", message="undone"),
        undone_by("paid", "shell.run", command=["sleep", "60"]),
    )
    with hasty.worker("doubtful-undo") as worker:
        run = started(*steps, REFUSED, environment="doubtful-undo")
        assert hasty.finished(run).state == "FAILED"
        compensate_run(run_id=run.pk, by=ANN)
        until_undoing(run, "paid")
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("doubtful-undo"):
        assert hasty.finished(run).state == "FAILED"
        [incident] = Incident.objects.filter(run=run, resolution="")
        assert (incident.path, incident.error_class) == ("paid.compensate", "uncertain")
        assert states(run)["early"] == "COMPENSATED"
        replay_incident(incident_id=incident.pk, arguments={"command": ["true"]}, by=ANN)
        assert hasty.finished(run).state == "COMPENSATED"

    assert broken(runs=[run.pk]) == []
