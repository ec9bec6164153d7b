import pytest

from environments.services import ensure_default
from tests.commands.builders import manage
from tests.support.approvals import a_person, a_request
from workflows.management.watching import advice_on
from workflows.models import Delegation, Run, Vote
from workflows.selectors.counts import steps_by_state


@pytest.fixture(autouse=True)
def _place(transactional_db: None) -> None:
    ensure_default()
    a_person("ben", "finance")


def test_the_open_requests_are_listed_and_those_of_one_person() -> None:
    mine, other = a_request(message="Pay?"), a_request(group="board")

    every = manage("approval", "list", "--json").json()["results"]
    bens = manage("approval", "list", "--as", "ben", "--json").json()["results"]

    assert [one["id"] for one in every] == [str(mine.pk), str(other.pk)]
    assert [one["id"] for one in bens] == [str(mine.pk)]
    assert str(mine.pk) in manage("approval", "list").out


def test_who_watches_a_run_is_told_whom_it_asks() -> None:
    request = a_request()
    counts = steps_by_state([request.run_id])[request.run_id]

    said = advice_on(request.run_id, "RUNNING", counts)

    assert said == (
        f"The run waits for finance to decide: manage.py approval list --run {request.run_id}"
    )


def test_nothing_to_decide_is_said() -> None:
    assert "No request waits" in manage("approval", "list").out


def test_a_request_is_shown_with_who_can_decide_and_how() -> None:
    request = a_request(message="Pay?", timeout="2d")

    shown = manage("approval", "show", request.pk).out

    assert "Pay?" in shown
    assert f"manage.py approval decide {request.pk} --as NAME --approve" in shown
    assert "ben" in shown


def test_a_request_that_nobody_can_decide_says_what_to_do() -> None:
    request = a_request(group="board")

    assert "There is no group board" in manage("approval", "show", request.pk).out


def test_requests_are_decided_in_the_name_of_an_account() -> None:
    request = a_request()

    answer = manage("approval", "decide", request.pk, "--as", "ben", "--approve", "--note", "Fine.")

    vote = Vote.objects.get()
    assert (answer.status, answer.out) == (0, "Approve: 1 done.\n")
    assert (vote.person_name, vote.note) == ("ben", "Fine.")
    assert vote.by.startswith("command:")
    assert vote.by.endswith(" as ben")
    assert Run.objects.get().state == "COMPLETED"


def test_many_are_decided_each_by_itself() -> None:
    mine, other = a_request(), a_request(group="board")

    answer = manage(
        "approval", "decide", mine.pk, other.pk, "--as", "ben", "--reject", "--note", "no", "--json"
    )

    assert answer.status == 2
    assert answer.json()["done"] == [str(mine.pk)]
    assert "no member of the group board" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--as", "nobody", "--approve"), "There is no account nobody"),
        (("--as", "ben", "--reject"), "a note that says why"),
        (("--as", "ben", "--approve", "--form", "[1]"), "must be a JSON object"),
        (("--as", "ben", "--approve", "--form", '{"a": 1}'), "has no form"),
    ],
)
def test_what_cannot_be_said_is_refused(arguments: tuple[str, ...], said: str) -> None:
    answer = manage("approval", "decide", a_request().pk, *arguments)

    assert answer.status == 2
    assert said in answer.err
    assert not Vote.objects.exists()


def test_a_vote_is_handed_on_for_a_request_and_for_a_time() -> None:
    request = a_request()
    a_person("dora")

    one = manage("approval", "delegate", request.pk, "--as", "ben", "--to", "dora")
    span = manage("approval", "delegate", "--as", "ben", "--to", "dora", "--for", "3d", "--json")
    neither = manage("approval", "delegate", "--as", "ben", "--to", "dora")

    assert "dora decides in the place of ben on this request." in one.out
    assert span.json()["taker"] == "dora"
    assert neither.status == 2
    assert Delegation.objects.count() == 2
