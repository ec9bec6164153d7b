"""`files.checksum` and `files.verify_manifest`: is what lies there what was put there?

Two kinds of manifest are read: the lines of `sha256sum` (GNU coreutils, escapes included), and
the RECORD of an installed Python package (PEP 376 and PEP 427: CSV with an urlsafe base64 digest
and a size). Files are read as streams; a list in an answer is bounded, its total is told.
"""

import base64
import binascii
import csv
import hashlib
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from workers.context import TaskContext
from workers.errors import BusinessError, PermanentError
from workers.registry import task
from workflows.language.words import ErrorClass

MAX_LISTED = 20

Algorithm = Literal[
    "md5", "sha1", "sha224", "sha256", "sha384", "sha512", "sha3_256", "sha3_512", "blake2b"
]
Format = Literal["auto", "sha256sum", "record"]

CODES: Mapping[str, ErrorClass] = {
    "files.not_found": ErrorClass.PERMANENT,
    "files.unreadable": ErrorClass.PERMANENT,
    "files.manifest": ErrorClass.PERMANENT,
    "files.outside": ErrorClass.PERMANENT,
    "files.corrupt": ErrorClass.BUSINESS,
}


@task("files.checksum", codes=CODES)
def checksum(path: Path, algorithm: Algorithm = "sha256") -> dict[str, Any]:
    """Compute the checksum of a file."""
    try:
        digest, size = _digest(path, algorithm)
    except FileNotFoundError:
        raise PermanentError(f"There is no file {path}.", code="files.not_found") from None
    except OSError as error:
        message = f"The file {path} cannot be read: {_reason(error)}."
        raise PermanentError(message, code="files.unreadable") from error
    return {"path": path, "algorithm": algorithm, "digest": digest.hex(), "bytes": size}


@task("files.verify_manifest", codes=CODES)
def verify_manifest(
    folder: Path,
    manifest: Path,
    context: TaskContext,
    format: Format = "auto",  # noqa: A002 - the name that a step gives it
    root: Path | None = None,
) -> dict[str, Any]:
    """Check every file that a manifest names against its checksum.

    `manifest` is a path from `folder`, and so are the paths in it. No entry may lead out of
    `root` (the folder itself unless given), also not through a link. `format` is told from the
    manifest's name unless given: RECORD is a Python package's, any other is `sha256sum`'s.
    Anything wrong is the error `files.corrupt`, with the first files of each kind in its details.
    """
    location = folder / manifest
    verification = Verification()
    for entry in _entries(location, format):
        context.stop_if_cancelled()
        verification.check(entry, folder, (root or folder).resolve())
    if not (verification.verified or verification.skipped or verification.wrong()):
        message = f"The manifest {location} names no file. An empty manifest proves nothing."
        raise PermanentError(message, code="files.manifest")
    if verification.outside:
        raise PermanentError(
            f"The manifest {location} names {len(verification.outside):,} paths outside of "
            f"{root or folder}, such as {verification.outside[0]}. Set `root` to a folder that "
            "holds them all, if they belong there.",
            code="files.outside",
            details=verification.report(),
        )
    if verification.wrong():
        raise BusinessError(
            f"The files in {folder} are not what {location.name} says: "
            f"{len(verification.corrupt):,} corrupt, {len(verification.missing):,} missing, "
            f"{verification.verified:,} verified.",
            code="files.corrupt",
            details=verification.report(),
        )
    return verification.report()


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a manifest. Without a digest there is nothing to verify."""

    path: str
    algorithm: str = "sha256"
    digest: bytes | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A file that is there, and wrong."""

    path: str
    reason: str


@dataclass(slots=True)
class Verification:
    """The count so far."""

    verified: int = 0
    size: int = 0
    skipped: int = 0
    missing: list[str] = field(default_factory=list)
    corrupt: list[Corrupt] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def check(self, entry: Entry, folder: Path, root: Path) -> None:
        """Look at one file. What is outside of the root is not even opened."""
        path = folder / entry.path
        try:
            inside = path.resolve().is_relative_to(root)
        except (OSError, RuntimeError):
            self.corrupt.append(Corrupt(entry.path, "its links lead in a circle"))
            return
        if not inside:
            self.outside.append(entry.path)
        elif entry.digest is None:
            self.skipped += 1
        else:
            self._compare(entry, entry.digest, path)

    def _compare(self, entry: Entry, digest: bytes, path: Path) -> None:
        try:
            found, size = _digest(path, entry.algorithm)
        except FileNotFoundError:
            self.missing.append(entry.path)
            return
        except OSError as error:
            self.corrupt.append(Corrupt(entry.path, f"it cannot be read: {_reason(error)}"))
            return
        if entry.size is not None and size != entry.size:
            self.corrupt.append(Corrupt(entry.path, f"{size:,} bytes, not {entry.size:,}"))
        elif found != digest:
            reason = f"{entry.algorithm} {found.hex()}, not {digest.hex()}"
            self.corrupt.append(Corrupt(entry.path, reason))
        else:
            self.verified += 1
            self.size += size

    def wrong(self) -> bool:
        """Tell whether anything is."""
        return bool(self.missing or self.corrupt or self.outside)

    def report(self) -> dict[str, Any]:
        """Give the counts and the first of each list."""
        report = {
            "verified": self.verified,
            "bytes": self.size,
            "skipped": self.skipped,
            "missing": self.missing[:MAX_LISTED],
            "corrupt": [asdict(item) for item in self.corrupt[:MAX_LISTED]],
        }
        if self.wrong():
            report |= {"missing_total": len(self.missing), "corrupt_total": len(self.corrupt)}
        if self.outside:
            report |= {"outside": self.outside[:MAX_LISTED], "outside_total": len(self.outside)}
        return report


