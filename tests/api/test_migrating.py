"""Having runs go over to another version by REST: look first, then do it."""

import pytest

from tests.admin.builders import started
from tests.api.builders import API, a_client, problem_of
from workflows.models import Run
from workflows.services.definitions import apply_definition

pytestmark = pytest.mark.django_db

ORDER = """
workflow: order
steps:
  - {id: charge, uses: log, with: {message: charge}}
  - {id: ship, uses: log, with: {message: ship}}
"""
THANKED = ORDER + "  - {id: thank, uses: log, with: {message: thank}}\n"
RENAMED = ORDER.replace("id: charge", "id: pay")


def a_version(text: str) -> None:
    apply_definition(text=text, source="order.yaml", by="person:ann")


def test_a_preflight_says_what_becomes_of_each_run_of_a_workflow() -> None:
    run = started(ORDER)
    a_version(THANKED)

    found = a_client("view_run").post(
        f"{API}/runs/migration/preflight/", {"workflow": "order"}, format="json"
    )

    [one] = found.json()["runs"]
    assert (found.status_code, found.json()["verdicts"]) == (200, {"SAFE": 1})
    assert (one["run"], one["from_version"], one["to_version"]) == (str(run.pk), 1, 2)
    assert one["findings"][0]["path"] == "thank"
    assert Run.objects.get(pk=run.pk).version.number == 1


def test_a_preflight_comes_in_pages() -> None:
    runs = [started(ORDER) for _ in range(3)]
    a_version(THANKED)
    client, asked = a_client("view_run"), {"workflow": "order", "limit": 2}

    first = client.post(f"{API}/runs/migration/preflight/", asked, format="json").json()
    asked["cursor"] = first["next"]
    second = client.post(f"{API}/runs/migration/preflight/", asked, format="json").json()

    assert [one["run"] for one in (*first["runs"], *second["runs"])] == [
        str(run.pk) for run in reversed(runs)
    ]
    assert second["next"] is None


def test_runs_go_over_and_say_which_versions_they_had() -> None:
    run = started(ORDER)
    a_version(THANKED)
    client = a_client("migrate_run", "view_run")

    report = client.post(f"{API}/runs/migration/", {"runs": [str(run.pk)]}, format="json").json()

    assert (report["done"], report["refused"]) == ([str(run.pk)], [])
    shown = client.get(f"{API}/runs/{run.pk}/").json()
    assert shown["version"] == 2
    [migration] = shown["migrations"]
    assert (migration["from_version"], migration["to_version"]) == (1, 2)
    assert migration["by"].startswith("token:")


def test_what_needs_a_mapping_is_refused_until_there_is_one() -> None:
    run = started(ORDER)
    a_version(RENAMED)
    client = a_client("migrate_run")
    order = {"runs": [str(run.pk)], "version": 2}

    refused = client.post(f"{API}/runs/migration/", order, format="json").json()
    done = client.post(
        f"{API}/runs/migration/", {**order, "mapping": {"charge": "pay"}}, format="json"
    ).json()

    assert "NEEDS_MAPPING" in refused["refused"][0]["why"]
    assert done["done"] == [str(run.pk)]


@pytest.mark.parametrize(
    "order",
    [{}, {"runs": []}, {"runs": ["1" * 32] * 501}, {"runs": ["1" * 32], "mapping": {"a": 1.5}}],
)
def test_an_order_that_cannot_be_read_is_refused(order: dict[str, object]) -> None:
    answer = a_client("migrate_run").post(f"{API}/runs/migration/", order, format="json")

    if order.get("mapping"):
        assert answer.status_code in {200, 400}
    else:
        problem_of(answer, 400)


def test_a_preflight_asks_for_runs_in_one_way() -> None:
    both = {"runs": ["1" * 32], "workflow": "order"}

    answer = a_client("view_run").post(f"{API}/runs/migration/preflight/", both, format="json")

    assert "either" in str(problem_of(answer, 400))
