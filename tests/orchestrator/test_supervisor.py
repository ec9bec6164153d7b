"""The supervisor keeps processes running, and leaves none."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.supervisor import MARK, Child, Supervisor, delay_after, end_marked

LAUNCHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print(child.pid, flush=True)
child.wait()
"""
PROGRAM = """
import time
from orchestrator import programs
programs._end_with_the_launcher()
print("tied", flush=True)
time.sleep(66)
"""


class Scene:
    """A supervisor with a clock that is set by hand and ears for what it says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.time = 0.0
        self.heard: list[str] = []
        self.supervisor = Supervisor(home, say=self._hear, now=lambda: self.time)

    def _hear(self, name: str, line: str) -> None:
        self.heard.append(f"{name}: {line}")

    def keep(self, name: str, script: str) -> None:
        self.supervisor.keep(Child(name, ("sh", "-c", script)))
        self.supervisor.watch()

    def watch_until(self, condition: Callable[[], bool]) -> None:
        until(lambda: (self.supervisor.watch(), condition())[1])

    def hears(self, line: str, times: int = 1) -> None:
        self.watch_until(lambda: self.heard.count(line) == times)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.supervisor.stop()


def test_a_childs_lines_carry_its_name(scene: Scene) -> None:
    scene.keep("web", "echo ready; echo late >&2; sleep 60")

    scene.hears("web: ready")
    scene.hears("web: late")


def test_a_crashed_child_is_restarted_after_its_delay_and_the_fact_is_told(scene: Scene) -> None:
    scene.keep("beat", "echo up; exit 3")
    scene.hears("beat: ended with status 3; starts again in 0.5 s")
    scene.supervisor.watch()
    assert scene.heard.count("beat: up") == 1

    scene.time += 0.5

    scene.hears("beat: up", times=2)


def test_a_child_that_was_killed_is_told_by_the_signals_name(scene: Scene) -> None:
    scene.keep("engine", "kill -9 $$")

    scene.hears("engine: ended by signal SIGKILL; starts again in 0.5 s")


def test_the_delay_doubles_with_every_failure_up_to_a_limit() -> None:
    assert [delay_after(n) for n in (1, 2, 3, 4, 20)] == [0.5, 1, 2, 4, 30]


def test_a_child_that_ran_steadily_begins_with_the_shortest_delay_again(scene: Scene) -> None:
    scene.keep("web", "exit 1")
    scene.hears("web: ended with status 1; starts again in 0.5 s")
    scene.time += 0.5
    scene.hears("web: ended with status 1; starts again in 1 s")
    scene.time += 1
    scene.supervisor.watch()

    scene.time += 30

    scene.hears("web: ended with status 1; starts again in 0.5 s", times=2)


def test_other_children_are_left_alone_when_one_crashes(scene: Scene) -> None:
    scene.keep("steady", "echo up; sleep 60")
    scene.hears("steady: up")

    scene.keep("frail", "exit 1")
    scene.hears("frail: ended with status 1; starts again in 0.5 s")

    assert scene.heard.count("steady: up") == 1
    assert not any(line.startswith("steady: ended") for line in scene.heard)


def test_what_a_crashed_child_leaves_behind_is_ended(scene: Scene) -> None:
    scene.keep("worker", "sleep 61 & echo $!; kill -9 $$")

    scene.hears("worker: ended by signal SIGKILL; starts again in 0.5 s")

    until(lambda: any(line[8:].isdigit() for line in scene.heard))
    [pid] = [int(line[8:]) for line in scene.heard if line[8:].isdigit()]

    until(lambda: gone(pid))


def test_stopping_asks_first_and_leaves_nothing(scene: Scene) -> None:
    scene.keep("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    scene.keep("parent", "setsid sleep 62 & echo up; wait")
    scene.hears("polite: up")
    scene.hears("parent: up")

    scene.supervisor.stop()

    until(lambda: "polite: bye" in scene.heard)
    assert end_marked(scene.home) == 0


def test_a_released_child_ends_and_is_not_started_again(scene: Scene) -> None:
    scene.keep("env-lab", "echo up; exec sleep 63")
    scene.hears("env-lab: up")

    scene.supervisor.release("env-lab")
    scene.supervisor.watch()

    assert scene.supervisor.names == set()
    assert end_marked(scene.home) == 0


def test_processes_of_a_killed_launcher_are_found_by_their_mark_and_ended(tmp_path: Path) -> None:
    marked = os.environ | {MARK: str(tmp_path)}
    others = os.environ | {MARK: str(tmp_path / "other")}
    ours = subprocess.Popen(["sleep", "64"], env=marked)
    theirs = subprocess.Popen(["sleep", "65"], env=others)

    ended = end_marked(tmp_path)

    assert ended == 1
    assert ours.wait() == -signal.SIGKILL
    assert theirs.poll() is None
    theirs.kill()
    theirs.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child to its parent")
def test_a_program_ends_with_its_killed_launcher(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        [
            sys.executable,
            "-c",
            LAUNCHER,
            PROGRAM,
        ],
        env=os.environ | {MARK: str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout
    pid = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "tied\n"

    launcher.kill()

    until(lambda: gone(pid))
    launcher.stdout.close()
    launcher.wait()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
