"""Settings are read once, typed, and refused at start when they make no sense."""

import stat
from pathlib import Path

import pytest

from orchestrator import env as environment
from orchestrator.env import ROOT, Env, SettingsError


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Env.model_config, "env_file", None)
    for name in Env.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("WEB_PORT", "web", "a port from 1 to 65535"),
        ("WEB_PORT", "70000", "a port from 1 to 65535"),
        ("DEBUG", "maybe", "true or false"),
        ("TIME_ZONE", "Mars/Olympus", "such as Europe/Berlin"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("DATABASE_URL", "mysql://somewhere/else", "postgresql://user:password@host:5432/name"),
        ("BROKER_URL", "sqs://", "redis://host:6379/0 or amqp://"),
        ("RESULT_URL", "file:///tmp", "redis://host:6379/1"),
        ("WORKER_CONCURRENCY", "0", "1 to 512"),
        ("LONGEST_STEP_SECONDS", "-1", "seconds that any step may take"),
        ("RETENTION_DAYS", "-1", "0 keeps it for ever"),
        ("RETENTION_FAILED_DAYS", "a year", "0 keeps it for ever"),
    ],
)
def test_a_refusal_names_the_setting_the_value_and_what_was_expected(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as refused:
        environment.read()

    sentence = str(refused.value)
    assert sentence.startswith(f"Setting {name}='{value}' is refused: ")
    assert expected in sentence


def test_a_refused_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "short-and-secret")

    with pytest.raises(SettingsError) as refused:
        environment.read()

    assert "SECRET_KEY=(hidden)" in str(refused.value)
    assert "short-and-secret" not in str(refused.value)


def test_all_refusals_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "web")
    monkeypatch.setenv("DEBUG", "maybe")

    with pytest.raises(SettingsError) as refused:
        environment.read()

    assert len(str(refused.value).splitlines()) == 2


def test_an_unknown_name_in_the_env_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("WEB_PROT=8001\n")
    monkeypatch.setitem(Env.model_config, "env_file", tmp_path / ".env")

    with pytest.raises(SettingsError, match=r"Setting WEB_PROT in .env is unknown"):
        environment.read()


def test_the_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("WEB_PORT=8001\n")
    monkeypatch.setitem(Env.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("WEB_PORT", "8002")

    assert environment.read().web_port == 8002


def test_a_database_of_your_own_asks_for_a_secret_key_of_your_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@host/name")

    with pytest.raises(SettingsError, match="SECRET_KEY must be set when DATABASE_URL is"):
        environment.read()


def test_rabbitmq_asks_for_a_redis_that_counts_chords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "amqp://user@host//")

    with pytest.raises(SettingsError, match="RESULT_URL must be set when BROKER_URL is not"):
        environment.read()


def test_given_addresses_replace_the_embedded_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "redis://broker:6379/0")

    env = environment.read()

    assert env.embedded_parts == {"postgresql": True, "redis": False}
    assert env.broker == env.results == "redis://broker:6379/0"


def test_the_checkouts_own_key_is_made_once_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))

    key = environment.read().signing_key()

    assert len(key) >= 32
    assert environment.read().signing_key() == key
    assert stat.S_IMODE((tmp_path / "secret-key").stat().st_mode) == 0o600


def test_the_checkouts_own_vault_key_is_made_once_private_and_another_than_the_secret_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    env = environment.read()

    [key] = env.vault_keys()

    assert environment.read().vault_keys() == (key,)
    assert key != env.signing_key()
    assert stat.S_IMODE((tmp_path / "vault-key").stat().st_mode) == 0o600
    assert not env.advice()


def test_a_database_of_your_own_without_a_vault_key_is_told_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_DIR", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@host/name")
    monkeypatch.setenv("SECRET_KEY", "s" * 40)

    env = environment.read()

    assert env.vault_keys() == ()
    assert "Set VAULT_KEY to 32 random characters" in env.advice()
    assert list(tmp_path.iterdir()) == []


def test_vault_keys_are_given_the_newest_first_and_none_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAULT_KEY", f"{'n' * 32}, {'o' * 32}")
    given = environment.read()
    monkeypatch.setenv("VAULT_KEY", f"{'n' * 32},short-and-secret")

    with pytest.raises(SettingsError) as refused:
        environment.read()

    assert given.vault_keys() == ("n" * 32, "o" * 32)
    assert not given.advice()
    assert "VAULT_KEY=(hidden)" in str(refused.value)


def test_the_example_file_lists_every_setting_with_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines if line[2:].partition("=")[0].isupper()]
    (tmp_path / ".env").write_text("\n".join(settings))
    monkeypatch.setitem(Env.model_config, "env_file", tmp_path / ".env")

    listed = {line.partition("=")[0].lower() for line in settings}

    assert listed == set(Env.model_fields)
    assert environment.read() == Env(_env_file=None)
