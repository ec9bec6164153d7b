"""A step in another environment: let in by that environment alone, and taken by its workers."""

from typing import Any

import pytest

from environments.models import Environment
from environments.services import create_environment, move_environment
from tests.support.publisher import Recorder
from tests.workflows.builders import (
    ANN,
    TAKER,
    a_run,
    a_version,
    claim,
    claimed,
    finish,
    in_future,
    open_incidents,
    state,
    states,
    step,
    task,
)
from workers.attempt import carry_out
from workers.leases import Held
from workflows.models import Run
from workflows.services.errors import EnvironmentClosedError, NotFoundError
from workflows.services.incidents import replay_incident
from workflows.services.recording import record_outcome
from workflows.services.recovery import recover
from workflows.services.runs import start_run
from workflows.services.work import Taker

pytestmark = pytest.mark.usefixtures("committed")

THERE = Taker("worker-2", "env.vault.default")


def an_environment(name: str = "vault", **parts: Any) -> Environment:
    create_environment(name=name, by=ANN, **parts)
    return move_environment(name=name, state="ACTIVE", by=ANN)


def away(name: str = "away", **keys: Any) -> dict[str, Any]:
    return task(name, environment="vault", **keys)


def turned_away() -> Run:
    """Return a run whose step another environment does not let in any more."""
    vault = an_environment(admits=["default"])
    run = a_run(away())
    Environment.objects.filter(pk=vault.pk).update(admits=[])
    work = claimed(run, "away", taker=THERE)
    outcome = carry_out(work, Held(work, 0.0, 0.0))
    record_outcome(work=work, outcome=outcome, taker=THERE, run_on=False, now=in_future(0))
    return run


def test_a_step_is_sent_to_the_workers_of_the_environment_that_it_names(sent: Recorder) -> None:
    an_environment(admits=["default"])

    run = a_run(task("before"), away(), task("after"))
    finish(claimed(run, "before"))
    finish(claimed(run, "away", taker=THERE), taker=THERE)

    queues = [segment.queue for line in sent.sent for segment in getattr(line, "segments", [line])]
    assert queues[:3] == ["env.default.default", "env.vault.default", "env.default.default"]
    assert step(run, "after").queue == "env.default.default"
    finish(claimed(run, "after"))
    assert state(run) == "COMPLETED"


def test_what_follows_on_a_step_elsewhere_is_not_run_on_there() -> None:
    an_environment(admits=["default"])
    run = a_run(away(), task("after"))

    follows = finish(claimed(run, "away", taker=THERE), run_on=True, taker=THERE)

    assert follows is None
    assert states(run) == {"away": "COMPLETED", "after": "QUEUED"}


def test_a_worker_elsewhere_runs_on_from_one_step_there_to_the_next() -> None:
    an_environment(admits=["default"])
    run = a_run(away("one"), away("two"))

    follows = finish(claimed(run, "one", taker=THERE), run_on=True, taker=THERE)

    assert follows is not None
    assert (follows.path, follows.environment, follows.place) == ("two", "default", "vault")


@pytest.mark.parametrize("admits", [[], ["other"]])
def test_a_run_does_not_start_whose_steps_would_not_be_let_in(admits: list[str]) -> None:
    an_environment(admits=admits)
    name = a_version(away()).workflow.name

    with pytest.raises(EnvironmentClosedError, match="vault does not admit steps of runs in def"):
        start_run(workflow=name, by=ANN)


def test_a_run_does_not_start_whose_steps_go_nowhere() -> None:
    name = a_version(away()).workflow.name

    with pytest.raises(NotFoundError, match="There is no environment vault"):
        start_run(workflow=name, by=ANN)


def test_a_run_does_not_start_that_asks_elsewhere_for_workers_that_are_not_there() -> None:
    an_environment(admits=["default"])
    name = a_version(away(**{"class": "heavy"})).workflow.name

    with pytest.raises(EnvironmentClosedError, match="vault has no workers of class heavy"):
        start_run(workflow=name, by=ANN)


def test_a_run_in_the_environment_that_its_step_names_needs_no_admission() -> None:
    an_environment()
    name = a_version(away(), task("after")).workflow.name

    run = start_run(workflow=name, environment="vault", by=ANN).run
    finish(claimed(run, "away", taker=THERE), taker=THERE)

    assert step(run, "after").queue == "env.vault.default"


def test_a_step_that_is_let_in_no_more_is_not_carried_out_and_says_what_to_do() -> None:
    run = turned_away()

    [incident] = open_incidents(run)
    assert (incident.error_class, incident.code) == ("permanent", "environment.not_admitted")
    assert "add default to what vault admits" in incident.message


def test_a_step_that_was_turned_away_is_done_by_a_replay_once_it_is_let_in() -> None:
    run = turned_away()

    Environment.objects.filter(name="vault").update(admits=["default"])
    replay_incident(incident_id=open_incidents(run)[0].pk, by=ANN)
    finish(claimed(run, "away", 2, taker=THERE), taker=THERE)

    assert state(run) == "COMPLETED"


def test_a_worker_takes_no_step_that_is_for_another_environment() -> None:
    an_environment(admits=["default"])
    run = a_run({"id": "all", "parallel": [away(), task("here")]})

    assert claim(run, "all.away", taker=TAKER) is None
    assert claim(run, "all.here", taker=THERE) is None
    assert states(run) == {"all": "WAITING", "all.away": "QUEUED", "all.here": "QUEUED"}


def test_a_step_elsewhere_reads_the_variables_of_that_environment() -> None:
    an_environment(admits=["default"], variables={"place": "there"})
    Environment.objects.filter(name="default").update(variables={"place": "here"})
    read = {"with": {"message": "${{ env.place }}"}}
    run = a_run(
        away(when="${{ env.place == 'there' }}", output="${{ env.place }}", **read),
        task("home", **read),
    )

    away_work = claimed(run, "away", taker=THERE)
    finish(away_work, taker=THERE)
    home_work = claimed(run, "home")

    assert away_work.names["env"] == {"place": "there"}
    assert step(run, "away").output == "there"
    assert home_work.names["env"] == {"place": "here"}


def test_a_lost_message_to_another_environment_is_sent_there_again(sent: Recorder) -> None:
    an_environment(admits=["default"])
    run = a_run(away())
    sent.forget()

    recover(now=in_future(60))

    assert [one.queue for one in sent.sent if getattr(one, "run", None) == run.pk] == [THERE.queue]
