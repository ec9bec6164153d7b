from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from environments.services import ensure_default
from tests.admin.builders import person
from tests.support.approvals import a_person, a_request, say
from tests.workflows.builders import ANN, state
from workflows.models import Approval, Delegation, Vote
from workflows.services.runs import cancel_run

LIST = "admin:workflows_approval_changelist"
FORM = {
    "type": "object",
    "required": ["limit"],
    "properties": {"limit": {"type": "integer", "title": "Limit"}, "urgent": {"type": "boolean"}},
}


@pytest.fixture(autouse=True)
def _place(db: None) -> None:
    ensure_default()


def client_of(user: User) -> Client:
    """Return the admin as a person sees it."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def ben() -> Client:
    """A member of finance, without any role."""
    return client_of(a_person("ben", "finance", is_staff=True))


def page(client: Client, request: Approval, name: str = "change") -> Any:
    """Open a page of a request."""
    return client.get(url_of(request, name))


def url_of(request: Approval, name: str) -> str:
    return reverse(f"admin:workflows_approval_{name}", args=[request.pk])


def test_the_inbox_of_a_member_has_what_they_can_decide(ben: Client) -> None:
    a_request(message="Pay 7 to Acme?")
    a_request(group="board", message="Sell it?")

    seen = ben.get(reverse(LIST)).content.decode()

    assert "Pay 7 to Acme?" in seen
    assert "Sell it?" not in seen
    assert "0 of 1" in seen


def test_a_member_never_sees_the_requests_to_other_groups(ben: Client) -> None:
    other = a_request(group="board", message="Sell it?")

    listed = ben.get(reverse(LIST), {"show": "all"}).content.decode()

    assert "Sell it?" not in listed
    assert page(ben, other).status_code == 403
    assert page(ben, other, "approve").status_code == 403


def test_who_may_view_approvals_sees_all_of_them_and_decides_none() -> None:
    viewer, request = client_of(person("viewers", "vic")), a_request(message="Pay?")

    listed = viewer.get(reverse(LIST), {"show": "open"}).content.decode()
    seen = page(viewer, request).content.decode()

    assert "Pay?" in listed
    assert "no member of the group finance" in seen
    assert url_of(request, "approve") not in seen


def test_the_inbox_says_until_when(ben: Client) -> None:
    a_request(timeout="2d")
    a_request()

    seen = ben.get(reverse(LIST)).content.decode()

    assert "in 1 d 23 h" in seen
    assert "no limit" in seen


def test_a_form_is_drawn_in_the_order_of_its_definition(ben: Client) -> None:
    parts = {name: {"type": "string"} for name in ("zebra", "ant", "bee")}
    request = a_request(form={"type": "object", "properties": parts})

    drawn = page(ben, request, "approve").context["form"]

    assert list(drawn.names.values()) == ["zebra", "ant", "bee"]


def test_what_is_mine_comes_first_among_all_that_is_open(ben: Client) -> None:
    root = a_person("root", "finance", is_staff=True, is_superuser=True)
    a_request(group="board", message="the older one")
    a_request(message="the one for me")

    seen = client_of(root).get(reverse(LIST), {"show": "open"}).content.decode()

    assert seen.index("the one for me") < seen.index("the older one")
    assert "for you" in seen


def test_staff_whom_no_request_can_concern_has_no_inbox() -> None:
    assert client_of(person("", "eve")).get(reverse(LIST)).status_code == 403


def test_the_page_shows_what_is_asked_and_where_the_run_stands(ben: Client) -> None:
    request = a_request(message="Pay 7?", timeout="2d", approvals=2)
    say(request, a_person("cleo", "finance"))

    seen = page(ben, request).content.decode()

    for words in (
        "Pay 7?",
        "1 of 2",
        "cleo",
        "in 1 d 23 h",
        "ann",
        "ben",
        "What the run was given",
    ):
        assert words in seen, words
    assert url_of(request, "approve") in seen


def test_the_page_says_when_nobody_can_decide_and_what_to_do() -> None:
    root = client_of(person("root", "root"))

    assert "There is no group board" in page(root, a_request(group="board")).content.decode()


def test_a_request_is_approved_with_what_its_form_asks_for(ben: Client) -> None:
    request = a_request(form=FORM)
    drawn = page(ben, request, "approve").content.decode()

    answer = ben.post(
        url_of(request, "approve"), {"input-limit": "5", "input-urgent": "true", "note": "Fine."}
    )

    assert 'name="input-limit"' in drawn
    assert answer.status_code == 302
    assert state(request.run) == "COMPLETED"
    assert Vote.objects.get().form == {"limit": 5, "urgent": True}


@pytest.mark.parametrize("given", [{"input-limit": ""}, {"everything": '{"limit": "x"}'}])
def test_what_does_not_fit_the_form_is_shown_with_it(given: dict[str, str], ben: Client) -> None:
    request = a_request(form=FORM)

    answer = ben.post(url_of(request, "approve"), given)

    assert answer.status_code == 200
    assert not Vote.objects.exists()


def test_a_request_is_rejected_with_a_reason(ben: Client) -> None:
    request = a_request()
    without = ben.post(url_of(request, "reject"), {"note": ""})

    ben.post(url_of(request, "reject"), {"note": "Too much."})

    assert without.status_code == 200
    assert state(request.run) == "FAILED"
    assert Vote.objects.get().by == "person:ben"


def test_a_decision_that_comes_too_late_says_so(ben: Client) -> None:
    request = a_request()
    cancel_run(run_id=request.run_id, by=ANN)

    answer = ben.post(url_of(request, "approve"), {"note": ""}, follow=True)

    assert "There is nothing to decide any more" in answer.content.decode()


def test_many_are_decided_together_each_checked_by_itself(ben: Client) -> None:
    mine, form = a_request(), a_request(form=FORM)
    order = {"action": "approve", "_selected_action": [str(mine.pk), str(form.pk)], "note": ""}
    asked = ben.post(reverse(LIST), order).content.decode()

    said = ben.post(reverse(LIST), {**order, "decided": "1"}, follow=True).content.decode()

    assert "Each is checked by itself" in asked
    assert "Approve: 1 done, 1 refused" in said
    assert (state(mine.run), state(form.run)) == ("COMPLETED", "RUNNING")


def test_a_forged_bulk_decision_of_a_viewer_decides_nothing() -> None:
    request = a_request()
    order = {"action": "approve", "_selected_action": str(request.pk), "decided": "1", "note": ""}

    client_of(person("viewers", "vic")).post(f"{reverse(LIST)}?show=open", order)

    assert not Vote.objects.exists()


def test_a_vote_is_handed_over_seen_and_taken_back(ben: Client) -> None:
    request, dora = a_request(), client_of(a_person("dora", is_staff=True))

    ben.post(url_of(request, "hand"), {"to": "dora", "note": "away"})
    seen = page(dora, request).content.decode()
    given = Delegation.objects.get()
    ben.post(reverse("admin:workflows_delegation_withdraw", args=[given.pk]))

    assert "in the place of <b>ben</b>" in seen
    assert url_of(request, "approve") in seen
    assert url_of(request, "hand") not in seen
    assert page(dora, request).status_code == 403


def test_all_votes_are_handed_over_for_a_time(ben: Client) -> None:
    a_person("dora", is_staff=True)
    until = timezone.now() + timedelta(days=2)
    hand = reverse("admin:workflows_delegation_hand")

    ben.post(hand, {"to": "dora", "ends_at": f"{until:%Y-%m-%dT%H:%M}", "note": ""})
    listed = ben.get(reverse("admin:workflows_delegation_changelist")).content.decode()

    assert Delegation.objects.get().taker_name == "dora"
    assert "Handed over by you" in listed


def test_a_mistake_in_whom_a_vote_is_handed_to_is_shown(ben: Client) -> None:
    answer = ben.post(url_of(a_request(), "hand"), {"to": "nobody", "note": ""})

    assert "no active account nobody" in answer.content.decode()


def test_a_request_that_has_ended_says_how_and_offers_nothing(ben: Client) -> None:
    request = a_request()
    say(request, a_person("cleo", "finance"))

    seen = page(ben, request).content.decode()

    assert "It was approved by cleo at" in seen
    assert url_of(request, "approve") not in seen


@pytest.mark.parametrize("show", ["mine", "open", "all"])
def test_the_inbox_costs_as_many_queries_for_one_as_for_twenty(show: str, ben: Client) -> None:
    counts = []
    for more in (1, 19):
        for _ in range(more):
            a_request()
        ben.get(reverse(LIST), {"show": show})
        with CaptureQueriesContext(connection) as captured:
            ben.get(reverse(LIST), {"show": show})
        counts.append(len(captured))

    assert counts[0] == counts[1]


def test_the_number_to_decide_stands_beside_the_link(ben: Client) -> None:
    a_request()
    a_request()

    seen = ben.get(reverse(LIST)).content.decode()

    assert "Approvals" in seen
    assert ">2<" in "".join(seen.split())


def test_the_run_page_says_whom_it_waits_for() -> None:
    request = a_request(message="Pay 7?")
    root = client_of(person("root", "root"))

    seen = root.get(reverse("admin:workflows_run_change", args=[request.run_id])).content.decode()

    assert "The run waits for a decision of finance." in seen
    assert url_of(request, "change") in seen


def test_the_page_of_the_step_leads_to_the_request() -> None:
    request = a_request()
    root = client_of(person("root", "root"))

    seen = root.get(reverse("admin:workflows_step_change", args=[request.step_id])).content.decode()

    assert url_of(request, "change") in seen


def test_who_only_decides_is_led_to_the_inbox(ben: Client) -> None:
    seen = ben.get(reverse("admin:index")).content.decode()

    assert "You decide on what your groups are asked." in seen


def test_the_header_of_every_page_says_how_many_wait_for_this_person(ben: Client) -> None:
    other = person("operators")
    a_request()
    a_request()

    seen = ben.get(reverse(LIST)).content.decode()

    assert '<span>2<span class="words"> to decide</span></span></a>' in seen
    of_other = client_of(other).get(reverse("admin:index")).content.decode()
    assert "to decide</span>" not in of_other


def test_the_number_in_the_header_costs_no_statement_of_its_own(ben: Client) -> None:
    a_request()

    with CaptureQueriesContext(connection) as queries:
        ben.get(reverse(LIST))

    counted = [one["sql"] for one in queries if "LIMIT 100" in one["sql"] and "COUNT" in one["sql"]]
    assert len(counted) == 1


def test_who_rejects_sees_what_is_asked(ben: Client) -> None:
    request = a_request(message="Pay 7 to Acme?")
    chosen = {"action": "reject", "_selected_action": [str(request.pk)]}

    one = page(ben, request, "reject").content.decode()
    many = ben.post(reverse(LIST), chosen).content.decode()

    assert "Pay 7 to Acme?" in one
    assert f"sign of {request.run.workflow.name}: Pay 7 to Acme?" in many
