"""A command is fenced in: by its time, its output, its surroundings and its descendants."""

import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.builders import assignment, carry_out, error_of, everything_said, output_of
from workers.context import LeasedProfile
from workers.executor import execute
from workers.processes import MARGIN, Capture
from workers.registry import catalog
from workflows.engine.events import Failed, Repeat
from workflows.language.words import ErrorClass

ROOT = Path(__file__).parents[2]

STUBBORN = """
    trap '' TERM
    setsid sh -c "trap '' TERM; echo \\$\\$ >> $PIDS; while :; do sleep 1; done" &
    echo $$ >> $PIDS
    echo started
    while :; do sleep 1; done
"""
"""A script whose grandchild leaves the session; neither listens to SIGTERM."""


def script(text: str, **more: Any) -> Any:
    return carry_out("shell.run", script=text, shell=True, **more)  # noqa: S604 - our own parameter


def processes_in(pids: Path) -> list[psutil.Process]:
    return [
        psutil.Process(int(pid)) for pid in pids.read_text().split() if psutil.pid_exists(int(pid))
    ]


def wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + 20
    while not path.exists() or len(path.read_text().split()) < count:
        assert time.monotonic() < end, "the command did not start"
        time.sleep(0.01)


def test_a_command_gives_its_output_and_its_exit_code() -> None:
    outcome = script("echo out; echo err >&2")

    assert output_of(outcome) == {
        "exit_code": 0,
        "stdout": "out\n",
        "stderr": "err\n",
        "left_behind": 0,
    }


def test_no_shell_reads_a_command() -> None:
    outcome = carry_out("shell.run", command=["echo", "$HOME; echo `id`", "*"])

    assert output_of(outcome)["stdout"] == "$HOME; echo `id` *\n"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"script": "true"},
        {"command": ["true"], "shell": True},
        {"command": ["true"], "script": "true", "shell": True},
        {"command": []},
        {"command": "true"},
    ],
)
def test_a_shell_is_only_used_when_asked_for(given: dict[str, Any]) -> None:
    error = error_of(carry_out("shell.run", **given))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "task.parameters")


def test_a_command_sees_nothing_of_the_workers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_PASSWORD", "hunter2")

    output = output_of(carry_out("shell.run", command=["env"], env={"MINE": "a=b"}))

    seen = dict(line.split("=", 1) for line in output["stdout"].splitlines())
    assert seen.keys() == {"PATH", "LANG", "HOME", "TMPDIR", "IDEMPOTENCY_KEY", "MINE"}
    assert (seen["MINE"], seen["IDEMPOTENCY_KEY"]) == ("a=b", "run-1:step")


def test_a_command_works_in_a_folder_of_its_own_that_goes_with_it() -> None:
    output = output_of(script("pwd; echo $HOME; echo $TMPDIR; touch left-over"))

    folder = set(output["stdout"].split())
    assert len(folder) == 1
    assert not Path(folder.pop()).exists()


def test_a_command_is_told_where_the_folder_of_its_profile_is() -> None:
    profile = LeasedProfile("ann", "bots")
    task = assignment("shell.run", {"script": 'echo x > "$PROFILE_FOLDER/file"', "shell": True})

    output_of(execute(replace(task, profile=profile), registry=catalog))

    assert (profile.folder / "file").read_text() == "x\n"


def test_a_command_works_where_it_is_told_to(tmp_path: Path) -> None:
    output = output_of(carry_out("shell.run", command=["pwd"], cwd=str(tmp_path)))

    assert output["stdout"] == f"{tmp_path}\n"


def test_standard_input_of_any_size_is_given() -> None:
    text = "line\n" * 100_000

    output = output_of(carry_out("shell.run", command=["wc", "-c"], stdin=text))

    assert output["stdout"].strip() == "500000"


def test_a_command_that_does_not_read_its_input_does_not_block() -> None:
    assert output_of(carry_out("shell.run", command=["true"], stdin="x" * 1_000_000))


