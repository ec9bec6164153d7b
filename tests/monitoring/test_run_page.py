import html
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from monitoring.picture import MOST_DRAWN, fitting
from monitoring.run_page import STEPS_SHOWN, VALUE_SHOWN, RunPage, run_page
from monitoring.templatetags.console import ago
from tests.admin.builders import completed, failed, permanent, started, worked_off
from workflows.models import Run
from workflows.selectors.runs import get_run
from workflows.services import children

pytestmark = pytest.mark.django_db


def page_of(run: Run, **wish: str) -> RunPage:
    user = get_user_model()(is_superuser=True, is_active=True)
    return run_page(get_run(run.pk), user, now=timezone.now(), **wish)


def wide(number: int) -> str:
    steps = "".join(
        f"  - {{id: s{n}, uses: log, needs: [], with: {{message: x}}}}\n" for n in range(number)
    )
    return f"workflow: wide-{number}\nretry: {{max_attempts: 1}}\nsteps:\n{steps}"


def test_the_picture_shows_every_step_in_its_state() -> None:
    page = page_of(failed())

    said = {one.box.path: one.detail.partition(" · ")[0] for one in page.pictures[0].drawn}
    assert said == {"fetch": "Failed", "store": "Skipped"}


def test_what_needs_a_person_comes_first_with_its_buttons() -> None:
    page = page_of(failed())

    incident, buttons = page.incidents[0]
    assert incident.path == "fetch"
    labels = [button.label for button in buttons]
    assert labels == ["Replay", "Correct and replay", "Skip", "Discard"]
    assert [button.label for button in page.buttons] == [
        "Replay what failed",
        "Fork",
        "Start another",
    ]


CALLER = """
workflow: caller
steps:
  - {id: call, workflow: two-steps, with: {name: Ann}}
  - {id: after, uses: log, with: {message: done}}
"""


def test_parent_and_child_run_lead_to_each_other(client: Client) -> None:
    started()
    parent = started(CALLER)
    children.attend(run_id=parent.pk)
    child = Run.objects.get(parent=parent)
    client.force_login(get_user_model().objects.create_superuser("root"))

    pages = {
        run.pk: client.get(reverse("admin:workflows_run_change", args=[run.pk])).content.decode()
        for run in (parent, child)
    }

    assert page_of(parent).children == [child]
    assert [row.child for row in page_of(parent).rows] == [child, None]
    assert page_of(child).parent == parent
    assert reverse("admin:workflows_run_change", args=[child.pk]) in pages[parent.pk]
    assert reverse("admin:workflows_run_change", args=[parent.pk]) in pages[child.pk]
    step = parent.steps.get(path="call")
    shown = client.get(reverse("admin:workflows_step_change", args=[step.pk])).content.decode()
    assert reverse("admin:workflows_run_change", args=[child.pk]) in shown


def test_a_page_of_many_steps_costs_as_many_queries_as_one_of_few() -> None:
    def cost(run: Run) -> int:
        page_of(run)
        with CaptureQueriesContext(connection) as captured:
            page_of(run)
        return len(captured)

    few = cost(worked_off(started(wide(2), x=1).pk, {"s1": permanent()}))

    many = cost(worked_off(started(wide(80), x=1).pk, {f"s{n}": permanent() for n in range(40)}))

    assert many <= few + 1


def test_beyond_its_bound_the_picture_gives_way_to_the_pages_of_the_table() -> None:
    page = page_of(started(wide(MOST_DRAWN + 1), x=1), page="2")

    assert page.pictures == []
    assert len(page.rows) == STEPS_SHOWN
    assert page.rows[0].step.path == f"s{STEPS_SHOWN}"


def test_the_table_is_narrowed_to_a_state() -> None:
    page = page_of(failed(), state="SKIPPED")

    assert [row.step.path for row in page.rows] == ["store"]


@pytest.mark.parametrize("wish", [{"page": "x"}, {"page": "-1"}, {"page": "999"}, {"state": "?"}])
def test_nonsense_in_the_address_shows_the_page_all_the_same(wish: dict[str, str]) -> None:
    assert page_of(completed(), **wish).rows


