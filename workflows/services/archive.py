"""Where removed runs are kept: a file of JSON lines for each day, gzip, readable by anything.

What `keep` has returned from is on the disk. A file is appended to by one writer at a
time; before it writes, a writer notes how long the file was, and whoever finds such a
note takes back what a killed writer left half written. Its rows are still there then.
"""

import fcntl
import gzip
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from workflows.models.ids import moment_of
from workflows.services.errors import InputRefusedError


def keep(folder: Path, lines: Mapping[UUID, str]) -> None:
    """Append each run to the file of the day it was started on, UTC; raise InputRefusedError.

    The folder must be on one machine, or on a file system whose locks all machines share.
    """
    days: dict[str, list[str]] = defaultdict(list)
    for run, line in lines.items():
        days[f"{moment_of(run):%Y-%m-%d}"].append(line)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for day, found in sorted(days.items()):
            with _appending(folder / f"{day}.jsonl.gz") as file:
                _write(file, gzip.compress("".join(f"{line}\n" for line in found).encode(), 6))
    except OSError as error:
        message = (
            f"The archive {folder} cannot be written: {error.strerror}."
            " What is not kept there is not removed. Make it writable, or name another folder."
        )
        raise InputRefusedError(message) from error


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    """Hold the file alone; what is appended is there whole, and on the disk, or not at all."""
    note = path.with_name(f".{path.name}.length")
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if note.exists():
            _take_back(file, note)
        _note(note, os.fstat(file).st_size)
        try:
            yield file
            os.fsync(file)
        except BaseException:
            _take_back(file, note)
            raise
        note.unlink()
        _sync(path.parent)
    finally:
        os.close(file)


def _take_back(file: int, note: Path) -> None:
    os.ftruncate(file, int(note.read_text()))
    note.unlink()


def _note(note: Path, length: int) -> None:
    draft = note.with_suffix(".draft")
    with draft.open("w") as file:
        file.write(str(length))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(note)
    _sync(note.parent)


def _write(file: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _sync(folder: Path) -> None:
    """Have the names in the folder on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
