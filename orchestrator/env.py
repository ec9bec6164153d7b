"""Every setting that a deployment may change, read once, typed, refused at start if it is nonsense.

The sources are the environment and the file `.env` of the checkout; the environment wins. A refusal
names the setting, the value and what was expected. `.env.example` lists them all.
"""

import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from orchestrator.embedded import services_of

ROOT = Path(__file__).resolve().parent.parent


class SettingsError(SystemExit):
    """A setting is missing or makes no sense; the process ends with sentences that say which."""


def _with_scheme(*schemes: str) -> AfterValidator:
    def check(url: str) -> str:
        if urlsplit(url).scheme not in schemes:
            raise ValueError(f"the scheme is not one of {', '.join(schemes)}")
        return url

    return AfterValidator(check)


def _known_time_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("there is no such time zone")
    return name


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


def _nothing_when_empty(value: object) -> object:
    return None if value == "" else value


def _keys(value: object) -> object:
    """Read `name=key,...`; a name may come several times."""
    if not isinstance(value, str):
        return value
    # Loaded here: most processes have no need of it.
    from cryptography.fernet import Fernet

    found: dict[str, list[str]] = {}
    for word in value.split(","):
        name, has_key, key = word.strip().partition("=")
        if not name or not has_key:
            raise ValueError("one of the words is not name=key")
        try:
            Fernet(key)
        except ValueError:
            raise ValueError(f"the key of {name} is none of Fernet's") from None
        found.setdefault(name, []).append(key)
    return found


LongSecret = Annotated[SecretStr, Field(min_length=32)]
LongSecrets = Annotated[tuple[LongSecret, ...], NoDecode, BeforeValidator(_split)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[dict[str, tuple[SecretStr, ...]], NoDecode, BeforeValidator(_keys)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=512)]
Days = Annotated[int, Field(ge=0, le=36500)]
FIRST_PORT = 8000
"""Where the web server listens if nobody says and nobody else does."""

REDIS = ("redis", "rediss", "redis+socket", "sentinel")


