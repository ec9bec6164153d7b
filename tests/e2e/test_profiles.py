"""Real workers lease profiles: each to itself, and a killed worker leaves its own tainted."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from environments.models import Environment, Profile, ProfilePool
from environments.vault import seal, unseal
from tests.e2e.builders import ANN, an_environment, applied, ends, started, until_step
from tests.support.platform import Platform
from workflows.services.profiles import clear_profile
from workflows.services.runs import start_run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def a_pool(environment: str, *names: str, folders: str = "keep") -> None:
    place = Environment.objects.get(name=environment)
    pool = ProfilePool.objects.create(environment=place, name="bots", folders=folders)
    for name in names:
        Profile.objects.create(pool=pool, name=name, context=seal(environment, {"visits": 0}))


def browse(seconds: float = 0.0, hold: str = "step", name: str = "browse") -> dict[str, Any]:
    profile = {"pool": "bots", "hold": hold}
    step = {"id": name, "uses": "hostile.browse", "profile": profile}
    return step | {"with": {"seconds": seconds}}


def visits(environment: str = "default") -> int:
    found = Profile.objects.filter(pool__environment__name=environment)
    return sum(unseal(environment, one.context)["visits"] for one in found)


def test_many_steps_share_two_profiles_and_none_loses_what_another_left_in_it(
    platform: Platform,
) -> None:
    a_pool("default", "ann", "ben")
    name = applied(browse(0.05))

    runs = [start_run(workflow=name, by=ANN).run for _ in range(12)]

    for run in runs:
        assert platform.finished(run).state == "COMPLETED"
    assert visits() == 12
    assert {one.state for one in Profile.objects.all()} == {"FREE"}


def test_a_killed_worker_leaves_its_profile_tainted_and_the_step_goes_on_with_another(
    hasty: Platform,
) -> None:
    an_environment("robots")
    a_pool("robots", "ann", "ben")
    with hasty.worker("robots") as worker:
        run = started(browse(3.0), environment="robots")
        until_step(run, "browse", "RUNNING")
        os.killpg(worker.pid, signal.SIGKILL)

    with hasty.worker("robots"):
        assert hasty.finished(run).state == "COMPLETED"

    assert ends(run)["browse"] == ["lost", "completed"]
    states = dict(Profile.objects.values_list("name", "state"))
    assert states == {"ann": "TAINTED", "ben": "FREE"}
    assert run.steps.get(path="browse").output == "ben"
    assert visits("robots") == 1


def test_a_run_keeps_its_profile_from_step_to_step(platform: Platform) -> None:
    a_pool("default", "ann", "ben")

    run = started(*(browse(hold="run", name=f"page{n}") for n in range(3)))

    assert platform.finished(run).state == "COMPLETED"
    assert len(set(run.steps.values_list("output", flat=True))) == 1
    assert visits() == 3


def until_tainted(name: str) -> Profile:
    deadline = time.monotonic() + 60
    while (found := Profile.objects.get(name=name)).state != "TAINTED":
        assert time.monotonic() < deadline, f"{name} is {found.state}"
        time.sleep(0.05)
    return found


def left_below(environment: str) -> set[str]:
    home = Path(settings.ORCHESTRATOR["PROFILE_DIR"]) / environment
    return {file.name for file in home.glob("*/*")}


@pytest.mark.parametrize(
    ("folders", "found"), [("keep", {"entered-1", "entered-2", "visits"}), ("empty", set())]
)
def test_after_a_killed_worker_the_folder_is_kept_or_empty_as_its_pool_says(
    hasty: Platform, folders: str, found: set[str]
) -> None:
    place = f"{folders}-folders"
    an_environment(place)
    a_pool(place, "ann", folders=folders)
    with hasty.worker(place) as worker:
        run = started(browse(3.0), environment=place)
        until_step(run, "browse", "RUNNING")
        os.killpg(worker.pid, signal.SIGKILL)

    tainted = until_tainted("ann")
    clear_profile(profile=tainted.pk, why="It is well.", by=ANN)
    with hasty.worker(place):
        assert hasty.finished(run).state == "COMPLETED"

    assert ends(run)["browse"] == ["lost", "completed"]
    assert left_below(place) == found
