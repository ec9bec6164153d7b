"""Where the embedded services of one checkout keep their files, derived from its home directory.

Nothing is remembered: every process computes the same paths, so a second terminal finds the running
services without a state file that could be stale. Three facts bend the paths. A socket's path is
limited to about a hundred bytes. PostgreSQL refuses to run as root, so root lends it another user.
And that user may be unable to reach a checkout below, say, /root; then the data moves to /var/lib
rather than the checkout's directories being opened to everybody.
"""

import hashlib
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.embedded.errors import EmbeddedError

LONGEST_SOCKET_PATH = 100
POSTGRES_SOCKET = ".s.PGSQL.5432"
RELOCATED = Path("/var/lib/automation-orchestrator")


@dataclass(frozen=True, slots=True)
class Places:
    """One checkout's directories. `base` is `home` unless PostgreSQL's user cannot reach that."""

    home: Path
    base: Path
    sockets: Path

    @property
    def postgres(self) -> Path:
        """The data directory of PostgreSQL."""
        return self.base / "postgres"

    @property
    def redis(self) -> Path:
        """The working directory of Redis."""
        return self.home / "redis"

    @property
    def redis_socket(self) -> Path:
        """The socket that Redis listens on."""
        return self.sockets / "redis.sock"

    @property
    def postgres_socket(self) -> Path:
        """The socket that PostgreSQL listens on."""
        return self.sockets / POSTGRES_SOCKET


def places_of(home: Path) -> Places:
    """Derive the places that belong to the home directory."""
    home = home.resolve()
    mark = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    base = home if os.geteuid() != 0 or open_to_others(home) else RELOCATED / mark
    sockets = base / "run"
    if len(os.fsencode(sockets / POSTGRES_SOCKET)) > LONGEST_SOCKET_PATH:
        sockets = Path(tempfile.gettempdir()) / f"orchestrator-{os.geteuid()}-{mark}"
    return Places(home=home, base=base, sockets=sockets)


def open_to_others(path: Path) -> bool:
    """Say whether any user may pass through every directory above the path."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents if parent.exists())


def make_directory(path: Path, *, mode: int, owner: pwd.struct_passwd | None = None) -> None:
    """Make the directory, or take the existing one if it is a directory of ours.

    Raises:
        EmbeddedError: if it cannot be made, or belongs to somebody else.

    """
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise EmbeddedError(
            f"The directory {path} cannot be made: {error.strerror}. "
            f"Make it writable, or set LOCAL_DIR to a directory that is."
        ) from error
    wanted = owner.pw_uid if owner else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {wanted, os.geteuid()}:
        raise EmbeddedError(
            f"The directory {path} belongs to {_name_of(found.st_uid)}, not to {_name_of(wanted)}. "
            f"Run as {_name_of(found.st_uid)}, or remove it (`make clean`)."
        )
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
    if owner and found.st_uid != owner.pw_uid:
        os.chown(path, owner.pw_uid, owner.pw_gid)


def _name_of(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