def test_a_long_output_is_cut_and_says_so() -> None:
    run = worked_off(started().pk, {"fetch": {"text": "x" * 50_000}})

    row = page_of(run).rows[0]

    assert len(row.output) < VALUE_SHOWN + 100
    assert row.output.endswith("open the step for all of it")


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "just now"), (90, "1\xa0minute ago"), (7200, "2\xa0hours ago")]
)
def test_what_is_younger_than_a_minute_is_just_now(seconds: int, said: str) -> None:
    assert ago(timezone.now() - timedelta(seconds=seconds)) == said


def test_a_step_of_a_picture_says_what_there_is_room_for() -> None:
    assert fitting(["Completed", "try 2", "11 ms"]) == "Completed · try 2 · 11 ms"
    assert fitting(["Compensation failed", "try 2", "3 s"]) == "Compensation failed · 3 s"


def test_a_bar_stays_inside_the_time_of_its_run() -> None:
    page = page_of(completed())

    assert [bar.path for bar in page.bars] == ["fetch", "store"]
    assert all(bar.left >= 0 and bar.left + bar.waited + bar.worked <= 100.5 for bar in page.bars)


def test_a_run_that_is_over_is_not_asked_for_again() -> None:
    assert page_of(started()).is_live
    assert not page_of(completed()).is_live


def test_a_loop_says_how_far_it_has_come_and_its_body_how_its_items_stand() -> None:
    text = (
        "workflow: looped\nretry: {max_attempts: 1}\nsteps:\n"
        "  - {id: each, foreach: [1, 2, 3], on_item_failure: continue,"
        " steps: [{id: one, uses: log, with: {message: x}}]}\n"
    )
    run = worked_off(started(text).pk, {"each[1].one": permanent()})

    drawn = {one.box.path: one.detail for one in page_of(run).pictures[0].drawn}

    assert drawn == {"each": "Failed · 3 of 3, 1 failed", "each[].one": "1 failed of 3"}


def test_the_items_of_a_loop_are_shown_in_the_order_of_their_numbers() -> None:
    items = ", ".join(map(str, range(12)))
    text = (
        f"workflow: counted\nsteps:\n  - {{id: each, foreach: [{items}],"
        " steps: [{id: one, uses: log, with: {message: x}}]}\n"
    )

    page = page_of(worked_off(started(text).pk, {}))

    assert [row.step.path for row in page.rows][1:] == [f"each[{n}].one" for n in range(12)]


TICKET = """
workflow: ticket
retry: {max_attempts: 1}
input: {type: object, properties: {name: {type: string}}}
steps:
  - id: ticket
    states:
      - {id: triage, uses: log, with: {message: x}, next: work}
      - id: work
        uses: log
        with: {message: x}
        next:
          - {when: "${{ steps.work.output.did == 'ticket[1].work' }}", to: triage}
          - {to: done}
      - {id: done, uses: log, with: {message: x}}
"""


def test_the_transitions_that_a_run_has_gone_through_are_marked() -> None:
    names = ("triage", "work", "done")
    triage, work, done = (f"ticket[].{name}" for name in names)

    under_way = page_of(worked_off(started(TICKET).pk, steps=3))
    ended = page_of(completed(TICKET))

    assert taken(under_way) == {(triage, work), (work, triage)}
    assert taken(ended) == {(triage, work), (work, triage), (work, done), (done, "")}


def taken(page: RunPage) -> set[tuple[str, str]]:
    edges = [one for one in page.pictures[0].edges if one.is_taken]
    return {(one.edge.source, one.edge.target) for one in edges}


def test_the_ways_of_states_are_said_to_those_who_do_not_see_the_picture(client: Client) -> None:
    user = get_user_model().objects.create_superuser("ann", password="a long enough password")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    run = completed(TICKET)

    seen = client.get(reverse("admin:workflows_run_change", args=[run.pk])).content.decode()

    assert "<title>work to done, otherwise. Taken by this run</title>" in seen
    assert "It leads to triage, when ${{ steps.work.output.did" in html.unescape(seen)
