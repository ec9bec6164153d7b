"""The working folders of profiles: one below the root for each profile and turn, mode 0700.

A folder is named by numbers, `<root>/<environment>/<profile>.<turn>`, so no name that a person
gave reaches the file system. Another turn is another folder: what a process that outlived its
worker still writes into an older one, nobody reads. Within a turn the folder is locked for as long
as an attempt has it; the lock ends with the process, whatever that dies of.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from workers.errors import PermanentError, TransientError

MIB = 1024 * 1024
PRIVATE = 0o700


class Room(Protocol):
    """Where a profile's folder is."""

    def path(self) -> Path:
        """Make the folder if it is not there yet."""
        ...


class TemporaryRoom:
    """A folder for a test or a shell: gone with whoever holds this."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def path(self) -> Path:
        """Make the folder if it is not there yet."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="orchestrator-profile-"))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path


class ProfileRoom:
    """The folder of a leased profile, this attempt's alone until `leave`."""

    def __init__(self, root: Path, environment: str, profile: int, turn: int) -> None:
        self._home = root / environment
        self._profile = profile
        self._turn = turn
        self._lock: int | None = None

    @property
    def place(self) -> Path:
        """Where the folder is, or would be."""
        return self._home / f"{self._profile}.{self._turn}"

    def path(self) -> Path:
        """Make and lock the folder, and remove those of earlier turns.

        Raises TransientError while another process has it, PermanentError when it cannot be had.
        """
        if self._lock is None:
            self._lock = self._enter()
            _remove_before(self._home, self._profile, self._turn)
        return self.place

    def leave(self, *, keep: bool, most_mib: int) -> str | None:
        """Let others have the folder; return why it must not be kept as it is, if it must not.

        Without `keep` it is removed. Whoever never asked for it has nothing to leave.
        """
        if self._lock is None:
            return None
        try:
            if not keep:
                shutil.rmtree(self.place, ignore_errors=True)
                return None
            if _holds_more(self.place, most_mib * MIB):
                return (
                    f"its folder {self.place} holds more than {most_mib} MiB, which is"
                    " PROFILE_FOLDER_MIB: empty it, or allow more"
                )
            return None
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _enter(self) -> int:
        try:
            self._home.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.place.mkdir(mode=PRIVATE)
            lock = _opened(self.place)
        except OSError as error:
            message = (
                f"The working folder {self.place} cannot be had: {error.strerror}. It must be a"
                " directory of the worker's own user; PROFILE_DIR says below which it is."
            )
            raise PermanentError(message, code="profile.no_folder") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            message = (
                f"Another process still has the working folder {self.place}, such as a worker that"
                " was given up as lost. End that process, or empty the profile's folder."
            )
            raise TransientError(message, code="profile.folder_in_use") from None
        return lock


def tidy(root: Path) -> int:
    """Remove the folders of turns that are over, and return how many there were."""
    latest: dict[tuple[Path, int], int] = {}
    for home in _directories(root):
        for profile, turn in _turns(home):
            latest[home, profile] = max(turn, latest.get((home, profile), 0))
    return sum(_remove_before(home, profile, turn) for (home, profile), turn in latest.items())


def _opened(path: Path) -> int:
    """Open a directory of this user that is no link, and see to it that no other may enter."""
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    facts = os.fstat(opened)
    try:
        if facts.st_uid != os.geteuid():
            raise PermissionError(1, "it is another user's")
        if stat.S_IMODE(facts.st_mode) != PRIVATE:
            os.fchmod(opened, PRIVATE)
    except OSError:
        os.close(opened)
        raise
    return opened


def _remove_before(home: Path, profile: int, turn: int) -> int:
    """Remove the folders of a profile's earlier turns that no process has."""
    removed = 0
    for known, earlier in _turns(home):
        if known != profile or earlier >= turn:
            continue
        with suppress(OSError):
            path = home / f"{known}.{earlier}"
            lock = _opened(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
            finally:
                os.close(lock)
    return removed


def _turns(home: Path) -> Iterator[tuple[int, int]]:
    for path in _directories(home):
        profile, _, turn = path.name.partition(".")
        if profile.isdecimal() and turn.isdecimal():
            yield int(profile), int(turn)


def _directories(home: Path) -> list[Path]:
    try:
        return [Path(entry) for entry in os.scandir(home) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _holds_more(place: Path, limit: int) -> bool:
    """Say whether the files of a folder occupy more than so many bytes."""
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118
        if total > limit:
            return True
    return False
