"""A time limit interrupts what it bounds, and nothing else."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from workers.errors import StepTimeout
from workers.sandbox import Workdir, remove_left_behind, run_within

DIES_WITH_A_FOLDER = """
import os, signal
from workers.sandbox import Workdir
kept = Workdir()
print(kept.path(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def sleep() -> None:
    time.sleep(60)


def spin() -> None:
    while True:
        time.sleep(0.001)


def in_a_thread(function: Callable[[], Any]) -> Any:
    said: list[Any] = []

    def listen() -> None:
        try:
            said.append(function())
        except BaseException as error:  # noqa: BLE001 - told to the test
            said.append(error)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join(10)
    return said[0]


def test_what_is_quick_is_not_disturbed() -> None:
    assert run_within(60, lambda: "done") == "done"
    assert run_within(None, lambda: "done") == "done"
    assert in_a_thread(lambda: run_within(60, lambda: "done")) == "done"


def test_what_raises_raises_the_same() -> None:
    def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_within(60, fails)
    assert isinstance(in_a_thread(lambda: run_within(60, fails)), KeyError)


def test_the_inner_limit_comes_first_and_the_outer_goes_on() -> None:
    def outer() -> None:
        with pytest.raises(StepTimeout, match=r"0\.03 s"):
            run_within(0.03, sleep)
        sleep()

    with pytest.raises(StepTimeout, match=r"0\.1 s"):
        run_within(0.1, outer)


def test_an_outer_limit_that_is_due_first_wins() -> None:
    with pytest.raises(StepTimeout, match=r"0\.05 s"):
        run_within(0.05, lambda: run_within(60, sleep))


def test_limits_nest_in_another_thread_too() -> None:
    def outer() -> str:
        try:
            run_within(0.03, spin)
        except StepTimeout as limit:
            return str(limit)
        return ""

    assert "0.03 s" in in_a_thread(lambda: run_within(60, outer))


def test_the_timer_of_somebody_else_rings_on_time() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(StepTimeout):
            run_within(0.02, sleep)
        time.sleep(0.2)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert rung == [1]


def test_a_clean_up_may_tell_what_it_saw() -> None:
    def works() -> None:
        try:
            sleep()
        except StepTimeout as limit:
            limit.details["seen"] = 3
            raise

    with pytest.raises(StepTimeout) as limit:
        run_within(0.03, works)

    assert limit.value.details == {"seen": 3}


def test_an_error_on_the_way_out_does_not_hide_the_timeout() -> None:
    def works() -> None:
        try:
            sleep()
        finally:
            raise KeyError("clean-up")

    with pytest.raises(StepTimeout):
        run_within(0.03, works)


@pytest.mark.timeout(0)  # it uses the same timer
def test_a_limit_never_rings_after_its_function_has_ended() -> None:
    """Ends as near to its limit as it can, many times: an alarm must hit the call or nothing."""
    for _ in range(200):
        end = time.monotonic() + 0.001
        with suppress(StepTimeout):
            run_within(0.001, lambda end=end: time.sleep(max(0.0, end - time.monotonic())))

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_watchdog_never_bites_after_its_function_has_ended() -> None:
    def near() -> str:
        for _ in range(100):
            end = time.monotonic() + 0.002
            with suppress(StepTimeout):
                run_within(0.002, lambda end=end: time.sleep(max(0.0, end - time.monotonic())))
        time.sleep(0.02)
        return "quiet"

    assert in_a_thread(near) == "quiet"


def test_a_folder_is_made_when_asked_for_and_removed_with_what_is_in_it() -> None:
    workdir = Workdir()
    path = workdir.path()
    (path / "file").write_text("x")

    workdir.remove()

    assert not path.exists()
    assert workdir.path() != path
    workdir.remove()


def test_the_folder_of_a_killed_process_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine = Workdir()
    mine.path()
    left = subprocess.run(
        [
            sys.executable,
            "-c",
            DIES_WITH_A_FOLDER,
        ],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    assert Path(left).is_dir()

    assert remove_left_behind() == 1

    assert list(tmp_path.iterdir()) == [mine.path()]
    mine.remove()
    assert list(tmp_path.iterdir()) == []