@pytest.mark.parametrize(
    ("code", "error_class"), [(1, ErrorClass.PERMANENT), (75, ErrorClass.TRANSIENT)]
)
def test_an_exit_code_is_an_error_of_its_class(code: int, error_class: ErrorClass) -> None:
    error = error_of(script(f"echo why >&2; exit {code}", retry_exit_codes=[75]))

    assert (error.error_class, error.code) == (error_class, f"shell.exit_{code}")
    assert error.message.endswith(f"ended with exit code {code}: why")
    assert error.details == {"exit_code": code, "stdout": "", "stderr": "why\n"}


def test_an_exit_code_may_be_no_error() -> None:
    assert output_of(script("exit 3", ok_exit_codes=[0, 3]))["exit_code"] == 3
    assert error_of(script("exit 0", ok_exit_codes=[3])).code == "shell.exit_0"


def test_a_command_killed_by_a_signal_may_have_had_its_effect() -> None:
    outcome = script("kill -SEGV $$")

    error = error_of(outcome)
    assert (error.error_class, error.code) == (ErrorClass.UNCERTAIN, "shell.signal_SIGSEGV")
    assert isinstance(outcome, Failed)
    assert outcome.repeat is Repeat.NEVER


@pytest.mark.parametrize(
    ("text", "timeout", "code", "error_class"),
    [
        ("kill -SEGV $$", 20.0, "shell.signal_SIGSEGV", ErrorClass.TRANSIENT),
        ("sleep 60", 0.5, "shell.timeout", ErrorClass.TIMEOUT),
        ("kill -9 $PPID; sleep 60", 20.0, "shell.lost", ErrorClass.TRANSIENT),
    ],
)
def test_a_command_that_may_be_repeated_is_tried_again_when_it_was_killed(
    text: str, timeout: float, code: str, error_class: ErrorClass
) -> None:
    told = {"script": text, "shell": True, "timeout": timeout}

    outcome = execute(assignment("shell.run", told, idempotent=True), registry=catalog)

    assert isinstance(outcome, Failed)
    error = outcome.error
    assert (error.code, error.error_class, outcome.repeat) == (code, error_class, Repeat.FREELY)


def test_a_program_that_is_not_there_is_named() -> None:
    error = error_of(carry_out("shell.run", command=["no-such-program"]))

    assert (error.error_class, error.code) == (ErrorClass.PERMANENT, "shell.not_found")
    assert "`no-such-program`" in error.message


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("x")

    not_executable = error_of(carry_out("shell.run", command=[str(tmp_path / "text")]))
    no_folder = error_of(carry_out("shell.run", command=["true"], cwd="/nowhere"))

    assert (not_executable.code, no_folder.code) == ("shell.not_started", "shell.not_started")
    assert "/nowhere" in no_folder.message


