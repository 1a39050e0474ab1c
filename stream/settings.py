"""Settings of every process: sources, validation, error messages.

Sources from strongest to weakest: a command's flag, the addresses that a running ``ackstream up`` wrote into the data
folder (Redis and database), ``ACKSTREAM_<NAME>``, ``ACKSTREAM_<NAME>_FILE`` (a file that holds the value, for secrets),
the same two from a ``.env`` file in the working folder, the default. An empty variable counts as not set. The
description of a field states the valid values; an error quotes it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from runtime import run_file as addresses
from runtime.errors import CommandError, WrongValue
from runtime.tracing.process import Exporter
from stream.keys import DEFAULT_STREAM, MOST_SHARDS, Shard
from stream.redis.url import Target

PREFIX = "ACKSTREAM_"


class InvalidSettings(CommandError):  # noqa: N818 - named for what is wrong
    """Some settings are invalid. The text has a line for each with its name, its value and the valid values."""


def _redis_url(value: str) -> str:
    Target.from_url(value)
    return value


def _stream_name(value: str) -> str:
    if not value or set(value) & set("{}") or not value.isprintable() or " " in value:
        raise ValueError
    return value


class StreamSettings(BaseSettings):
    """Settings of every command. Others load more; ``groups list`` works even if a setting of a worker is invalid."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        defer_build=True,  # a process uses one of these classes, and builds no validators for its base classes
    )
    secrets: ClassVar[frozenset[str]] = frozenset({"redis_url"})
    protections: ClassVar[frozenset[str]] = frozenset()
    """Secrets without which something is stored unprotected: an empty file is an error."""

    data: Path = Field(
        Path("ackstream-data"),
        description="the data folder of all processes on this machine",
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "redis://127.0.0.1:6379",
        description="redis://[user:password@]host:port/db, rediss:// for TLS, unix://path, "
        "redis+sentinel://[user:password@]host:port,host:port/service/db, or "
        "redis+cluster://[user:password@]host:port,host:port",
    )
    stream: Annotated[str, AfterValidator(_stream_name)] = Field(
        DEFAULT_STREAM,
        description="a key name without blanks and braces; the streams are <name>:{0}, …",
    )
    shards: int = Field(
        1,
        ge=1,
        le=MOST_SHARDS,
        description=f"how many shards the stream has at its first start, 1 to {MOST_SHARDS}; "
        "`ackstream shards set` changes the number",
    )
    log_format: Literal["text", "json"] = Field("text", description="text or json")

    @property
    def shard(self) -> Shard:
        """Shard 0, which every stream has, with what belongs to all shards: the layout, and each group's pause."""
        return Shard(self.stream)

    _flags: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read the settings; a flag of None is ignored. Raises InvalidSettings, which lists every invalid setting."""
        set_flags = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**set_flags)
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidSettings(f"the file .env cannot be read ({_reason(exc)}): save it as UTF-8 text") from None
        except ValidationError as exc:
            # pydantic adds this type for a default that depends on an invalid field
            faults = (error for error in exc.errors() if error["type"] != "default_factory_not_called")
            raise InvalidSettings("\n".join(map(cls._fault, faults))) from None  # the cause would quote secrets
        settings._flags = set_flags
        return settings

    @staticmethod
    def read_variable(name: str) -> str:
        """Return the environment variable of this setting; empty if it is not set."""
        variable = f"{PREFIX}{name}".upper()
        return next((value for key, value in os.environ.items() if key.upper() == variable), "")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by ACKSTREAM_<NAME>_FILE
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in the order of the module's docstring."""
        return (
            init_settings,
            _RunFile(settings_cls, init_settings, env_settings, dotenv_settings),
            env_settings,
            _SecretFiles(settings_cls, env_settings),
            dotenv_settings,
            _SecretFiles(settings_cls, dotenv_settings),
        )

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the names of the valid variables, in lower case and without the prefix."""
        return frozenset(cls.model_fields) | {f"{name}_file" for name in cls.secrets}

    def origins(self) -> dict[str, list[str]]:
        """Return the settings of each source, strongest first. Settings that are not listed have their default."""
        variables = find_variables()
        running = addresses.find_running(self.data) is not None
        origins: dict[str, list[str]] = {"flags": [], "ackstream up": [], "environment": [], ".env": []}
        for name in type(self).model_fields:
            variable_source = variables.get(name) or variables.get(f"{name}_file")
            if name in self._flags:
                origins["flags"].append(name)
            elif running and name in _RunFile.FIELDS:
                origins["ackstream up"].append(name)
            elif variable_source:
                origins[variable_source].append(name)
        return {source: names for source, names in origins.items() if names}

    @classmethod
    def is_secret(cls, name: str, value: object) -> bool:  # noqa: ARG003 - subclasses use the value
        """Whether the value of this setting must not be shown."""
        return name in cls.secrets

    @classmethod
    def _fault(cls, error: Any) -> str:
        name = str(error["loc"][0]) if error["loc"] else ""
        field = cls.model_fields.get(name)
        expected = field.description if field else error["msg"]
        value = "its value" if cls.is_secret(name, error["input"]) else repr(error["input"])
        cause = error.get("ctx", {}).get("error")
        why = f" ({cause})" if isinstance(cause, WrongValue) else ""
        return f"{PREFIX}{name.upper()}: {value} is not valid{why}; expected {expected}"


class ProcessSettings(StreamSettings):
    """Settings that ingest and worker share."""

    admin_host: str = Field("127.0.0.1", description="the address that /live, /ready and /metrics listen on")
    grace_seconds: float = Field(
        20,
        ge=0,
        le=600,
        description="seconds to finish in-flight work at a stop, 0 to 600",
    )


class TracedSettings(ProcessSettings):
    """Settings of the processes that a webhook passes through."""

    processes: int = Field(
        1,
        ge=1,
        le=64,
        description="how many processes the command runs, 1 to 64: about one for each core; they share port and admin "
        "port, see docs/processes.md",
    )
    order: Literal["none", "message"] = Field(
        "none",
        description="none, or message: a handler gets the events of a message one at a time and in order; the same for "
        "ingest and workers, see docs/order.md",
    )
    tracing: Exporter = Field("off", description="off, or otlp to send traces with OpenTelemetry, see docs/tracing.md")


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    return exc.strerror or type(exc).__name__ if isinstance(exc, OSError) else f"byte {exc.start} is not UTF-8"


def child_environment(**settings: str) -> dict[str, str]:
    """Return a copy of this process's environment with these settings added, for a child process."""
    return {**os.environ, **{f"{PREFIX}{name.upper()}": value for name, value in settings.items()}}


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads ``ACKSTREAM_<NAME>_FILE`` of the secret fields."""

    def __init__(self, settings_cls: type[BaseSettings], variables: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._variables: Mapping[str, str | None] = getattr(variables, "env_vars", {})

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = self._variables.get(f"{PREFIX}{field_name}_file".lower())
        if not path:
            return None, field_name, False
        try:
            text = Path(path).read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidSettings(f"{PREFIX}{field_name.upper()}_FILE: {path!r} cannot be read: {exc}") from None
        is_empty = all(not line.strip() or line.lstrip().startswith("#") for line in text.split("\n"))
        if is_empty and field_name in getattr(self.settings_cls, "protections", ()):
            raise InvalidSettings(f"{PREFIX}{field_name.upper()}_FILE: {path!r} is empty: write the secret to it")
        return None if is_empty else text, field_name, False  # other empty files count as not set

    def __call__(self) -> dict[str, Any]:
        secrets: frozenset[str] = getattr(self.settings_cls, "secrets", frozenset())
        values = {name: self.get_field_value(self.settings_cls.model_fields[name], name)[0] for name in secrets}
        return {name: value for name, value in values.items() if value is not None}


class _RunFile(PydanticBaseSettingsSource):
    """Reads the addresses of an ``ackstream up`` that runs on the data folder."""

    FIELDS = ("redis_url", "database_url")

    def __init__(self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._sources = sources  # these may set the data folder

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # `__call__` returns all values at once

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        folders = (source().get("data") for source in self._sources)
        running = addresses.find_running(Path(next(filter(None, folders), fields["data"].default)))
        return {name: getattr(running, name) for name in self.FIELDS if name in fields} if running else {}


def find_variables() -> dict[str, str]:
    """Return the source of each variable that is set, ``environment`` or ``.env``, by its lower-case name."""
    from_file = DotEnvSettingsSource(StreamSettings).env_vars
    sources = {name.lower(): ".env" for name, value in from_file.items() if value}
    sources |= {name.lower(): "environment" for name, value in os.environ.items() if value}
    prefix = PREFIX.lower()
    return {name.removeprefix(prefix): source for name, source in sources.items() if name.startswith(prefix)}


def read_file_variables() -> list[str]:
    """Return the paths that the ``ACKSTREAM_<NAME>_FILE`` variables name."""
    variables = {name.lower(): value for name, value in DotEnvSettingsSource(StreamSettings).env_vars.items()}
    variables |= {name.lower(): value for name, value in os.environ.items()}
    prefix = PREFIX.lower()
    return [value for name, value in variables.items() if value and name.startswith(prefix) and name.endswith("_file")]
