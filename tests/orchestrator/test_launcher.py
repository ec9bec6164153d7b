"""The launcher refuses clearly what cannot be had."""

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import launcher
from orchestrator.launcher import LaunchError, listen
from orchestrator.supervisor import Child, Supervisor


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_wanted_port_that_is_taken_is_refused_with_advice(taken: int) -> None:
    with pytest.raises(LaunchError, match=rf"Port {taken} of 127.0.0.1 cannot be had.*WEB_PORT"):
        listen("127.0.0.1", taken)


def test_without_a_wish_the_next_free_port_is_taken(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "FIRST_PORT", taken)

    with listen("127.0.0.1", None) as door:
        assert door.getsockname()[1] > taken


def test_two_platforms_that_start_at_the_same_time_get_different_ports() -> None:
    with listen("127.0.0.1", None) as ours, listen("127.0.0.1", None) as theirs:
        assert ours.getsockname() != theirs.getsockname()


def test_a_child_answers_at_the_socket_that_the_launcher_holds(tmp_path: Path) -> None:
    answer = "import socket, sys; socket.socket(fileno=int(sys.argv[1])).accept()[0].send(b'ours')"
    with listen("127.0.0.1", None) as door:
        command = (sys.executable, "-c", answer, str(door.fileno()))
        supervisor = Supervisor(tmp_path, say=lambda *_: None)
        supervisor.keep(Child("web", command, inherits=(door.fileno(),)))
        supervisor.watch()

        with socket.create_connection(door.getsockname(), timeout=10) as client:
            heard = client.recv(4)
        supervisor.stop()

    assert heard == b"ours"


def test_when_every_port_is_taken_the_refusal_says_so(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "FIRST_PORT", taken)
    monkeypatch.setattr(launcher, "PORTS_TRIED", 1)

    with pytest.raises(LaunchError, match=rf"Every port of 127.0.0.1 from {taken} to {taken}"):
        listen("127.0.0.1", None)


def test_a_second_launcher_in_the_same_checkout_is_refused(tmp_path: Path) -> None:
    with (
        launcher._only_launcher(tmp_path),
        pytest.raises(LaunchError, match=r"already runs in .* started by process"),
        launcher._only_launcher(tmp_path),
    ):
        pass


def test_a_launcher_that_ended_makes_room_for_the_next(tmp_path: Path) -> None:
    with launcher._only_launcher(tmp_path):
        pass

    with launcher._only_launcher(tmp_path):
        written = (tmp_path / "launcher.lock").read_text()

    assert written.isdigit()
