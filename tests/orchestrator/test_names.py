"""No two workers of a machine have one name, and none is lost with who had it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator.names import NameTakenError, hold

ROOT = Path(__file__).parents[2]
HOLDER = """
import os, signal, sys
from orchestrator.names import hold
print(hold("env-default", platform=sys.argv[1]), flush=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.fixture
def platform() -> str:
    return str(uuid4())


@contextmanager
def another(platform: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Have another process, which has a child, hold a name; say which it was given."""
    command = [sys.executable, "-c", HOLDER, platform]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        name, child = (holder.stdout.readline().strip() for _ in range(2))
        try:
            yield name, holder
        finally:
            holder.kill()
            os.kill(int(child), signal.SIGKILL)


def test_a_second_worker_finds_a_name_by_itself(platform: str) -> None:
    with another(platform) as (first, _), another(platform) as (second, _):
        third = hold("env-default", platform=platform)

    assert (first, second, third) == ("env-default", "env-default-2", "env-default-3")


def test_the_name_of_a_worker_that_was_killed_is_free_at_once_even_if_a_child_lives_on(
    platform: str,
) -> None:
    with another(platform) as (_, holder):
        holder.kill()
        holder.wait()

        assert hold("env-default", platform=platform) == "env-default"


def test_a_name_that_was_asked_for_and_is_taken_is_refused(platform: str) -> None:
    with (
        another(platform),
        pytest.raises(NameTakenError, match=r"called env-default runs .* --name"),
    ):
        hold("env-default", platform=platform, exactly=True)


def test_workers_of_another_platform_are_in_nobodys_way(platform: str) -> None:
    with another(platform):
        assert hold("env-default", platform=f"{platform}/other") == "env-default"


def test_a_worker_that_is_killed_leaves_no_folder_behind(tmp_path: Path) -> None:
    program = (
        "import billiard, os, signal; from orchestrator import programs;"
        "programs._make_no_folders(); billiard.Value('i'); os.kill(os.getpid(), signal.SIGKILL)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        check=False,
    )

    assert (done.returncode, list(tmp_path.iterdir())) == (-signal.SIGKILL, [])
