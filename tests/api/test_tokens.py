from base64 import b64encode

import pytest
from rest_framework.test import APIClient

from tests.api.builders import API, PASSWORD, a_client, a_user, problem_of

pytestmark = pytest.mark.django_db


def with_password(name: str, password: str = PASSWORD) -> APIClient:
    secret = b64encode(f"{name}:{password}".encode()).decode()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Basic {secret}")
    return client


def with_token(token: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def test_a_token_made_with_a_password_opens_doors_until_it_is_revoked() -> None:
    a_user("view_run", name="ann")
    made = with_password("ann").post(f"{API}/tokens/", {"hours": 2})
    client = with_token(made.json()["token"])

    before = client.get(f"{API}/runs/").status_code
    revoked = client.delete(f"{API}/tokens/{made.json()['key']}/").status_code
    after = client.get(f"{API}/runs/").status_code

    assert (made.status_code, before, revoked, after) == (201, 200, 204, 401)


def test_the_list_of_tokens_does_not_show_what_they_are_used_with() -> None:
    a_user(name="ann")
    a_user(name="bob")
    client = with_password("ann")
    token = client.post(f"{API}/tokens/").json()["token"]

    page = client.get(f"{API}/tokens/")

    assert len(page.json()["results"]) == 1
    assert token not in page.content.decode()
    assert with_password("bob").get(f"{API}/tokens/").json()["results"] == []


def test_a_token_of_somebody_else_cannot_be_revoked() -> None:
    a_user(name="ann")
    key = with_password("ann").post(f"{API}/tokens/").json()["key"]

    refused = a_client(name="bob").delete(f"{API}/tokens/{key}/")

    assert problem_of(refused, 404)["code"] == "not_found"
    assert len(with_password("ann").get(f"{API}/tokens/").json()["results"]) == 1


def test_a_token_cannot_make_another() -> None:
    refused = a_client().post(f"{API}/tokens/")

    assert problem_of(refused, 401)["code"] == "not_authenticated"


@pytest.mark.parametrize("hours", [0, 8761, "long"])
def test_a_token_is_valid_from_an_hour_to_a_year(hours: object) -> None:
    a_user(name="ann")

    refused = with_password("ann").post(f"{API}/tokens/", {"hours": hours})

    assert problem_of(refused, 400)["findings"][0]["path"] == "hours"


def test_a_wrong_password_makes_no_token() -> None:
    a_user(name="ann")

    refused = with_password("ann", "guess").post(f"{API}/tokens/")

    assert problem_of(refused, 401)["code"] == "not_authenticated"


def test_a_password_is_locked_after_ten_guesses() -> None:
    a_user(name="ann")
    for _ in range(10):
        with_password("ann", "guess").post(f"{API}/tokens/")

    refused = with_password("ann").post(f"{API}/tokens/")

    assert refused.status_code in {401, 403, 429}


@pytest.mark.parametrize("token", ["guess", "a b", "\xff\xfe", "x" * 10_000])
def test_a_wrong_token_is_refused(token: str) -> None:
    assert problem_of(with_token(token).get(f"{API}/runs/"), 401)


def test_tokens_are_not_made_by_the_dozen() -> None:
    a_user(name="ann")
    client = with_password("ann")
    answers = [client.post(f"{API}/tokens/") for _ in range(11)]

    refused = answers[-1]

    assert problem_of(refused, 429)["code"] == "too_many_requests"
    assert 0 < int(refused["Retry-After"]) <= 61
