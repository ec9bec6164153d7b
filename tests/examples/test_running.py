"""An example that is interrupted leaves nothing behind in the systems that end with it."""

import pytest
from django.core.management import CommandError

from examples.running import ended
from examples.self_healing_deployment.targets import Cluster, running
from tests.support.platform import Platform
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("examples")]


class CtrlC:
    """Pressed once, when the release has its share of the traffic."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pressed = False

    def __call__(self) -> None:
        if "POST /traffic" in self.cluster.done and not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt


def test_ctrl_c_takes_a_release_back_before_its_cluster_is_gone(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    with running() as cluster:
        given = {"version": "v2", "cluster_url": cluster.url, "requests": 1_000_000}
        run = start_run(workflow="self-healing-deployment", input=given, by="person:tester").run

        with pytest.raises(CommandError) as left:
            ended(run, meanwhile=CtrlC(cluster))

    assert (left.value.returncode, str(left.value)) == (130, "The run is COMPENSATED.")
    assert list(cluster.versions) == ["v1"]
    assert "compensated canary" in capsys.readouterr().out