@pytest.mark.parametrize("whose", ["the step's", "the command's own"])
def test_at_its_timeout_a_command_dies_with_all_its_descendants(whose: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = {"script": textwrap.dedent(STUBBORN), "shell": True, "env": {"PIDS": str(pids)}}
    step = assignment("shell.run", told, timeout=2.0)
    own = assignment("shell.run", told | {"timeout": 2.0})

    error = error_of(execute(step if whose == "the step's" else own, registry=catalog))

    timeout = ErrorClass.TIMEOUT, "task.timeout"
    own_timeout = ErrorClass.UNCERTAIN, "shell.timeout"
    assert (error.error_class, error.code) == (timeout if whose == "the step's" else own_timeout)
    assert error.details["stdout"] == "started\n"
    assert len(pids.read_text().split()) == 2
    assert processes_in(pids) == []


@pytest.mark.parametrize(("idempotent", "repeat"), [(None, Repeat.NEVER), (True, Repeat.FREELY)])
def test_a_cancelled_command_dies_with_all_its_descendants(
    idempotent: bool | None, repeat: Repeat, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    told = {"script": textwrap.dedent(STUBBORN), "shell": True, "env": {"PIDS": str(pids)}}

    def cancelled() -> bool:
        return pids.exists() and len(pids.read_text().split()) == 2

    step = assignment("shell.run", told, idempotent=idempotent)
    outcome = execute(step, registry=catalog, cancelled=cancelled)

    assert isinstance(outcome, Failed)
    assert (outcome.error.error_class, outcome.repeat) == (ErrorClass.CANCELLED, repeat)
    assert outcome.error.code == "shell.cancelled"
    assert processes_in(pids) == []


def test_a_command_is_interrupted_outside_of_the_main_thread_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = {"script": textwrap.dedent(STUBBORN), "shell": True, "env": {"PIDS": str(pids)}}
    outcomes: list[Any] = []
    step = assignment("shell.run", told, timeout=2.0)

    thread = threading.Thread(target=lambda: outcomes.append(execute(step, registry=catalog)))
    thread.start()
    thread.join(30)

    assert error_of(outcomes[0]).code == "task.timeout"
    assert processes_in(pids) == []


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    outcome = script("setsid sleep 60 & echo $! > $PIDS", env={"PIDS": str(pids)})

    assert output_of(outcome)["left_behind"] == 1
    assert processes_in(pids) == []


def test_a_command_does_not_outlive_its_worker(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = {"script": textwrap.dedent(STUBBORN), "shell": True, "env": {"PIDS": str(pids)}}
    program = (
        "import json, sys; from tests.workers.builders import carry_out; "
        "carry_out('shell.run', **json.loads(sys.argv[1]))"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, json.dumps(told)], cwd=ROOT)
    wait_for_lines(pids, 2)
    alive = processes_in(pids)

    worker.kill()
    worker.wait()
    _, left = psutil.wait_procs(alive, timeout=20)

    assert (len(alive), left) == (2, [])


def test_a_command_that_kills_its_keeper_does_not_live_on(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    error = error_of(
        script("echo $$ > $PIDS; kill -9 $PPID; sleep 60; true", env={"PIDS": str(pids)})
    )

    assert (error.error_class, error.code) == (ErrorClass.UNCERTAIN, "shell.lost")
    assert psutil.wait_procs(processes_in(pids), timeout=10)[1] == []


def test_gigabytes_of_output_are_cut_to_both_ends() -> None:
    program = "echo first; head -c 200000000 /dev/zero | tr '\\0' x; echo; echo last"

    output = output_of(script(program, max_output=1000))

    assert output["stdout"].startswith("first\nxxx")
    assert output["stdout"].endswith("xxx\nlast\n")
    assert "[... cut: there were 200,000,012 bytes ...]" in output["stdout"]
    assert len(output["stdout"]) < 1100


def test_any_output_fits_into_a_value() -> None:
    noise = "head -c 500000 /dev/zero; head -c 500000 /dev/zero | tr '\\0' '\\033' >&2"

    output = output_of(script(noise, max_output=96 * 1024))

    assert len(json.dumps(output, ensure_ascii=False).encode()) < 256 * 1024


def test_no_secret_is_found_in_what_is_left_of_an_output() -> None:
    secret = "hunter2hunter2hunter2"
    noise = f"yes {secret} | head -n 30000; exit 1"
    step = assignment(
        "shell.run", {"script": noise, "shell": True, "max_output": 3000}, secrets={secret}
    )

    outcome = execute(step, registry=catalog)

    assert "cut: there were" in everything_said(outcome)
    assert "hunter" not in everything_said(outcome)


@settings(max_examples=50)
@given(st.lists(st.binary(max_size=300), max_size=30), st.integers(0, 400))
def test_what_fits_is_kept_whole_whatever_its_pieces(pieces: list[bytes], limit: int) -> None:
    capture = Capture(limit)
    for piece in pieces:
        capture.feed(piece)

    text = capture.text(lambda value: value)

    whole = b"".join(pieces).decode(errors="replace")
    fits = len(json.dumps(whole, ensure_ascii=False).encode()) - 2 <= limit
    assert (text == whole) is (fits or not whole)
    assert len(json.dumps(text, ensure_ascii=False).encode()) <= limit + 100


def test_a_stream_without_end_takes_bounded_memory() -> None:
    capture = Capture(1000)

    for _ in range(1000):
        capture.feed(os.urandom(65536))

    assert len(capture._head) + len(capture._tail) <= 2 * (500 + MARGIN) + 2 * 65536
