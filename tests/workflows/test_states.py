"""States and races in the database."""

from typing import Any

import pytest

from tests.support import invariants
from tests.workflows.builders import (
    ANN,
    a_run,
    claimed,
    fail,
    finish,
    open_incidents,
    state,
    states,
    step,
    task,
    work_off,
)
from workflows.services.incidents import replay_incident

pytestmark = pytest.mark.usefixtures("committed")

REVIEWED: list[dict[str, Any]] = [
    {"when": "${{ steps.review.output == 'good' }}", "to": "publish"},
    {"to": "draft"},
]


def test_states_are_visited_in_turn_and_read_the_latest_visit_of_each_other() -> None:
    ways = [
        task("draft", next="review"),
        task("review", next=REVIEWED),
        task("publish", **{"with": {"message": "${{ steps.draft.output }}"}}),
    ]
    run = a_run({"id": "paper", "states": ways}, output="${{ steps.paper.output }}")

    for visit, output in enumerate(["v1", "bad", "v2", "good"]):
        name = ["draft", "review"][visit % 2]
        finish(claimed(run, f"paper[{visit}].{name}"), output)
    last = claimed(run, "paper[4].publish")
    finish(last, "out")

    assert last.names["steps"]["draft"]["output"] == "v2"
    assert (state(run), step(run, "paper").output) == ("COMPLETED", "out")
    assert invariants.left_over(runs=[run.pk]) == []


def test_a_failed_visit_is_replayed_and_leads_on() -> None:
    run = a_run({"id": "s", "states": [task("a", next="b"), task("b")]})
    fail(claimed(run, "s[0].a"))

    [incident] = open_incidents(run)
    replay_incident(incident_id=incident.pk, by=ANN)
    work_off(run)

    assert states(run) == {"s": "COMPLETED", "s[0].a": "COMPLETED", "s[1].b": "COMPLETED"}
    assert state(run) == "COMPLETED"
    assert invariants.left_over(runs=[run.pk]) == []


def test_the_winner_of_a_race_withdraws_the_others_and_a_failure_in_it_needs_nobody() -> None:
    branches = [task("quick"), task("bad"), {"id": "late", "wait": {"for": "1d"}}]
    run = a_run({"id": "race", "first": branches}, output="${{ steps.race.output.winner }}")

    fail(claimed(run, "race.bad"))
    finish(claimed(run, "race.quick"))

    assert state(run) == "COMPLETED"
    assert states(run)["race.late"] == "CANCELLED"
    assert open_incidents(run) == []
    assert invariants.left_over(runs=[run.pk]) == []
