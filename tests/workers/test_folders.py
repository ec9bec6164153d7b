"""The working folder of a profile: private, one attempt's alone, kept or emptied as declared."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.context import LeasedProfile
from workers.errors import PermanentError, TaskError, TransientError
from workers.folders import ProfileRoom, tidy

DIES_IN_THE_FOLDER = """
import os, signal, sys
from pathlib import Path
from workers.folders import ProfileRoom
(ProfileRoom(Path(sys.argv[1]), "default", 7, 1).path() / "half").write_text("done")
os.kill(os.getpid(), signal.SIGKILL)
"""


def room(root: Path, *, profile: int = 7, turn: int = 1) -> ProfileRoom:
    return ProfileRoom(root, "default", profile, turn)


def leave(left: ProfileRoom, *, keep: bool = True, most_mib: int = 1) -> str | None:
    return left.leave(keep=keep, most_mib=most_mib)


def written(target: ProfileRoom, name: str = "file") -> Path:
    (target.path() / name).write_text("x")
    return target.place


def refused(act: Callable[[], object]) -> TaskError:
    with pytest.raises(TaskError) as raised:
        act()
    return raised.value


def test_no_other_user_may_enter_the_folder_or_what_is_above_it(tmp_path: Path) -> None:
    root = tmp_path / "profiles"

    path = room(root).path()

    assert path == root / "default" / "7.1"
    assert {one.stat().st_mode & 0o777 for one in (path, path.parent)} == {0o700}


def test_what_is_left_in_a_kept_folder_is_there_for_the_next_lease(tmp_path: Path) -> None:
    first = room(tmp_path)
    written(first)

    assert leave(first) is None

    assert [one.name for one in room(tmp_path).path().iterdir()] == ["file"]


def test_a_folder_that_is_not_kept_is_gone_with_its_lease(tmp_path: Path) -> None:
    first = room(tmp_path)
    path = written(first)

    leave(first, keep=False)

    assert not path.exists()
    assert list(room(tmp_path, turn=2).path().iterdir()) == []


def test_two_leases_never_have_the_folder_at_once(tmp_path: Path) -> None:
    first = room(tmp_path)
    first.path()

    error = refused(room(tmp_path).path)
    leave(first)

    assert isinstance(error, TransientError)
    assert error.code == "profile.folder_in_use"
    assert room(tmp_path).path() == first.place


def test_another_turn_begins_empty_though_a_lost_worker_still_writes(tmp_path: Path) -> None:
    lost = room(tmp_path)
    lost.path()

    fresh = room(tmp_path, turn=2)
    (lost.path() / "late").write_text("x")

    assert list(fresh.path().iterdir()) == []


def test_the_folder_of_a_killed_worker_is_as_it_left_it_and_can_be_had(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIES_IN_THE_FOLDER, str(tmp_path)], check=False)

    assert (room(tmp_path).path() / "half").read_text() == "done"


def test_the_folders_of_earlier_turns_are_removed_and_of_no_other_profile(tmp_path: Path) -> None:
    for profile in (7, 8):
        old = room(tmp_path, profile=profile)
        written(old)
        leave(old)

    room(tmp_path, turn=3).path()

    assert {one.name for one in (tmp_path / "default").iterdir()} == {"7.3", "8.1"}


def test_tidying_leaves_the_latest_turn_and_what_somebody_has(tmp_path: Path) -> None:
    busy = room(tmp_path, turn=1)
    busy.path()
    for turn in (2, 3):
        (tmp_path / "default" / f"7.{turn}").mkdir(mode=0o700)
    (tmp_path / "default" / "notes.txt").write_text("x")

    assert tidy(tmp_path) == 1

    left = {one.name for one in (tmp_path / "default").iterdir()}
    assert left == {"7.1", "7.3", "notes.txt"}


def test_there_is_nothing_to_tidy_where_no_folder_was_ever_made(tmp_path: Path) -> None:
    assert tidy(tmp_path / "absent") == 0


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "default").mkdir()
    (tmp_path / "default" / "7.1").symlink_to(elsewhere)

    error = refused(room(tmp_path).path)

    assert isinstance(error, PermanentError)
    assert "PROFILE_DIR" in error.message


def test_a_root_that_is_no_directory_is_told_with_its_path(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("x")

    error = refused(room(root).path)

    assert error.code == "profile.no_folder"
    assert str(root) in error.message


def test_a_folder_that_holds_too_much_says_so_at_its_end(tmp_path: Path) -> None:
    full = room(tmp_path)
    (full.path() / "blob").write_bytes(os.urandom(2 * 1024 * 1024))

    told = leave(full)

    assert told is not None
    assert "more than 1 MiB" in told


def test_a_folder_that_nobody_asked_for_is_never_made(tmp_path: Path) -> None:
    assert leave(room(tmp_path)) is None

    assert list(tmp_path.iterdir()) == []


def test_a_profile_of_a_test_has_a_temporary_folder_that_goes_with_it() -> None:
    profile = LeasedProfile("ann", "bots")
    path = profile.folder
    (path / "file").write_text("x")

    assert profile.folder == path
    del profile
    gc.collect()

    assert not path.exists()