class Env(BaseSettings):
    """The settings. A description says what is expected; a refusal repeats it."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", extra="forbid", frozen=True, env_ignore_empty=True
    )

    secret_key: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="at least 32 random characters; signs sessions and tokens. "
        "Without it the embedded mode makes one and keeps it in LOCAL_DIR",
    )
    vault_key: LongSecrets = Field(
        default=(),
        description="at least 32 random characters, of which a key for the secrets of each "
        "environment is made; where it was changed the newest first, with commas between. Without "
        "it the embedded mode makes one and keeps it in LOCAL_DIR",
    )
    environment_keys: Keys = Field(
        default={},
        description="such as default=<key>,other=<key>: under which secrets of an environment are "
        "kept, the newest first, each made by Fernet.generate_key(). Give a worker those of its "
        "own environment alone; an environment without any has one that is made of VAULT_KEY",
    )
    debug: bool = Field(default=False, description="true or false; never true in production")
    allowed_hosts: Words = Field(
        default=("localhost", "127.0.0.1", "[::1]"),
        description="host names that the web server answers to, with commas between",
    )
    csrf_trusted_origins: Words = Field(
        default=(),
        description="origins such as https://orchestrator.example.com, with commas between",
    )
    https: bool = Field(
        default=False, description="true when browsers reach the platform by HTTPS; else false"
    )
    time_zone: Annotated[str, AfterValidator(_known_time_zone)] = Field(
        default="UTC", description="the time zone of the pages, such as Europe/Berlin"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="console (for people) or json (one object a line)"
    )

    local_dir: Path = Field(
        default=Path(".local"),
        description="the directory of the embedded services, relative to the checkout",
    )
    database_url: Annotated[str, _with_scheme("postgresql", "postgres")] | None = Field(
        default=None,
        description="postgresql://user:password@host:5432/name; replaces the embedded PostgreSQL",
    )
    broker_url: Annotated[str, _with_scheme(*REDIS, "amqp", "amqps")] | None = Field(
        default=None,
        description="redis://host:6379/0 or amqp://user:password@host:5672//; "
        "replaces the embedded Redis",
    )
    result_url: Annotated[str, _with_scheme(*REDIS)] | None = Field(
        default=None,
        description="redis://host:6379/1, where chords are counted; "
        "BROKER_URL when that is a Redis",
    )

    web_host: str = Field(default="127.0.0.1", description="the address that the web server binds")
    web_port: Port | None = Field(
        default=None, description="a port from 1 to 65535; without it the first free one from 8000"
    )
    public_url: Annotated[str, _with_scheme("http", "https")] | None = Field(
        default=None,
        description="https://orchestrator.example.com, where others reach the platform: callback "
        "URLs begin with it; without it WEB_HOST and WEB_PORT",
    )
    web_workers: Count = Field(default=2, description="web processes, 1 to 512")
    web_threads: Count = Field(default=8, description="threads of each web process, 1 to 512")
    flower_url: Annotated[str, _with_scheme("http", "https")] | None = Field(
        default=None,
        description="http://user:password@host:5555, where the web server finds Flower; "
        "`make run` sets it",
    )
    flower_host: str = Field(default="127.0.0.1", description="the address that Flower binds")
    admin_username: str = Field(
        default="admin", description="the name of the account that the first start creates"
    )
    admin_password: SecretStr | None = Field(
        default=None,
        min_length=12,
        description="at least 12 characters; without it the first start makes one and prints it",
    )

    apps: Words = Field(
        default=(),
        description="importable names of Django applications of your own, with commas between",
    )
    examples: bool | None = Field(
        default=None,
        description="true or false: whether the example workflows are there; "
        "without it they are when the database is the embedded one",
    )

    worker_concurrency: Count = Field(
        default=2, description="processes of each environment's worker, 1 to 512"
    )
    engine_concurrency: Count = Field(
        default=1, description="processes of the engine's own worker, 1 to 512"
    )
    longest_step_seconds: Seconds = Field(
        default=6 * 3600,
        description="seconds that any step may take; then its process is ended",
    )
    timeout_grace_seconds: Seconds = Field(
        default=10,
        description="seconds that an interrupted step has to end before its process is ended",
    )
    worker_memory_mib: Annotated[int, Field(ge=256)] | None = Field(
        default=None,
        description="MiB, at least 256, that each process of a worker, and each command that a "
        "step starts, may take; without it only the machine bounds them",
    )
    lease_seconds: Annotated[float, Field(ge=3)] = Field(
        default=30,
        description="seconds, at least 3, that a worker may be silent about a running step "
        "before it counts as lost; a third of that is how often it speaks",
    )
    canary_seconds: Annotated[float, Field(ge=1, le=25)] = Field(
        default=20,
        description="seconds, 1 to 25, between two looks at whether each queue is consumed; "
        "one that is not is reported after four and a half times that, at the latest",
    )
    republish_seconds: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=30,
        description="seconds, 1 to 3600, after which a queued step that no worker has claimed "
        "is sent again",
    )
    soft_shutdown_seconds: Seconds = Field(
        default=10, description="seconds that a stopping worker gives its running steps"
    )

    profile_dir: Path | None = Field(
        default=None,
        description="a directory, absolute or relative to the checkout, for the working folders of "
        "profiles; without it LOCAL_DIR/profiles",
    )
    profile_folder_mib: Annotated[int, Field(ge=1)] = Field(
        default=1024,
        description="MiB, at least 1, that a profile's working folder may hold at the end of a "
        "step; one that holds more leaves the profile tainted",
    )

    retention_days: Days = Field(
        default=90,
        description="days that a run is kept after it was completed, compensated or cancelled, "
        "0 to 36500; 0 keeps it for ever",
    )
    retention_failed_days: Days = Field(
        default=365,
        description="days that a failed run without an open incident is kept after its end, "
        "0 to 36500; 0 keeps it for ever",
    )
    retention_archive: Path | None = Field(
        default=None,
        description="a directory where runs are written before they are removed, relative to "
        "the checkout; without it they are not",
    )

    audit_retention_days: Days = Field(
        default=365,
        description="days that lines are kept about moves of guards and profiles, changes in the "
        "admin and logins, 0 to 36500; 0 keeps them for ever",
    )
    event_retention_days: Days = Field(
        default=30,
        description="days that an event is kept after it was received, 0 to 36500; "
        "0 keeps it for ever",
    )
    early_event_seconds: Annotated[float, Field(ge=0, le=86400)] = Field(
        default=3600,
        description="seconds, 0 to 86400, that an event may come before the step that waits for "
        "it, unless the step says `since`",
    )

    @model_validator(mode="after")
    def _services_that_are_ours_need_no_secrets_of_yours(self) -> Self:
        if self.database_url is not None and self.secret_key is None:
            raise ValueError("SECRET_KEY must be set when DATABASE_URL is")
        if (self.broker_url or "").startswith("amqp") and self.result_url is None:
            raise ValueError("RESULT_URL must be set when BROKER_URL is not a Redis")
        return self

    @property
    def keys_of_environments(self) -> dict[str, tuple[str, ...]]:
        """The keys of each environment that was given any."""
        return {
            name: tuple(key.get_secret_value() for key in keys)
            for name, keys in self.environment_keys.items()
        }

    @property
    def home(self) -> Path:
        """The directory of the embedded services, absolute."""
        return ROOT / self.local_dir

    @property
    def folders_of_profiles(self) -> Path:
        """The directory below which profiles have their working folders, absolute."""
        return ROOT / self.profile_dir if self.profile_dir else self.home / "profiles"

    @property
    def embedded_parts(self) -> dict[str, bool]:
        """Say which services are embedded: those that no address replaces."""
        return {"postgresql": self.database_url is None, "redis": self.broker_url is None}

    @property
    def installed_examples(self) -> tuple[str, ...]:
        """The Django applications of the examples, where they are wanted and there at all."""
        wanted = self.database_url is None if self.examples is None else self.examples
        found = sorted((ROOT / "examples").glob("*/workflow.yaml")) if wanted else []
        return tuple(f"examples.{path.parent.name}" for path in found)

    @property
    def database(self) -> str:
        """The address of the database, given or embedded."""
        return self.database_url or services_of(self.home).database_url

    @property
    def broker(self) -> str:
        """The address of the broker, given or embedded."""
        return self.broker_url or services_of(self.home).broker_url

    @property
    def results(self) -> str:
        """The address where chords are counted."""
        return self.result_url or self.broker

    @property
    def address(self) -> str:
        """Where others reach the platform, without a slash at the end."""
        return (self.public_url or url_of(self.web_host, self.web_port or FIRST_PORT)).rstrip("/")

    @property
    def retention(self) -> dict[str, int]:
        """How many days a run is kept, by the state in which it ended; 0 is for ever."""
        others = dict.fromkeys(("COMPLETED", "COMPENSATED", "CANCELLED"), self.retention_days)
        return others | {"FAILED": self.retention_failed_days}

    def why_unreachable(self) -> str:
        """Say what to do about a database that does not answer."""
        if self.database_url is not None:
            return "The database at DATABASE_URL does not answer. Check the address and the server."
        return (
            f"The embedded PostgreSQL in {self.home} does not answer. "
            "Start it with `make run`, or alone with `python manage.py services start`."
        )

    def signing_key(self) -> str:
        """Return SECRET_KEY, or the checkout's own, made at the first call."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        return _kept_secret(self.home / "secret-key")

    def vault_keys(self) -> tuple[str, ...]:
        """Return VAULT_KEY, or the checkout's own, made at the first call.

        Empty with a database of one's own and without VAULT_KEY: other machines could not know
        a key that this one has made.
        """
        if self.vault_key:
            return tuple(key.get_secret_value() for key in self.vault_key)
        return () if self.database_url else (_kept_secret(self.home / "vault-key"),)

    def advice(self) -> str:
        """Say what should not stay as it is set, though it works; nothing if all is well."""
        if self.vault_keys() or self.environment_keys:
            return ""
        return (
            "Neither VAULT_KEY nor ENVIRONMENT_KEYS is set, so what is secret at rest is sealed"
            " under keys made of SECRET_KEY, which every process has. Set VAULT_KEY to 32 random"
            " characters or more, the same for every process, and run `manage.py reseal`."
        )


def url_of(host: str, port: int) -> str:
    """Return where this machine reaches the web server that listens at a host."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def read(**overrides: Any) -> Env:
    """Read and check all settings.

    Raises:
        SettingsError: with one sentence for each setting that is refused.

    """
    try:
        return Env(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> list[str]:
    return [_sentence(found["loc"], found["input"], found["msg"]) for found in error.errors()]


def _sentence(place: tuple[int | str, ...], value: object, reason: str) -> str:
    reason = reason.removeprefix("Value error, ")
    if not place:
        return f"Settings refused: {reason}."
    name = str(place[0])
    field = Env.model_fields.get(name.lower())
    if field is None:
        return f"Setting {name.upper()} in .env is unknown. `.env.example` lists every setting."
    shown = "(hidden)" if "SecretStr" in str(field.annotation) else repr(value)
    return f"Setting {name.upper()}={shown} is refused: {reason}. Expected: {field.description}."


def _kept_secret(path: Path) -> str:
    """Read the secret that the file keeps; the first of several processes makes it for all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
