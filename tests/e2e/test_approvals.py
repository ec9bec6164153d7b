"""A run that asks people, on the running platform: what follows is done by real workers."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.e2e.builders import ends, log, started, states, until_step
from tests.support.approvals import a_person, approval, no, request_of, say
from tests.support.platform import Platform
from workflows import dispatch
from workflows.engine.states import RunState
from workflows.services.recovery import recover

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_workers_go_on_where_people_have_approved(platform: Platform) -> None:
    ben, cleo = a_person("ben", "finance"), a_person("cleo", "finance")
    use = log("use", **{"with": {"message": "${{ steps.sign.output.by.join(' and ') }}"}})
    run = started(log("before"), approval(approvals=2), use)
    until_step(run, "sign", "WAITING")

    say(request_of(run), ben)
    say(request_of(run), cleo)

    assert platform.finished(run).state == RunState.COMPLETED
    assert run.steps.get(path="use").output == {"message": "ben and cleo"}
    assert ends(run)["sign"] == ["completed"]


def test_time_asks_another_group_and_then_fails(platform: Platform) -> None:
    late = {"timeout": "1s", "on_timeout": "escalate", "escalate_to": "directors"}
    run = started(approval(**late), log("tidy", join="all_done"))

    assert platform.finished(run).state == RunState.FAILED
    assert request_of(run).name == "directors"
    assert ends(run) == {"sign": ["failed", "failed"], "tidy": ["completed"]}


def test_a_rejection_takes_the_fallback_path(platform: Platform) -> None:
    tell = {"catch": [{"on": ["approval.rejected"], "steps": [log("tell")]}]}
    run = started({**approval(), **tell})
    until_step(run, "sign", "WAITING")

    say(request_of(run), a_person("ben", "finance"), no())

    assert platform.finished(run).state == RunState.COMPLETED
    assert states(run)["sign.catch[0].tell"] == "COMPLETED"


def test_a_decision_whose_message_is_lost_goes_on_by_the_sweep(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = started(approval(), log("after"))
    until_step(run, "sign", "WAITING")
    with monkeypatch.context() as lost:
        lost.setattr(dispatch, "publish", lambda _: True)
        say(request_of(run), a_person("ben", "finance"))

    recover(now=timezone.now() + timedelta(seconds=60))

    assert platform.finished(run).state == RunState.COMPLETED
    assert ends(run) == {"sign": ["completed"], "after": ["completed"]}
