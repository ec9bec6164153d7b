"""The examples in memory: every branch of them, in no time, as their authors would test them."""

from pathlib import Path
from typing import Any

import pytest

from workers.registry import catalog
from workflows.testing import Run, Workflow, calls, fails, lost_worker, skip, takes
from workflows.testing.branches import branches_of, taken_by

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> Workflow:
    return Workflow.load(EXAMPLES / name / "workflow.yaml", catalog=catalog)


def untaken(workflow: Workflow, *runs: Run) -> list[tuple[str, str]]:
    taken = set().union(*(taken_by(run.simulation, run.lines) for run in runs))
    branches = branches_of(workflow.plan, workflow.text, workflow.source)
    return [one.key for one in branches if one.key not in taken]


ORDER = example("order_fulfilment").given(
    stubs={
        "stock": lambda call: {"json": {"id": f"R-{call.arguments['json']['sku']}"}},
        "charge": {"json": {"id": "C-1"}},
        "ship": {"json": {"id": "P-1"}},
    }
)
URLS = {f"{name}_url": f"http://{name}" for name in ("erp", "crm", "payment", "shipping")}
TWO_LINES = {
    "order": "A-1",
    "amount": 12,
    "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}],
    **URLS,
}
ONE_LINE = {**TWO_LINES, "lines": TWO_LINES["lines"][:1]}


def test_a_backup_set_that_is_skipped_counts_for_nothing_in_the_totals() -> None:
    found = {"files": 3, "bytes": 20, "skipped": 1}
    stubs = {
        "list": {"root": "/backups", "sets": ["a", "b"]},
        "verify[0].check": found,
        "verify[1].check": fails("permanent", code="backup.corrupt"),
    }

    run = example("backup_verification").run(skip("verify[1].check", after="1h"), stubs=stubs)

    run.assert_completed({"sets": 1, **found})


def test_an_order_is_fulfilled() -> None:
    run = ORDER.run(input=ONE_LINE)

    run.assert_completed({"parcel": "P-1", "charge": "C-1"})
    run.assert_path("stock", "register", "charge", "ship")


def test_an_order_that_cannot_be_shipped_is_undone_in_every_system() -> None:
    run = ORDER.run(input=TWO_LINES, stubs={"ship": fails("permanent", code="http.422")})

    run.assert_compensated("charge", "register", "reserve[1].stock", "reserve[0].stock")
    run.assert_called("charge.compensate", url="http://payment/charges/C-1/refund")
    run.assert_called("http.request", method="DELETE", url="http://erp/reservations/R-a", times=1)


def test_an_order_outlives_workers_that_are_lost_and_systems_that_are_away() -> None:
    away = fails("transient", code="http.503", times=2).then({"json": {"id": "C-2"}})

    run = ORDER.run(input=ONE_LINE, stubs={"register": lost_worker(), "charge": away})

    run.assert_completed()
    run.assert_attempts("charge", 3)


def test_every_branch_of_the_order_is_taken_but_that_without_lines() -> None:
    runs = [
        ORDER.run(input=ONE_LINE),
        ORDER.run(input=TWO_LINES, stubs={"ship": fails("permanent")}),
    ]

    assert untaken(ORDER, *runs) == [("reserve", "no item")]


@pytest.fixture
def deployment() -> Workflow:
    def telemetry(requests: int, errors: int) -> dict[str, Any]:
        rate = errors / requests if requests else 0.0
        return {"json": {"requests": requests, "errors": errors, "error_rate": rate}}

    return example("self_healing_deployment").given(
        stubs={
            "stage": {"json": {"url": "http://v2"}},
            "measure": calls(telemetry(0, 0), telemetry(60, 0), telemetry(120, 1)),
        },
        durations={"test": "3s"},
    )


RELEASE = {"version": "v2", "cluster_url": "http://cluster"}


def test_a_good_version_is_promoted(deployment: Workflow) -> None:
    run = deployment.run(input=RELEASE)

    run.assert_completed()
    run.assert_ran("promote")
    run.assert_called("measure", times=3)


def test_a_bad_version_is_taken_back(deployment: Workflow) -> None:
    bad = {"json": {"requests": 120, "errors": 40, "error_rate": 0.33}}

    run = deployment.run(input=RELEASE, stubs={"measure": bad})

    run.assert_compensated("canary", "stage")
    assert run.error is not None
    assert run.error.code == "deployment.worse"


def test_a_version_that_nobody_asks_for_is_taken_back_when_its_time_is_up(
    deployment: Workflow,
) -> None:
    quiet = takes("10s", {"json": {"requests": 1, "errors": 0, "error_rate": 0.0}})

    run = deployment.run(input=RELEASE, stubs={"measure": quiet})

    run.assert_compensated("canary", "stage")
    run.assert_took("5m3s")


def test_every_branch_of_the_deployment_is_taken(deployment: Workflow) -> None:
    bad = {"json": {"requests": 120, "errors": 40, "error_rate": 0.33}}
    runs = [deployment.run(input=RELEASE), deployment.run(input=RELEASE, stubs={"measure": bad})]

    assert untaken(deployment, *runs) == []
