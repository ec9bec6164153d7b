from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from environments.services import ensure_default
from tests.api.builders import API, problem_of
from tests.support.approvals import a_person, a_request, say
from workflows.models import Delegation, Vote

NOBODY = "00000000-0000-7000-8000-000000000000"
FORM = {"type": "object", "required": ["limit"], "properties": {"limit": {"type": "integer"}}}


@pytest.fixture(autouse=True)
def _place(transactional_db: None) -> None:
    ensure_default()


def client_of(person: User) -> APIClient:
    """Return a client that sends a token of the person."""
    _, token = AuthToken.objects.create(person)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


@pytest.fixture
def ben() -> APIClient:
    """A member of finance, without any permission."""
    return client_of(a_person("ben", "finance"))


def ids(answer: Any) -> list[str]:
    """Return the ids of a list."""
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def test_a_member_sees_the_requests_to_their_group_and_no_others(ben: APIClient) -> None:
    mine = a_request(message="Pay?", timeout="1d")
    a_request(group="board")

    answer = ben.get(f"{API}/approvals/")

    assert ids(answer) == [str(mine.pk)]
    row = answer.json()["results"][0]
    assert (row["title"], row["message"], row["group"]) == ("sign", "Pay?", "finance")
    assert (row["approved"], row["approvals"], row["outcome"]) == (0, 1, "open")
    assert row["due_at"] is not None


def test_who_may_view_approvals_sees_all_of_them() -> None:
    a_request()
    viewer = client_of(a_person("vic", "viewers"))

    assert len(ids(viewer.get(f"{API}/approvals/"))) == 1
    assert ids(viewer.get(f"{API}/approvals/?mine=true")) == []


def test_what_is_mine_is_what_i_can_decide(ben: APIClient) -> None:
    open_one, voted = a_request(), a_request(approvals=2)
    say(voted, User.objects.get(username="ben"))

    assert ids(ben.get(f"{API}/approvals/?mine=true")) == [str(open_one.pk)]
    assert len(ids(ben.get(f"{API}/approvals/"))) == 2


def test_requests_are_filtered_and_paged_from_the_oldest(ben: APIClient) -> None:
    first, second = a_request(), a_request()

    page = ben.get(f"{API}/approvals/?limit=1").json()

    assert [row["id"] for row in page["results"]] == [str(first.pk)]
    assert ids(ben.get(page["next"])) == [str(second.pk)]
    assert ids(ben.get(f"{API}/approvals/?run={second.run_id}")) == [str(second.pk)]
    assert ids(ben.get(f"{API}/approvals/?group=board")) == []
    problem_of(ben.get(f"{API}/approvals/?nonsense=1"), 400)


def test_a_request_shows_all_that_one_needs_to_decide(ben: APIClient) -> None:
    request = a_request(form=FORM)

    found = ben.get(f"{API}/approvals/{request.pk}/").json()

    assert found["form"] == FORM
    assert found["input"] == {}
    assert found["votes"] == []
    assert found["started_by"] == "person:ann"


def test_a_member_decides_by_their_token(ben: APIClient) -> None:
    request = a_request(form=FORM)
    order = {"verdict": "approve", "note": "Fine.", "form": {"limit": 3}}

    answer = ben.post(f"{API}/approvals/{request.pk}/decide/", order)

    assert answer.status_code == 200, answer.content
    assert answer.json()["outcome"] == "approved"
    assert answer.json()["votes"][0]["person"] == "ben"
    assert Vote.objects.get().by.startswith("token:ben/")


@pytest.mark.parametrize(
    ("order", "status", "said"),
    [
        ({"verdict": "reject"}, 422, "a note that says why"),
        ({"verdict": "approve"}, 422, "does not fit the form"),
        ({"verdict": "approve", "form": {"limit": "x"}}, 422, "does not fit the form"),
        ({"verdict": "maybe"}, 400, ""),
        ({}, 400, ""),
    ],
)
def test_what_cannot_be_said_is_refused_with_findings(
    order: dict[str, Any], status: int, said: str, ben: APIClient
) -> None:
    request = a_request(form=FORM)

    problem = problem_of(ben.post(f"{API}/approvals/{request.pk}/decide/", order), status)

    assert said in problem["detail"]
    assert not Vote.objects.exists()


