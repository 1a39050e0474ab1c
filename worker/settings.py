"""Settings of the processing side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from runtime.errors import WrongValue
from stream.process_report import encode_report
from stream.settings import InvalidSettings, TracedSettings
from worker.handlers.forward import ALL, parse_secrets
from worker.handlers.spec import (
    FORWARD,
    KINDS,
    Attempts,
    BaseSeconds,
    BatchEntries,
    CapSeconds,
    Concurrency,
    Options,
    Spec,
    TimeoutSeconds,
    parse_lines,
    parse_specs,
)
from worker.retention.settings import RetentionSettings
from worker.settle.dedup import DedupWindow
from worker.settle.invalid import RecordLimits
from worker.settle.retry_policy import RetryPolicy
from worker.store.settings import DatabaseSettings


def _handlers(value: str) -> str:
    parse_specs(value)
    return value


def _forward_secrets(value: str) -> str:
    parse_secrets(value)
    return value


class WorkerSettings(DatabaseSettings, RetentionSettings, TracedSettings):
    """The settings of ``ackstream worker``."""

    secrets: ClassVar[frozenset[str]] = DatabaseSettings.secrets | {"forward_secrets"}

    admin_port: int = Field(0, ge=0, le=65535, description="a TCP port, 0 to 65535; 0 takes a free one")
    handlers: Annotated[str, AfterValidator(_handlers)] = Field(
        "store,log",
        description=f"{KINDS}, comma separated (a comma in a URL is %2C). NAME= before a handler names its group; "
        "#OPTION=VALUE&… after it sets its options, see docs/handlers.md",
    )
    handlers_file: Path | None = Field(
        None,
        description="a file with one handler per line, written as in ACKSTREAM_HANDLERS; a line that starts with # "
        "is a comment",
    )
    batch_entries: BatchEntries = Field(4000, description="entries of one read, 1 to 5000")
    handler_concurrency: Concurrency = Field(32, description="events that a function handles at once, 1 to 1000")
    handler_timeout_seconds: TimeoutSeconds = Field(60, description="seconds for one call of a handler, 0.1 to 3600")
    handler_batch: BatchEntries = Field(
        1000, description="events in one call of a function that takes lists, 1 to 5000"
    )
    forward_secrets: Annotated[str, AfterValidator(_forward_secrets)] = Field(
        "",
        description="whsec_BASE64 for all groups, or GROUP=whsec_BASE64 for one group, comma separated",
    )
    retry_base_seconds: BaseSeconds = Field(5, description="the longest first delay, 0 to 3600 seconds")
    retry_cap_seconds: CapSeconds = Field(900, description="the longest delay, 0 to 86400 seconds")
    retry_attempts: Attempts = Field(24, description="attempts until an event becomes a dead letter, 1 to 1000")
    dedup_seconds: float = Field(
        3600,
        ge=0,
        le=86_400,
        description="how long a group remembers a handled event and does not handle it again, 0 to 86400 seconds",
    )
    dedup_entries: int = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description="how many handled events a group remembers on each shard, 1 to 10000000",
    )
    dead_letters: int = Field(
        100_000, ge=1, description="number of dead letters at which a group is paused, at least 1"
    )
    invalid_entries: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="how many invalid payloads without a valid signature are kept, 1 to 1000000",
    )
    invalid_bytes: int = Field(
        32 * 1024**2, ge=1024**2, description="how many bytes of such invalid payloads are kept, at least 1048576"
    )
    backlog_bytes: int | None = Field(
        None,
        ge=1024**2,
        description="bytes of delayed retries and dead letters at which a group handles no live entries, at least "
        "1048576; by default a quarter of maxmemory of Redis",
    )
    log_reveal: bool = Field(
        False,
        description="true or false; with true the log handler writes phone numbers without masking them",
    )

    @classmethod
    def is_secret(cls, name: str, value: object) -> bool:
        """Whether a value must not be shown. A URL in ``handlers`` may contain a secret."""
        return super().is_secret(name, value) or (name == "handlers" and FORWARD in str(value))

    @property
    def specs(self) -> list[Spec]:
        """The handlers, each with its own consumer group. Raises InvalidSettings if the file of handlers is invalid."""
        if self.handlers_file is None or "handlers" in self._flags:
            return parse_specs(self.handlers)
        if "handlers" in self.model_fields_set:
            raise InvalidSettings("ACKSTREAM_HANDLERS and ACKSTREAM_HANDLERS_FILE are both set: unset one of them")
        file = f"ACKSTREAM_HANDLERS_FILE: {str(self.handlers_file)!r}"
        try:
            return parse_lines(self.handlers_file.read_text())
        except WrongValue as exc:
            raise InvalidSettings(f"{file}, {exc}") from None
        except (OSError, UnicodeDecodeError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
            raise InvalidSettings(f"{file} cannot be read ({why}): correct the path, or the file's rights") from None

    def report(self) -> bytes:
        """Return the settings in force and the targets of the groups as JSON, for ``/settings``."""
        return encode_report(self, {spec.group: spec.safe_target for spec in self.specs})

    @property
    def store_url(self) -> str | None:
        """The URL of the database that this worker writes to; None without ``store``."""
        return self.database_url if any(spec.target == "store" for spec in self.specs) else None

    def secrets_of(self, group: str) -> Sequence[str]:
        """Return the secrets that sign the requests of a group: its own, or else those for all groups."""
        secrets = parse_secrets(self.forward_secrets)
        return secrets.get(group) or secrets.get(ALL, ())

    @property
    def dedup_window(self) -> DedupWindow | None:
        """How long and how many handled events a group of a function or forward remembers; None if dedup is off."""
        return DedupWindow(self.dedup_seconds, self.dedup_entries) if self.dedup_seconds else None

    @property
    def record_limits(self) -> RecordLimits:
        """The limits of the record of invalid payloads."""
        return RecordLimits(self.invalid_entries, self.invalid_bytes)

    def retry_policy(self, options: Options) -> RetryPolicy:
        """Return the retry schedule of a handler with these options."""
        return RetryPolicy(
            self.retry_base_seconds if options.base is None else options.base,
            self.retry_cap_seconds if options.cap is None else options.cap,
            options.attempts or self.retry_attempts,
        )
