"""A release is promoted or taken back by what real requests tell of it."""

import pytest

from examples.self_healing_deployment.targets import Cluster, running
from tests.support import invariants
from tests.support.platform import Platform
from workflows.models import Run
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]


def start(cluster: Cluster, **given: object) -> Run:
    """Start the release of version v2."""
    wanted = {"version": "v2", "cluster_url": cluster.url, **given}
    return start_run(workflow="self-healing-deployment", input=wanted, by="person:tester").run


def test_a_good_version_is_promoted(platform: Platform) -> None:
    with running() as cluster:
        done = platform.finished(start(cluster))

    assert done.state == "COMPLETED"
    assert cluster.stable == "v2"
    assert done.output["requests"] >= 100
    assert done.output["errors"] == 0


def test_a_version_whose_requests_fail_is_taken_back_by_itself(platform: Platform) -> None:
    with running("v2") as cluster:
        done = platform.finished(start(cluster))

    assert done.state == "COMPENSATED"
    assert done.error["code"] == "deployment.worse"
    assert cluster.stable == "v1"
    assert list(cluster.versions) == ["v1"]
    assert cluster.done[-2:] == ["POST /traffic", "DELETE /versions/v2"]
    assert invariants.left_over(runs=[done.pk]) == []


def test_errors_that_are_borne_do_not_hold_a_release_up(platform: Platform) -> None:
    with running("v2") as cluster:
        done = platform.finished(start(cluster, most_errors=0.5))

    assert done.state == "COMPLETED"
    assert cluster.stable == "v2"