@pytest.mark.parametrize("path", ["", "decide/", "hand/"])
def test_who_is_no_member_neither_sees_nor_decides(path: str) -> None:
    request = a_request()
    eve = client_of(a_person("eve"))
    url = f"{API}/approvals/{request.pk}/{path}"
    body = {"verdict": "approve"} if path == "decide/" else {"to": "ann"}

    answer = eve.post(url, body) if path else eve.get(url)

    assert problem_of(answer, 403)["code"] == "not_allowed"
    assert not Vote.objects.exists()


def test_a_superuser_sees_all_and_decides_nothing() -> None:
    request = a_request()
    root = client_of(a_person("root", is_superuser=True))

    answer = root.post(f"{API}/approvals/{request.pk}/decide/", {"verdict": "approve"})

    assert len(ids(root.get(f"{API}/approvals/"))) == 1
    assert "no member of the group finance" in problem_of(answer, 403)["detail"]


def test_what_is_decided_already_is_a_conflict(ben: APIClient) -> None:
    request = a_request()
    url = f"{API}/approvals/{request.pk}/decide/"
    ben.post(url, {"verdict": "approve"})

    problem = problem_of(ben.post(url, {"verdict": "approve"}), 409)

    assert "It was approved by ben" in problem["detail"]


def test_several_requests_are_decided_at_once_each_checked_by_itself(ben: APIClient) -> None:
    mine, of_others, done = a_request(), a_request(group="board"), a_request()
    say(done, User.objects.get(username="ben"))
    asked = [str(one.pk) for one in (mine, of_others, done, mine)]

    answer = ben.post(f"{API}/approvals/decide/", {"approvals": asked, "verdict": "approve"})

    assert answer.status_code == 200, answer.content
    report = answer.json()
    assert report["done"] == [str(mine.pk)]
    why = {one["id"]: one["why"] for one in report["refused"]}
    assert "no member of the group board" in why[str(of_others.pk)]
    assert "It was approved by ben" in why[str(done.pk)]
    assert Vote.objects.filter(wait=mine.pk).get().by.startswith("token:ben/")


def test_what_was_started_by_who_asks_is_refused_among_several() -> None:
    own, ann = a_request(), client_of(a_person("ann", "finance"))

    answer = ann.post(f"{API}/approvals/decide/", {"approvals": [own.pk], "verdict": "approve"})

    assert answer.json()["done"] == []
    assert "nobody approves what they started" in answer.json()["refused"][0]["why"]


@pytest.mark.parametrize("asked", [[], ["x"], [NOBODY] * 201])
def test_no_request_and_more_than_a_page_of_them_are_refused(
    asked: list[str], ben: APIClient
) -> None:
    answer = ben.post(f"{API}/approvals/decide/", {"approvals": asked, "verdict": "approve"})

    assert problem_of(answer, 400)["findings"]


def test_a_vote_is_handed_on_used_and_seen_by_both(ben: APIClient) -> None:
    request = a_request()
    dora = client_of(a_person("dora"))

    handed = ben.post(f"{API}/approvals/{request.pk}/hand/", {"to": "dora"})
    decided = dora.post(f"{API}/approvals/{request.pk}/decide/", {"verdict": "approve"})

    assert handed.status_code == 201, handed.content
    assert decided.json()["votes"][0]["member"] == "ben"
    assert len(ids(dora.get(f"{API}/delegations/"))) == 1


def test_all_votes_are_handed_on_for_a_time_and_taken_back(ben: APIClient) -> None:
    request = a_request()
    dora = client_of(a_person("dora"))
    span = {"to": "dora", "ends_at": (timezone.now() + timedelta(days=3)).isoformat()}

    made = ben.post(f"{API}/delegations/", span).json()
    between = ids(dora.get(f"{API}/approvals/?mine=true"))
    taken = ben.delete(f"{API}/delegations/{made['id']}/")

    assert between == [str(request.pk)]
    assert taken.json()["withdrawn_at"] is not None
    assert ids(dora.get(f"{API}/approvals/?mine=true")) == []


def test_nobody_takes_back_the_vote_of_another(ben: APIClient) -> None:
    dora = client_of(a_person("dora"))
    made = ben.post(f"{API}/approvals/{a_request().pk}/hand/", {"to": "dora"}).json()

    problem_of(dora.delete(f"{API}/delegations/{made['id']}/"), 403)

    assert Delegation.objects.get().withdrawn_at is None


def test_the_list_asks_the_same_for_one_request_and_for_many(ben: APIClient) -> None:
    counts = []
    for more in (1, 9):
        for _ in range(more):
            a_request()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            ids(ben.get(f"{API}/approvals/?mine=true"))
        counts.append(len(queries))

    assert counts[0] == counts[1]
