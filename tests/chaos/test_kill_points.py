"""A process is killed at each call to its database in turn; whoever comes after loses nothing."""

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = [pytest.mark.usefixtures("transactional_db"), pytest.mark.timeout(900)]

DRILLED = re.compile(r"^(\w+): killed before and after each of (\d+) calls$", re.MULTILINE)


@pytest.fixture
def drill(process_env: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command with the arguments, on the database of the tests."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.chaos.kill_points", *arguments],
            env=os.environ | process_env | {"LOG_LEVEL": "ERROR"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("names", "least"),
    [
        (["work"], 60),
        (["start"], 2),
        (["sweep"], 40),
        (["child"], 30),
        (["child_cancel", "child_replay", "child_pause", "child_resume"], 10),
        (["pause", "resume", "cancel"], 10),
        (["replay", "replay_run", "skip", "discard"], 10),
        (["migrate"], 20),
        (["migrate_meanwhile"], 3),
    ],
    ids=[
        "a worker",
        "a caller",
        "a sweep",
        "a parent",
        "a parent that ends, is held or goes on",
        "a person who holds or ends",
        "a person who mends",
        "a person who migrates",
        "a worker whose run went over",
    ],
)
def test_nothing_is_lost_or_repeated_wherever_a_process_is_killed(
    drill: Callable[..., subprocess.CompletedProcess[str]], names: list[str], least: int
) -> None:
    done = drill("--drill", *names)

    assert done.returncode == 0, done.stdout + done.stderr
    calls = {name: int(number) for name, number in DRILLED.findall(done.stdout)}
    assert calls.keys() == set(names)
    assert min(calls.values()) >= least


def test_a_chosen_call_is_killed_at(
    drill: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = drill("--call", "17", "--after")

    assert done.stdout.splitlines() == [
        "work: killed after call 17, messages lost",
        "  every promise held",
    ]


def test_a_call_that_there_is_not_is_said_to_be_none(
    drill: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = drill("--drill", "pause", "--call", "900")

    assert done.stdout.splitlines()[0] == "pause: no call 900"