class _ManifestError(Exception):
    """Why a line cannot be read."""


def sha256sum_entries(lines: Iterator[str]) -> Iterator[Entry]:
    """Read what `sha256sum` writes. A leading backslash says that the name is escaped."""
    for line in lines:
        text = line.removesuffix("\n").removesuffix("\r")
        if not text.strip() or text.startswith("#"):
            continue
        match = _SHA256SUM.fullmatch(text)
        if match is None:
            reason = "it is not a SHA-256 sum of 64 hexadecimal digits, two spaces and a name"
            raise _ManifestError(reason)
        escaped, digest, name = match.groups()
        yield Entry(_unescaped(name) if escaped else name, digest=bytes.fromhex(digest))


def record_entries(lines: Iterator[str]) -> Iterator[Entry]:
    """Read a RECORD: path, `algorithm=digest` and size; the last two may be empty."""
    for row in csv.reader(lines, strict=True):
        if not row:
            continue
        if len(row) != len(("path", "hash", "size")):
            reason = f"it has {len(row)} fields, not path, hash and size"
            raise _ManifestError(reason)
        path, checksum_text, size = row
        if size and not (size.isascii() and size.isdecimal()):
            reason = f"its size `{size}` is no number"
            raise _ManifestError(reason)
        algorithm, digest = _record_hash(checksum_text)
        yield Entry(path, algorithm, digest, int(size) if size else None)


_SHA256SUM = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}
_READERS: Mapping[str, Callable[[Iterator[str]], Iterator[Entry]]] = {
    "sha256sum": sha256sum_entries,
    "record": record_entries,
}


def _entries(location: Path, kind: Format) -> Iterator[Entry]:
    if kind == "auto":
        kind = "record" if location.name == "RECORD" else "sha256sum"
    line = 0

    def counted(lines: Iterator[str]) -> Iterator[str]:
        nonlocal line
        for line, text in enumerate(lines, start=1):  # noqa: B007 - told with an error
            if "\0" in text:
                reason = "it has a NUL character, which no file name can have"
                raise _ManifestError(reason)
            yield text

    try:
        ending = "\n" if kind == "sha256sum" else ""
        with location.open(encoding="utf-8", errors="surrogateescape", newline=ending) as lines:
            yield from _READERS[kind](counted(lines))
    except (_ManifestError, csv.Error) as error:
        message = f"{location}, line {line}, cannot be read as a {kind} manifest: {error}."
        raise PermanentError(message, code="files.manifest", details={"line": line}) from None
    except FileNotFoundError:
        message = f"There is no manifest {location}."
        raise PermanentError(message, code="files.not_found") from None
    except OSError as error:
        message = f"The manifest {location} cannot be read: {_reason(error)}."
        raise PermanentError(message, code="files.unreadable") from error


def _unescaped(name: str) -> str:
    return re.sub(r"\\[\\nr]", lambda match: _ESCAPES[match[0]], name)


def _record_hash(text: str) -> tuple[str, bytes | None]:
    if not text:
        return "sha256", None
    algorithm, _, encoded = text.partition("=")
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        reason = f"its hash algorithm `{algorithm}` is unknown"
        raise _ManifestError(reason)
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        return algorithm, base64.b64decode(padded, altchars=b"-_", validate=True)
    except binascii.Error:
        reason = f"its digest `{encoded}` is not urlsafe base64"
        raise _ManifestError(reason) from None


def _digest(path: Path, algorithm: str) -> tuple[bytes, int]:
    """Digest a regular file. Opening anything else, a pipe for one, could wait for ever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is not a regular file")
    with path.open("rb", buffering=0) as content:
        digest = hashlib.file_digest(content, algorithm).digest()
        return digest, content.tell()


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
