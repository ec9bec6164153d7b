"""The whole platform from one command: it stands up, is mended, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator import embedded
from orchestrator.env import ROOT
from orchestrator.supervisor import MARK, end_marked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

STANDS_WITHIN = 60.0


class Platform:
    """A launcher in a process of its own, and all that it has printed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.lines: list[str] = []

    def start(self) -> None:
        self.lines.clear()
        self.launcher = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "up"],
            cwd=ROOT,
            env=os.environ | {"LOCAL_DIR": str(self.home), "EXAMPLES": "false"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        self.until(self._stands, within=STANDS_WITHIN)

    def _stands(self) -> object:
        assert self.launcher.poll() is None, "\n".join(self.lines)
        return self.said("stop with Ctrl-C")

    def _listen(self) -> None:
        assert self.launcher.stdout
        with self.launcher.stdout as output:
            for line in output:
                self.lines.append(line.rstrip())

    def said(self, pattern: str) -> str | None:
        found = (re.search(pattern, line) for line in self.lines)
        return next((match[match.lastindex or 0] for match in found if match), None)

    def until(self, condition: Callable[[], object], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, "\n".join(self.lines)
            time.sleep(0.1)

    def children(self) -> dict[str, psutil.Process]:
        """The processes that the launcher supervises, by the program that they are."""
        found = [one for one in psutil.process_iter(["cmdline"]) if self._ours(one)]
        return {" ".join(one.info["cmdline"][3:]): one for one in reversed(found)}

    def _ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == str(self.home)
        except (psutil.Error, OSError):
            return False

    def answers(self) -> bool:
        url = self.said(r"admin +(http\S+)")
        return httpx.get(f"{url}login/").is_success


@pytest.fixture
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        platform = Platform(Path(parent, "home"))
        yield platform
        platform.launcher.kill()
        platform.launcher.wait()
        end_marked(platform.home)
        embedded.remove(platform.home)


def test_the_platform_stands_and_one_signal_takes_all_of_it_down(platform: Platform) -> None:
    platform.start()
    assert platform.answers()
    assert platform.said(r"admin account: admin, password: (\S{12,})")
    assert {"beat", "engine", "flower", "worker default"} <= set(platform.children())

    platform.launcher.send_signal(signal.SIGINT)

    assert platform.launcher.wait(timeout=40) == 0
    assert platform.children() == {}
    assert embedded.status(platform.home) == {"postgresql": None, "redis": None}


def test_a_killed_worker_is_replaced_and_the_fact_is_printed(platform: Platform) -> None:
    platform.start()
    worker = platform.children()["worker default"]

    worker.kill()

    platform.until(lambda: platform.said(r"env-default \| ended by signal SIGKILL; starts again"))
    platform.until(lambda: "worker default" in platform.children())
    assert platform.children()["worker default"] != worker


def test_after_everything_was_killed_the_platform_stands_again(platform: Platform) -> None:
    platform.start()
    password = platform.said(r"password: (\S+)")
    everything = [*platform.children().values(), psutil.Process(platform.launcher.pid)]
    everything += [psutil.Process(pid) for pid in embedded.status(platform.home).values()]
    for process in everything:
        process.kill()
    platform.launcher.wait()

    platform.start()

    assert platform.answers()
    assert password
    assert platform.said("password") is None


def test_the_children_of_a_killed_launcher_end(platform: Platform) -> None:
    platform.start()

    platform.launcher.kill()

    platform.until(lambda: platform.children() == {})
