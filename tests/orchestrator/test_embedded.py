"""The embedded services start whatever state the last ones were left in."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from orchestrator import embedded
from orchestrator.embedded import EmbeddedError
from orchestrator.embedded.places import places_of

BUSY = """
import psycopg, sys
connection = psycopg.connect(sys.argv[1])
print(flush=True)
connection.execute("DO $$ BEGIN LOOP END LOOP; END $$")
"""
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        yield from _removed_at_the_end(Path(parent, "home"))


def _removed_at_the_end(home: Path) -> Iterator[Path]:
    yield home
    embedded.remove(home)


def remember(services: embedded.Services, word: str) -> None:
    with psycopg.connect(services.database_url) as connection:
        connection.execute("CREATE TABLE memory (word text)")
        connection.execute("INSERT INTO memory VALUES (%s)", [word])


def remembered(services: embedded.Services) -> str:
    with psycopg.connect(services.database_url) as connection:
        [(word,)] = connection.execute("SELECT word FROM memory").fetchall()
    return str(word)


def answers(services: embedded.Services) -> bool:
    with redis.Redis.from_url(services.broker_url.replace("redis+socket:", "unix:")) as client:
        return bool(client.ping())


def kill(home: Path) -> None:
    for pid in embedded.status(home).values():
        psutil.Process(pid).kill()


def test_started_services_answer_at_the_addresses_derived_from_the_home(home: Path) -> None:
    services = embedded.start(home)

    assert services == embedded.services_of(home)
    remember(services, "kept")
    assert remembered(services) == "kept"
    assert answers(services)


def test_starting_again_adopts_what_runs(home: Path) -> None:
    embedded.start(home)
    first = embedded.status(home)

    embedded.start(home)

    assert embedded.status(home) == first
    assert None not in first.values()


def test_another_process_finds_the_services_running(home: Path) -> None:
    embedded.start(home)
    asking = (
        f"import pathlib, orchestrator.embedded as e; print(e.status(pathlib.Path({str(home)!r})))"
    )

    answer = subprocess.run(
        [sys.executable, "-c", asking], capture_output=True, text=True, check=True
    )

    assert answer.stdout.strip() == str(embedded.status(home))


def test_killed_services_start_again_with_what_was_committed(home: Path) -> None:
    services = embedded.start(home)
    remember(services, "committed")
    kill(home)

    embedded.start(home)

    assert remembered(services) == "committed"
    assert answers(services)


def test_a_backend_that_outlives_its_killed_server_does_not_block_the_next(home: Path) -> None:
    services = embedded.start(home)
    busy = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BUSY,
            services.database_url,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with busy:
        assert busy.stdout
        busy.stdout.readline()
        server = psutil.Process(embedded.status(home)["postgresql"])
        server.kill()

        embedded.start(home)

        assert answers(services)
        assert embedded.status(home)["postgresql"] != server.pid
        busy.kill()


def test_a_stale_process_number_that_now_belongs_to_a_stranger_does_not_block(home: Path) -> None:
    embedded.start(home)
    places = places_of(home)
    written = (places.postgres / "postmaster.pid").read_text()
    embedded.stop(home)
    stale = written.replace(written.splitlines()[0], str(os.getppid()), 1)
    (places.postgres / "postmaster.pid").write_text(stale)
    Path(f"{places.postgres_socket}.lock").write_text(stale)
    places.postgres_socket.touch()
    places.redis_socket.touch()

    services = embedded.start(home)

    remember(services, "started")
    assert answers(services)


def test_an_interrupted_first_start_is_begun_anew(home: Path) -> None:
    places = places_of(home)
    (places.base / "postgres.new" / "base").mkdir(parents=True)
    places.postgres.mkdir()

    services = embedded.start(home)

    remember(services, "started")
    assert not (places.base / "postgres.new").exists()


def test_stopping_leaves_no_process_and_can_be_repeated(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)

    embedded.stop(home)

    assert embedded.status(home) == {"postgresql": None, "redis": None}


def test_two_homes_side_by_side_do_not_meet(home: Path) -> None:
    other = home.with_name("other")
    services = embedded.start(home)
    others = embedded.start(other)
    remember(services, "mine")
    remember(others, "theirs")

    embedded.remove(other)

    assert remembered(services) == "mine"


@pytest.mark.parametrize("name", ['it\'s a "home" of $HOME at 100%', "h" * 120])
def test_a_home_may_have_any_name(home: Path, name: str) -> None:
    odd = home.with_name(name)
    try:
        services = embedded.start(odd)

        remember(services, "found")
        assert answers(services)
    finally:
        embedded.remove(odd)


def test_a_home_that_others_cannot_reach_stays_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    home = tmp_path / "home"
    try:
        services = embedded.start(home)

        remember(services, "found")
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        embedded.remove(home)
    assert not places_of(home).base.exists()


def test_the_sockets_are_closed_to_other_users(home: Path) -> None:
    embedded.start(home)

    assert places_of(home).sockets.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_is_refused_with_advice(home: Path) -> None:
    home.touch()

    with pytest.raises(EmbeddedError, match=rf"{home} cannot be made.*LOCAL_DIR"):
        embedded.start(home)

    home.unlink()


def test_data_of_another_major_version_is_refused_with_advice(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)
    (places_of(home).postgres / "PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedError, match=r"written by PostgreSQL 9; installed is 18.*pg_dump"):
        embedded.start(home)


def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)
    shutil.rmtree(places_of(home).postgres / "global")

    with pytest.raises(EmbeddedError, match=r"(?s)postgres did not start.*global/pg_"):
        embedded.start(home)


def test_only_the_wanted_services_are_started(home: Path) -> None:
    embedded.start(home, postgresql=False)

    assert embedded.status(home)["postgresql"] is None
    assert embedded.status(home)["redis"] is not None


@pytest.mark.skipif(not AS_ROOT, reason="only root lends the server to another user")
def test_root_lends_the_server_to_another_user(home: Path) -> None:
    embedded.start(home)

    assert psutil.Process(embedded.status(home)["postgresql"]).uids().real != 0
