"""An order is fulfilled in four systems, or leaves nothing behind in any of them."""

import pytest

from examples.order_fulfilment.__main__ import ORDER
from examples.order_fulfilment.targets import SYSTEMS, Targets, listening
from tests.support import invariants
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]


def start(targets: Targets) -> Run:
    """Start the fulfilment of one order in these systems."""
    given = {**ORDER, **targets.urls}
    return start_run(workflow="order-fulfilment", input=given, by="person:tester").run


def test_an_order_is_reserved_registered_charged_and_shipped(platform: Platform) -> None:
    with listening() as targets:
        done = platform.finished(start(targets))

    assert (done.state, done.output) == (
        "COMPLETED",
        {"parcel": "shipping-1", "charge": "payment-1"},
    )
    assert {system: targets.holds(system) for system in SYSTEMS} == {
        "erp": 2,
        "crm": 1,
        "payment": 1,
        "shipping": 1,
    }


@pytest.mark.parametrize("how", ["refusing", "dead"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_whatever_system_fails_nothing_is_left_behind_in_any(
    platform: Platform, system: str, how: str
) -> None:
    with listening(**{how: {system}}) as targets:
        done = platform.finished(start(targets))

    assert done.state == "COMPENSATED"
    assert {one: targets.holds(one) for one in SYSTEMS} == dict.fromkeys(SYSTEMS, 0)
    assert invariants.left_over(runs=[done.pk]) == []


def test_an_order_of_which_one_line_is_not_in_stock_gives_the_other_back(
    platform: Platform,
) -> None:
    with listening(refusing={"erp"}) as targets:
        platform.finished(start(targets))

    assert [one.split("/")[0] for one in targets.done("erp")] == ["POST ", "DELETE "]


def test_what_was_done_last_is_undone_first(platform: Platform) -> None:
    with listening(refusing={"shipping"}) as targets:
        done = platform.finished(start(targets))

    journal = done.journal.filter(after="COMPENSATED").exclude(path="").order_by("id")
    undone = list(journal.values_list("path", flat=True))
    assert undone[:2] == ["charge", "register"]
    assert sorted(undone[2:]) == ["reserve[0].stock", "reserve[1].stock"]
    assert targets.ledgers["payment"].done[-1].body["why"].startswith("ship: ")
