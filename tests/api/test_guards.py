import pytest

from tests.api.builders import API, a_client, problem_of
from tests.workflows.builders import a_run, claim, claimed, fail, task
from workflows.models import Breaker, BreakerJournal, Run

pytestmark = pytest.mark.usefixtures("ready")

CRM = f"{API}/guards/default/crm"


@pytest.fixture
def ready(db: None) -> None:
    from environments.services import ensure_default

    ensure_default()


def guarded_run() -> Run:
    return a_run(task("only", guard="crm", retry={"max_attempts": 9, "initial_delay": 0}))


def opened() -> Run:
    """Have the guard open by failures, and a step parked before it."""
    run = guarded_run()
    for attempt in range(1, 6):
        fail(claimed(run, "only", attempt), "transient")
    assert claim(run, "only", 6) is None
    return run


def test_a_guard_says_where_it_stands_and_what_is_parked_before_it() -> None:
    run = opened()
    client = a_client("view_breaker")

    [guard] = client.get(f"{API}/guards/").json()["results"]
    [parked] = client.get(f"{CRM}/parked/").json()["results"]

    assert (guard["state"], guard["parked_steps"], guard["held_by_hand"]) == ("OPEN", 1, False)
    assert "next trial at" in guard["standing"]
    assert (parked["run"], parked["path"], parked["attempt"]) == (str(run.pk), "only", 6)


def test_a_guard_is_opened_by_hand_before_it_ever_failed_and_closed_again() -> None:
    client = a_client("operate_breaker", name="ann")

    opened = client.post(f"{CRM}/open/", {"why": "The CRM is being moved."})
    closed = client.post(f"{CRM}/close/", {"why": "It has been moved."})

    assert (opened.json()["state"], opened.json()["held_by_hand"]) == ("OPEN", True)
    assert closed.json()["state"] == "CLOSED"
    actors = BreakerJournal.objects.values_list("actor", flat=True)
    assert all(actor.startswith("token:ann/") for actor in actors)


def test_a_guard_is_not_opened_without_a_reason() -> None:
    problem_of(a_client("operate_breaker").post(f"{CRM}/open/", {}), 400)

    assert not Breaker.objects.exists()


def test_a_guard_that_is_closed_cannot_be_closed() -> None:
    problem = problem_of(a_client("operate_breaker").post(f"{CRM}/close/", {"why": "x"}), 409)

    assert "closed already" in problem["detail"]


def test_guards_are_those_of_the_environment_that_is_asked_for() -> None:
    opened()

    answer = a_client("view_breaker").get(f"{API}/guards/", {"environment": "other"})

    assert answer.json()["results"] == []


def test_a_guard_of_an_environment_that_is_not_there_is_not_found() -> None:
    client = a_client("operate_breaker", "view_breaker")

    problem_of(client.get(f"{API}/guards/nowhere/crm/"), 404)
    problem_of(client.post(f"{API}/guards/nowhere/crm/open/", {"why": "x"}), 404)
